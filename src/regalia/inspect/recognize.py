"""Recognizes evidence by its content, since file names and endings prove nothing.

Raw bytes, or the same as hex or base64 text, or a document that wraps them. Nothing is verified
here, and nothing is guessed: content that fits no form is refused.
"""

from __future__ import annotations

import base64
import binascii
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.core.codec import MIB
from regalia.core.errors import Code, CoreCode, ParseError
from regalia.inspect.recognize_json import recognize_json
from regalia.inspect.recognized import Recognized
from regalia.tees.intel.evidence.wire import (
    INTEL_QE_VENDOR_ID,
    TEE_TYPE_SGX,
    TEE_TYPE_TDX,
    VERSIONS,
)
from regalia.tees.nvidia.evidence.spdm import parse_report
from regalia.tees.snp.evidence.wire import REPORT_SIZE
from regalia.tees.tpm.evidence.go_tpm_tools import parse_go_attestation
from regalia.wire.evidence import DeviceEvidence, DeviceKind, Evidence, Tee, parse_evidence
from regalia.wire.serving import parse_serving_evidence

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 8 * MIB
_ENVELOPE_START = b'{"devices":'  # canonical evidence begins so
_SERVING_START = b'{"evidence":'  # canonical serving evidence begins so
_JSON_START = (b"{", b"[")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_")

_QUOTE_HEADER_SIZE = 48  # bytes
_TEE_TYPE_AT = slice(4, 8)
_QE_VENDOR_AT = slice(12, 28)
_TEE_TYPES = MappingProxyType({TEE_TYPE_SGX: Tee.SGX, TEE_TYPE_TDX: Tee.TDX})
# COSE_Sign1 with the protected header {1: -35}, bare or with its tag.
_SIGN1_STARTS = (bytes.fromhex("8444a1013822"), bytes.fromhex("d28444a1013822"))
# Keys of its payload, as CBOR writes them: a message of this form may hold anybody's document.
_NITRO_KEYS = (b"\x69module_id", b"\x66digest", b"\x64pcrs")
_SPDM_STARTS = (bytes.fromhex("11e0"), bytes.fromhex("12e0"))  # GET_MEASUREMENTS, SPDM 1.1 or 1.2
_GO_TPM_START = 0x0A  # field 1, ak_pub
_JWS_START = b"eyJ"  # of a compact signature or token: '{"' in base64url


class InspectCode(Code):
    """Files that are well-formed and no evidence."""

    TOKEN_NO_EVIDENCE = (
        "A token says what somebody else concluded, and not what the hardware signed.",
        "Verify the token with its issuer's key; give here the evidence that it was made from.",
    )


def recognize(data: bytes) -> Recognized:
    """Tell what ``data`` is.

    Raises:
        ParseError: TOO_LARGE; TOKEN_NO_EVIDENCE; MALFORMED, it is no evidence that is known here,
            or it begins like one and is none.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(data)} bytes, at most {LIMIT}")
    if data.startswith(_ENVELOPE_START):
        return Recognized(form="Regalia evidence", evidence=parse_evidence(data))
    if data.startswith(_SERVING_START):
        serving = parse_serving_evidence(data)
        return Recognized(
            form="a runtime's answer to a challenge", evidence=serving.evidence, serving=serving
        )
    if data.lstrip()[:1] in _JSON_START:
        return recognize_json(data)
    for suffix, decode in (("", bytes), (", as hex", _hex), (", as base64", _base64)):
        raw = decode(data)
        found = None if raw is None else _raw(raw, suffix)
        if found is not None:
            return found
    if _is_token(data):  # asked last: evidence of a TEE may be signed in this form
        raise ParseError(
            InspectCode.TOKEN_NO_EVIDENCE,
            "a token (JWT) that is no evidence known here: somebody else's result, it seems",
        )
    raise _unknown(
        f"{len(data)} bytes that are no evidence known here; they begin with "
        f"{data[:8].hex() or 'nothing'}"
    )


def _is_token(data: bytes) -> bool:
    return data.startswith(_JWS_START) and data.count(b".") >= len(("header", "payload"))


def _raw(data: bytes, suffix: str) -> Recognized | None:
    """Try each form; the first that fits is taken."""
    for recognizer in _RAW:
        found = recognizer(data, suffix)
        if found is not None:
            return found
    return None


def _snp(data: bytes, suffix: str) -> Recognized | None:
    """Recognize a report by its size, since it has no magic number. A token may be as long."""
    if len(data) != REPORT_SIZE or _is_token(data):
        return None
    return Recognized(form=f"SEV-SNP report{suffix}", evidence=Evidence(Tee.SEV_SNP, data, (), b""))


def _intel(data: bytes, suffix: str) -> Recognized | None:
    """Recognize a quote by version, kind of TEE and vendor. The verifier parses the rest."""
    if (
        len(data) < _QUOTE_HEADER_SIZE
        or int.from_bytes(data[:2], "little") not in VERSIONS
        or data[_QE_VENDOR_AT] != INTEL_QE_VENDOR_ID
    ):
        return None
    tee = _TEE_TYPES.get(int.from_bytes(data[_TEE_TYPE_AT], "little"))
    if tee is None:
        return None
    name = f"{tee.upper()} quote, version {int.from_bytes(data[:2], 'little')}"
    return Recognized(form=f"{name}{suffix}", evidence=Evidence(tee, data, (), b""))


def _nitro(data: bytes, suffix: str) -> Recognized | None:
    """Recognize a document by its keys. The verifier says what is wrong with a damaged one."""
    if not data.startswith(_SIGN1_STARTS) or not all(key in data for key in _NITRO_KEYS):
        return None
    return Recognized(
        form=f"AWS Nitro attestation document{suffix}", evidence=Evidence(Tee.NITRO, data, (), b"")
    )


def _nvidia(data: bytes, suffix: str) -> Recognized | None:
    """Recognize the report of a GPU or a switch; only its certificates tell which."""
    if not data.startswith(_SPDM_STARTS):
        return None
    parse_report(data)
    device = DeviceEvidence(DeviceKind.NVIDIA_GPU, data, ())
    return Recognized(form=f"NVIDIA SPDM report{suffix}", evidence=None, devices=(device,))


def _go_tpm_tools(data: bytes, suffix: str) -> Recognized | None:
    """Recognize a message by parsing it: protocol buffers have no magic number."""
    if not data or data[0] != _GO_TPM_START:
        return None
    try:
        found = parse_go_attestation(data)
    except ParseError:
        return None
    certificates = (found.ak_cert, *found.intermediate_certs) if found.ak_cert else ()
    evidence = Evidence(
        Tee.TPM, found.quotes[-1].encode(), certificates, b"", event_log=found.event_log
    )
    return Recognized(form=f"go-tpm-tools attestation{suffix}", evidence=evidence)


_RAW: tuple[Callable[[bytes, str], Recognized | None], ...] = (
    _intel,
    _nitro,
    _nvidia,
    _snp,
    _go_tpm_tools,
)


def _hex(data: bytes) -> bytes | None:
    text = b"".join(data.split())
    if not text or len(text) % 2 or not _HEX.issuperset(text):
        return None
    return bytes.fromhex(text.decode("ascii"))


def _base64(data: bytes) -> bytes | None:
    """Accept either alphabet, with or without padding: nobody signs this encoding."""
    text = b"".join(data.split())
    if not text or not _BASE64.issuperset(text):
        return None
    plain = text.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _unknown(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, what)
