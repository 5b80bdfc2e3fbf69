"""AWS Nitro as the verifier sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT
from regalia.appraisal.evidence_plugin import EvidencePlugin, machine_identity
from regalia.appraisal.unbound import NonceField, Unbound
from regalia.tees.nitro.evidence import checks
from regalia.tees.nitro.evidence.needs import needs
from regalia.tees.nitro.evidence.vendor import AWS
from regalia.tees.nitro.evidence.verify import claims_of, parse, verify_genuine
from regalia.tees.nitro.evidence.wire import NONCE_MAX
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.nitro.claims import NitroClaims
    from regalia.tees.nitro.evidence.anchors import NitroAnchors, NitroCollateral
    from regalia.tees.nitro.evidence.wire import NitroEvidence
    from regalia.wire.evidence import Evidence

# A document may also have no nonce at all, and is then fresh for nobody.
NONCE = NonceField(checks.NONCE, range(NONCE_MAX + 1))


def genuine(
    parsed: Parsed[Evidence, NitroEvidence],
    *,
    anchors: NitroAnchors,
    collateral: NitroCollateral,
    at: AppraisalContext,
) -> Unbound[NitroClaims]:
    """Every check but freshness. Raises as ``verify_genuine``."""
    found = verify_genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    claims = claims_of(parsed.raw, found)
    return Unbound(claims, claims.report_data, NONCE, MINT)


NITRO = EvidencePlugin(
    kind=Tee.NITRO,
    about=(
        "A Nitro document is signed by AWS's hypervisor, so it is AWS whom you trust: no processor"
        " maker stands behind it. PCR0 is the digest of the enclave's image, PCR8 the certificate"
        " that signed the image. In debug mode these registers are zero."
    ),
    vendor=AWS,
    checks=checks.CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=genuine,
    needs=needs,
    identities=machine_identity,
)
