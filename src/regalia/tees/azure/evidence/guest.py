"""What Azure's two kinds of VM have in common: the paravisor's runtime data and its vTPM.

A hardware report that was verified vouches for the runtime data; the attestation key in that
vouches for a quote.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives.asymmetric import rsa

from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.core.types import KeyFingerprint
from regalia.tees.azure.claims import AzureVm, AzureVtpm
from regalia.tees.azure.evidence import checks
from regalia.tees.azure.evidence.codes import AzureCode
from regalia.tees.azure.evidence.hcl import parse_hcl, parse_runtime_data
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.tpm.evidence import ALL_PCRS, AttestationPublicKey, verify_quote
from regalia.tees.tpm.evidence.boot import verify_boot
from regalia.tees.tpm.evidence.keys import spki
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.tees.azure.evidence.hcl import HclReport, ReportType, RuntimeData
    from regalia.tees.azure.evidence.wire import AzureDocument
    from regalia.tees.tpm.evidence import VerifiedQuote
    from regalia.wire.evidence import Evidence, Tee

AK_NAME = "HCLAkPub"
SELECTION: Mapping[HashAlg, frozenset[int]] = MappingProxyType({HashAlg.SHA256: ALL_PCRS})
MODULUS_SIZE = 256  # bytes: the paravisor's AK is RSA-2048
EXPONENT = "AQAB"


@dataclass(frozen=True, slots=True)
class GuestParts:
    """The parsed document, untrusted."""

    document: AzureDocument
    hcl: HclReport
    event_log: bytes


class VouchedGuest(NamedTuple):
    """Runtime data that the hardware's report data commits to. Made by ``require_vouched``."""

    parts: GuestParts
    ak: AttestationPublicKey
    ak_name: KeyFingerprint
    vm: AzureVm


def parse_parts(
    evidence: Evidence, *, tee: Tee, report_type: ReportType, check_log: CheckLog
) -> GuestParts:
    """Check 1. Raises ParseError.

    Args:
        evidence: raw, untrusted.
        tee: kind that the evidence must be of.
        report_type: kind of hardware report that the HCL report must hold.
        check_log: records the checks.
    """
    check_log.begin(checks.DOCUMENT, f"{len(evidence.report)} bytes")
    if evidence.tee is not tee:
        raise ParseError(CoreCode.MALFORMED, f"evidence of {evidence.tee}, want {tee}")
    document = parse_azure(evidence.report)
    hcl = parse_hcl(document.hcl_report)
    if hcl.report_type is not report_type:
        raise ParseError(
            CoreCode.MALFORMED, f"an HCL report of {hcl.report_type.name}, want {report_type.name}"
        )
    return GuestParts(document, hcl, evidence.event_log)


def require_vouched(parts: GuestParts, report_data: bytes, at: AppraisalContext) -> VouchedGuest:
    """The hardware's report data is the digest of the runtime data, and zeros.

    Args:
        parts: parsed, untrusted.
        report_data: 64 bytes of a hardware report that was verified.
        at: the context of the appraisal.

    Raises:
        ParseError: the runtime data is malformed, or the AK is not a key.
        AttestationError: RUNTIME_DATA_UNBOUND or RUNTIME_KEY_MISSING.
    """
    expected = parts.hcl.digest().ljust(len(report_data), b"\x00")
    at.check_log.begin(checks.RUNTIME_DATA, report_data, expected)
    if not hmac.compare_digest(report_data, expected):
        raise AttestationError(
            AzureCode.RUNTIME_DATA_UNBOUND,
            f"the hardware's report data is {report_data.hex()}, want {expected.hex()}",
        )
    data = parts.hcl.runtime_data
    vm, ak, name = at.cache.derived("azure runtime data", report_data, (data,), lambda: _read(data))
    return VouchedGuest(parts, ak, name, vm)


def _read(data: bytes) -> tuple[AzureVm, AttestationPublicKey, KeyFingerprint]:
    """What the runtime data says, its key, and what the key is called."""
    runtime = parse_runtime_data(data)
    configuration = runtime.vm_configuration
    vm = AzureVm(
        secure_boot=configuration.secure_boot,
        console_enabled=configuration.console_enabled,
        tpm_enabled=configuration.tpm_enabled,
        tpm_persisted=configuration.tpm_persisted,
        root_cert_thumbprint=configuration.root_cert_thumbprint,
        vm_unique_id=configuration.vm_unique_id,
        user_data=runtime.guest_data(),
    )
    ak = _attestation_key(runtime)
    return vm, ak, KeyFingerprint.of(spki(ak.key))


def paravisor_key(runtime_data: bytes) -> AttestationPublicKey:
    """HCLAkPub of a paravisor's runtime data, untrusted. Raises ParseError or AttestationError."""
    return _attestation_key(parse_runtime_data(runtime_data))


def _attestation_key(runtime: RuntimeData) -> AttestationPublicKey:
    """HCLAkPub, RSA-2048. The paravisor makes it for RSASSA with SHA-256 and nothing else."""
    found = [key for key in runtime.keys if key.kid == AK_NAME]
    if len(found) != 1:
        raise AttestationError(
            AzureCode.RUNTIME_KEY_MISSING, f"{len(found)} keys are called {AK_NAME}, want one"
        )
    key = found[0]
    if key.kty != "RSA" or key.e != EXPONENT:
        raise ParseError(
            CoreCode.MALFORMED, f"{AK_NAME}: kty {key.kty[:20]!r} with exponent {key.e[:20]!r}"
        )
    modulus = int.from_bytes(_base64url(key.n), "big")
    try:
        public = rsa.RSAPublicNumbers(65537, modulus).public_key()
    except ValueError as exc:
        raise ParseError(CoreCode.MALFORMED, f"{AK_NAME}: not a valid key: {exc}") from exc
    return AttestationPublicKey(public, SignatureAlg.RSASSA, HashAlg.SHA256)


def _base64url(text: str) -> bytes:
    """RFC 7515: base64url without padding, in its one spelling."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{AK_NAME}: n is not base64url") from exc
    if len(raw) != MODULUS_SIZE or base64.urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
        raise ParseError(CoreCode.MALFORMED, f"{AK_NAME}: n is not {MODULUS_SIZE} bytes")
    return raw


def verify_guest_quote(guest: VouchedGuest, at: AppraisalContext) -> AzureVtpm:
    """The AK quoted all registers at some time, over something.

    Raises:
        ParseError, AttestationError: as ``verify_quote``; EVENTLOG_MISMATCH.
    """
    document = guest.parts.document
    quote = verify_quote(
        document.quoted,
        document.signature,
        document.pcrs,
        key=guest.ak,
        selection=SELECTION,
        check_log=at.check_log,
    )
    return _vtpm(guest, quote, at)


def _vtpm(guest: VouchedGuest, verified: VerifiedQuote, at: AppraisalContext) -> AzureVtpm:
    pcrs = verified.pcrs[HashAlg.SHA256]
    log = guest.parts.event_log
    boot = None
    if log:
        at.check_log.begin(checks.EVENT_LOG, f"{len(log)} bytes")
        registers = (verified.quote.pcr_digest,)
        boot = at.cache.replayed(
            "azure boot", registers, log, lambda: verify_boot(log, pcrs, HashAlg.SHA256)
        )
    return AzureVtpm(
        ak=guest.ak_name,
        extra_data=verified.quote.extra_data,
        pcrs=pcrs,
        clock=verified.quote.clock,
        reset_count=verified.quote.reset_count,
        restart_count=verified.quote.restart_count,
        safe=verified.quote.safe,
        firmware_version=verified.quote.firmware_version,
        boot=boot,
    )
