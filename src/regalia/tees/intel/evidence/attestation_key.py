"""Who signs quotes: the quoting enclave's word for the attestation key, under the PCK.

Nothing of it depends on time or on what is quoted, and a machine sends the same bytes with each of
its quotes, until it makes itself another key. So it is verified once for its bytes. Dates and
revocation of the certificates are checked in each appraisal.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.check_log import NO_LOG
from regalia.crypto.sign import SignCode
from regalia.tees.intel.evidence import checks
from regalia.tees.intel.evidence.chain import verify_pck
from regalia.tees.intel.evidence.qe import require_attestation_key
from regalia.tees.intel.evidence.signatures import p256_point, require_raw_signature
from regalia.tees.intel.evidence.wire import POINT_SIZE, VERSION_SGX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.tees.intel.evidence.anchors import IntelAnchors
    from regalia.tees.intel.evidence.bodies import EnclaveReport
    from regalia.tees.intel.evidence.chain import PckPath
    from regalia.tees.intel.evidence.wire import QuoteParts

# Keeps keys from being declared certified by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """An attestation key that passed checks 2 to 4. Made by ``certify``."""

    key: ec.EllipticCurvePublicKey  # P-256: signs quotes
    qe_report: EnclaveReport  # of the quoting enclave that holds it
    pck: PckPath
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a certified key comes from certify")


def certify(parts: QuoteParts, *, anchors: IntelAnchors, at: AppraisalContext) -> CertifiedKey:
    """Checks 2 to 4. A check log sees them made, whatever the cache knows.

    Args:
        parts: of a quote, untrusted.
        anchors: the vendor's pinned roots.
        at: the context of the appraisal.

    Raises:
        ParseError: the certification is malformed.
        AttestationError: ROOT_UNTRUSTED, CHAIN_INVALID, LEAF_BINDING_MISMATCH, SIGNATURE_INVALID
            or QE_BINDING_MISMATCH.
    """
    if at.check_log is not NO_LOG:
        return _certify(parts, anchors, at)
    layout = "intel certification v3" if parts.version == VERSION_SGX else "intel certification"
    return at.cache.derived(
        layout,
        parts.certification[:POINT_SIZE],  # the attestation key
        (parts.certification,),
        lambda: _certify(parts, anchors, at),
        held=(anchors.pin,),
    )


def _certify(parts: QuoteParts, anchors: IntelAnchors, at: AppraisalContext) -> CertifiedKey:
    check_log = at.check_log
    qe = parts.read()
    check_log.begin(checks.PCK_CHAIN)  # (2)
    pck = verify_pck(qe.pck_chain, anchors=anchors, cache=at.cache)
    check_log.note(
        f"PPID {pck.facts.ppid.hex()}, by {pck.authority.common_name}", "the pinned root"
    )
    check_log.begin(checks.QE_REPORT)  # (3)
    require_raw_signature(
        pck.key,
        qe.qe_report_signature,
        qe.qe_report_raw,
        code=SignCode.SIGNATURE_INVALID,
        what="QE report",
    )
    check_log.begin(checks.ATTESTATION_KEY, qe.qe_report.report_data)  # (4)
    require_attestation_key(qe)
    return CertifiedKey(
        p256_point(qe.attestation_key, what="attestation key"), qe.qe_report, pck, _MINT
    )
