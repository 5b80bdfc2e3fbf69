"""TDX and SGX as the verifier sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT
from regalia.appraisal.evidence_plugin import EvidencePlugin, machine_identity
from regalia.appraisal.unbound import NonceField, Unbound
from regalia.tees.intel.evidence.checks import REPORT_DATA, SGX_CHECKS, TDX_CHECKS
from regalia.tees.intel.evidence.claims_of import sgx_claims
from regalia.tees.intel.evidence.needs import needs
from regalia.tees.intel.evidence.online import ONLINE
from regalia.tees.intel.evidence.vendor import INTEL
from regalia.tees.intel.evidence.verify import claims_of_tdx, parse, verify_genuine
from regalia.wire.evidence import REPORT_DATA_SIZE, Tee

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.intel.claims import SgxClaims, TdxClaims
    from regalia.tees.intel.evidence.anchors import IntelAnchors
    from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral
    from regalia.tees.intel.evidence.wire import QuoteParts
    from regalia.wire.evidence import Evidence

NONCE = NonceField(REPORT_DATA, range(REPORT_DATA_SIZE, REPORT_DATA_SIZE + 1))


def genuine_tdx(
    parsed: Parsed[Evidence, QuoteParts],
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Unbound[TdxClaims]:
    """Every check of a TD's quote but freshness. Raises as ``verify_genuine``."""
    found = verify_genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    claims = claims_of_tdx(parsed.raw, found, at)
    return Unbound(claims, claims.report_data, NONCE, MINT)


def genuine_sgx(
    parsed: Parsed[Evidence, QuoteParts],
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Unbound[SgxClaims]:
    """Every check of an enclave's quote but freshness. Raises as ``verify_genuine``."""
    found = verify_genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    claims = sgx_claims(parsed.raw, found)
    return Unbound(claims, claims.report_data, NONCE, MINT)


TDX = EvidencePlugin(
    kind=Tee.TDX,
    about=(
        "A TDX quote is signed by Intel's quoting enclave on the machine. MRTD is the digest of"
        " the virtual machine's firmware, and RTMR0 to RTMR3 grow with everything that is started"
        " afterwards. Intel publishes which firmware levels have known weaknesses (TCB info); the"
        " status below comes from that list."
    ),
    vendor=INTEL,
    checks=TDX_CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=genuine_tdx,
    needs=needs,
    online=ONLINE,
    identities=machine_identity,
)
SGX = EvidencePlugin(
    kind=Tee.SGX,
    about=(
        "An SGX quote is signed by Intel's quoting enclave on the machine. MRENCLAVE is the digest"
        " of one enclave, MRSIGNER the key of who built it. Intel publishes which firmware levels"
        " have known weaknesses (TCB info); the status comes from that list."
    ),
    vendor=INTEL,
    checks=SGX_CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=genuine_sgx,
    needs=needs,
    online=ONLINE,
    identities=machine_identity,
)
