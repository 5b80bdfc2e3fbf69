"""SEV-SNP as the verifier sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT
from regalia.appraisal.evidence_plugin import EvidencePlugin, machine_identity
from regalia.appraisal.unbound import NonceField, Unbound
from regalia.tees.snp.evidence.checks import CHECKS, REPORT_DATA
from regalia.tees.snp.evidence.needs import needs
from regalia.tees.snp.evidence.online import ONLINE
from regalia.tees.snp.evidence.vendor import AMD
from regalia.tees.snp.evidence.verify import claims_of, parse, verify_genuine
from regalia.wire.evidence import REPORT_DATA_SIZE, Tee

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.snp.claims import SnpClaims
    from regalia.tees.snp.evidence.anchors import SnpAnchors, SnpCollateral
    from regalia.tees.snp.evidence.wire import SnpReport
    from regalia.wire.evidence import Evidence

NONCE = NonceField(REPORT_DATA, range(REPORT_DATA_SIZE, REPORT_DATA_SIZE + 1))


def genuine(
    parsed: Parsed[Evidence, SnpReport],
    *,
    anchors: SnpAnchors,
    collateral: SnpCollateral,
    at: AppraisalContext,
) -> Unbound[SnpClaims]:
    """Every check but freshness. Raises as ``verify_genuine``."""
    found = verify_genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    return Unbound(claims_of(parsed.raw, found), parsed.report.report_data, NONCE, MINT)


SNP = EvidencePlugin(
    kind=Tee.SEV_SNP,
    about=(
        "An SEV-SNP report is signed by a key in an AMD processor. It names the chip, the versions"
        " of its firmware (TCB), and the digest of the virtual machine's first memory"
        " (MEASUREMENT): that is how you know what was started. The cloud's staff cannot read the"
        " memory of such a machine, unless it was started in debug mode."
    ),
    vendor=AMD,
    checks=CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=genuine,
    needs=needs,
    online=ONLINE,
    identities=machine_identity,
)
