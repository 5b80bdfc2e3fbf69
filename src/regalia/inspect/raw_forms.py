"""Evidence as bytes: what the hardware or its driver hands out, told by its content.

Each recognizer answers None for what is not its own. None of them verifies anything; one that is
sure of the form leaves it to the verifier to say what is wrong with the rest.
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.inspect.codes import InspectCode
from regalia.inspect.recognized import Fragment, Part, Recognized
from regalia.tees.azure.evidence.hcl import HCL_SIGNATURE
from regalia.tees.boot.evidence.log import looks_like_event_log
from regalia.tees.intel.evidence.td_report import TD_REPORT_SIZE
from regalia.tees.intel.evidence.wire import TEE_TYPE_SGX, TEE_TYPE_TDX
from regalia.tees.nitro.evidence.wire import MESSAGE_MAX
from regalia.tees.nvidia.evidence.spdm import parse_report
from regalia.tees.snp.evidence.certificate_table import parse_certificate_table
from regalia.tees.snp.evidence.wire import REPORT_SIZE
from regalia.tees.tpm.evidence.go_tpm_tools import parse_go_attestation
from regalia.tees.tpm.evidence.wire import TPM_GENERATED_VALUE
from regalia.wire.cbor import decode_cbor
from regalia.wire.evidence import DeviceEvidence, DeviceKind, Evidence, Tee

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.tees.tpm.evidence.go_tpm_tools import GoAttestation

    RawForm = Callable[[bytes, str], Recognized | None]

_QUOTE_HEADER = struct.Struct("<HHI")  # version, type of the attestation key, type of the TEE
_QUOTE_HEADER_SIZE = 48  # bytes, with what follows these
_QUOTE_VERSIONS = range(3, 16)  # the verifier refuses those that are not known
_KEY_TYPES = (2, 3)  # ECDSA P-256 and P-384
_TEE_TYPES = MappingProxyType({TEE_TYPE_SGX: Tee.SGX, TEE_TYPE_TDX: Tee.TDX})
_GET_QUOTE = struct.Struct("<QQII")  # version, status, sizes of what went in and of what came out
# COSE_Sign1 with the protected header {1: -35}, bare or with its tag.
_SIGN1_STARTS = (bytes.fromhex("8444a1013822"), bytes.fromhex("d28444a1013822"))
# Keys of its payload, as CBOR writes them: a message of this form may hold anybody's document.
_NITRO_KEYS = (b"\x69module_id", b"\x66digest", b"\x64pcrs")
_NSM_ATTESTATION, _NSM_ERROR = b"\xa1\x6bAttestation", b"\xa1\x65Error"
_NSM_MAX = MESSAGE_MAX + 64  # bytes
# GET_MEASUREMENTS of SPDM 1.0 to 1.15; the parser refuses versions that are not known.
_SPDM_STARTS = tuple(bytes((version, 0xE0)) for version in range(0x10, 0x20))
_SPDM_RESPONSES = tuple(bytes((version, 0x60)) for version in range(0x10, 0x20))
_JWS_START = b"eyJ"  # of a compact signature or token: '{"' in base64url
_GO_TPM_START = 0x0A  # field 1, ak_pub
_TPM_MAGIC = TPM_GENERATED_VALUE.to_bytes(4, "big")
_TD_REPORT_START = bytes((TEE_TYPE_TDX, 0))  # REPORTTYPE and its subtype

_SNP_RESPONSE = struct.Struct("<II24s")  # MSG_REPORT_RSP: status, size of the report, reserved
_SNP_START = struct.Struct("<IIQ16x16xII")  # VERSION to SIGNATURE_ALGO
_SNP_POLICY_ONE = 1 << 17  # the bit of POLICY that must be one
_SNP_VERSION_MAX, _VMPL_MAX, _ECDSA_P384 = 64, 3, 1


def snp(data: bytes, suffix: str) -> Recognized | None:
    """An SEV-SNP report, alone or as a driver hands it out.

    It has no magic number, so it is told by its size, or by fields that hardly vary.

    Args:
        data: raw, untrusted.
        suffix: of the form's name, for people.

    Raises:
        ParseError: EVIDENCE_INCOMPLETE, the firmware made no report.
    """
    if len(data) == REPORT_SIZE and not is_token(data):
        return _snp_report(data, (), suffix)
    if len(data) >= _SNP_RESPONSE.size:
        status, size, reserved = _SNP_RESPONSE.unpack_from(data)
        if size == REPORT_SIZE and not any(reserved) and len(data) >= 32 + REPORT_SIZE:
            return _snp_response(data[_SNP_RESPONSE.size :], status, suffix)
    if not _starts_like_snp(data):
        return None
    return _snp_with_table(data, "", suffix)


def _snp_response(data: bytes, status: int, suffix: str) -> Recognized:
    if status:
        raise ParseError(
            InspectCode.EVIDENCE_INCOMPLETE,
            f"an MSG_REPORT_RSP of status {status:#x}: the firmware made no report",
        )
    return _snp_with_table(data, " in an MSG_REPORT_RSP", suffix)


def _snp_with_table(data: bytes, around: str, suffix: str) -> Recognized:
    """A report with a certificate table or zeros behind it; the verifier refuses anything else."""
    report, behind = data[:REPORT_SIZE], data[REPORT_SIZE:]
    if not any(behind):
        return _snp_report(report if behind else data, (), f"{around}{suffix}")
    try:
        certificates = parse_certificate_table(behind)
    except ParseError:
        certificates = ()
    if not certificates:
        return _snp_report(data, (), f"{around}{suffix}")
    return _snp_report(report, certificates, f"{around} with a certificate table{suffix}")


def _snp_report(report: bytes, certificates: tuple[bytes, ...], suffix: str) -> Recognized:
    evidence = Evidence(Tee.SEV_SNP, report, certificates, b"")
    return Recognized(form=f"SEV-SNP report{suffix}", evidence=evidence)


def _starts_like_snp(data: bytes) -> bool:
    if len(data) < REPORT_SIZE // 2:
        return False
    version, _, policy, vmpl, algorithm = _SNP_START.unpack_from(data)
    return (
        0 < version <= _SNP_VERSION_MAX
        and bool(policy & _SNP_POLICY_ONE)
        and vmpl <= _VMPL_MAX
        and algorithm == _ECDSA_P384
    )


def intel(data: bytes, suffix: str) -> Recognized | None:
    """A quote by the first eight bytes of its header. The verifier parses the rest.

    Args:
        data: raw, untrusted.
        suffix: of the form's name, for people.
    """
    if len(data) >= _GET_QUOTE.size + _QUOTE_HEADER_SIZE:
        version, status, _, size = _GET_QUOTE.unpack_from(data)
        inner = data[_GET_QUOTE.size :][:size]
        if (version, status) == (1, 0) and intel(inner, "") is not None:
            return intel(inner, f" in the buffer of GetQuote{suffix}")
    if len(data) < _QUOTE_HEADER_SIZE:
        return None
    version, key_type, tee_type = _QUOTE_HEADER.unpack_from(data)
    tee = _TEE_TYPES.get(tee_type)
    if version not in _QUOTE_VERSIONS or key_type not in _KEY_TYPES or tee is None:
        return None
    name = f"{tee.upper()} quote, version {version}"
    return Recognized(form=f"{name}{suffix}", evidence=Evidence(tee, data, (), b""))


def nitro(data: bytes, suffix: str) -> Recognized | None:
    """A document by its keys, or the NSM's response around one.

    The verifier says what is wrong with a damaged one.

    Args:
        data: raw, untrusted.
        suffix: of the form's name, for people.

    Raises:
        ParseError: EVIDENCE_INCOMPLETE, the NSM answered with an error; MALFORMED.
    """
    if data.startswith(_NSM_ATTESTATION):
        response = decode_cbor(data, limit=_NSM_MAX, what="NSM response")
        inner = response.get("Attestation") if isinstance(response, dict) else None
        document = inner.get("document") if isinstance(inner, dict) else None
        if isinstance(document, bytes):
            return nitro(document, f" in a response of the NSM{suffix}")
        return None
    if data.startswith(_NSM_ERROR):
        response = decode_cbor(data, limit=_NSM_MAX, what="NSM response")
        said = ascii(response.get("Error") if isinstance(response, dict) else response)[:80]
        raise ParseError(InspectCode.EVIDENCE_INCOMPLETE, f"the NSM answered with the error {said}")
    if not data.startswith(_SIGN1_STARTS) or not all(key in data for key in _NITRO_KEYS):
        return None
    return Recognized(
        form=f"AWS Nitro attestation document{suffix}", evidence=Evidence(Tee.NITRO, data, (), b"")
    )


def nvidia(data: bytes, suffix: str) -> Recognized | None:
    """The report of a GPU or a switch; only its certificates tell which.

    Args:
        data: raw, untrusted.
        suffix: of the form's name, for people.

    Raises:
        ParseError: EVIDENCE_INCOMPLETE, the request is missing; as the parser of reports.
    """
    if data.startswith(_SPDM_RESPONSES) and _reads(data):
        raise ParseError(
            InspectCode.EVIDENCE_INCOMPLETE,
            "an SPDM MEASUREMENTS response without the request before it, which is signed too",
        )
    if not data.startswith(_SPDM_STARTS):
        return None
    parse_report(data)
    device = DeviceEvidence(DeviceKind.NVIDIA_GPU, data, ())
    return Recognized(form=f"NVIDIA SPDM report{suffix}", evidence=None, devices=(device,))


def _reads(response: bytes) -> bool:
    """Whether a request before it would make it a report: two bytes alone are no magic number."""
    request = bytes((response[0], 0xE0, 1, 0xFF)) + bytes(32) + response[3:4]
    try:
        parse_report(request + response)
    except ParseError:
        return False
    return True


def go_tpm_tools(data: bytes, suffix: str) -> Recognized | None:
    """A message by parsing it: protocol buffers have no magic number.

    Args:
        data: raw, untrusted.
        suffix: of the form's name, for people.
    """
    if not data or data[0] != _GO_TPM_START:
        return None
    found = _go_attestation(data) or _go_attestation(data.removesuffix(b"\n").removesuffix(b"\r"))
    if found is None:
        return None
    certificates = (found.ak_cert, *found.intermediate_certs) if found.ak_cert else ()
    evidence = Evidence(
        Tee.TPM, found.quotes[-1].encode(), certificates, b"", event_log=found.event_log
    )
    return Recognized(form=f"go-tpm-tools attestation{suffix}", evidence=evidence)


def _go_attestation(data: bytes) -> GoAttestation | None:
    """Tried without a last newline too, which an editor or a shell may have put there."""
    try:
        return parse_go_attestation(data)
    except ParseError:
        return None


def fragment(data: bytes, suffix: str) -> Recognized | None:
    """A part of evidence that came alone.

    Args:
        data: raw, untrusted.
        suffix: of the form's name, for people.
    """
    found: tuple[Part, str] | None = None
    if data.startswith(HCL_SIGNATURE):
        found = Part.HCL_REPORT, "Azure HCL report"
    elif data.startswith(_TPM_MAGIC):
        found = Part.TPM_ATTEST, "TPMS_ATTEST of a TPM"
    elif len(data) == TD_REPORT_SIZE and data.startswith(_TD_REPORT_START):
        found = Part.TD_REPORT, "TDREPORT of the Intel TDX module"
    elif looks_like_event_log(data):
        found = Part.EVENT_LOG, "TCG event log"
    if found is None:
        return None
    part, name = found
    return Recognized(form=f"{name}{suffix}", evidence=None, fragment=Fragment(part, data))


# The first that fits is taken: the older layout of event logs has no magic number, so it is last.
RAW_FORMS: tuple[RawForm, ...] = (intel, nitro, nvidia, snp, go_tpm_tools, fragment)


def is_token(text: bytes) -> bool:
    """Whether a text has the form of a compact signature or token (RFC 7515)."""
    return text.startswith(_JWS_START) and text.count(b".") >= len(("header", "payload"))


def malformed(what: str) -> ParseError:
    """A refusal of a known form whose content is not right."""
    return ParseError(CoreCode.MALFORMED, f"evidence: {what}")
