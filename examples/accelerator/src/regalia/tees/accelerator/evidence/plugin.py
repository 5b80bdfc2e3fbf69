"""The example accelerator as the verifier sees it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT, NonceField, Unbound
from regalia.appraisal.collateral import Need, provided
from regalia.appraisal.evidence_plugin import EvidencePlugin, machine_identity
from regalia.appraisal.pki import issuer_names, parse_certificate
from regalia.tees.accelerator.evidence import checks
from regalia.tees.accelerator.evidence.vendor import EXAMPLE_VENDOR
from regalia.tees.accelerator.evidence.verify import parse, verify_genuine
from regalia.wire.collateral import CollateralKind
from regalia.wire.evidence import REPORT_DATA_SIZE, Tee

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.collateral import GivenCollateral
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.accelerator.claims import AcceleratorClaims
    from regalia.tees.accelerator.evidence.anchors import AcceleratorAnchors, AcceleratorCollateral
    from regalia.tees.accelerator.evidence.wire import AcceleratorEvidence
    from regalia.wire.evidence import Evidence

NONCE = NonceField(checks.NONCE, range(REPORT_DATA_SIZE, REPORT_DATA_SIZE + 1))


def genuine(
    parsed: Parsed[Evidence, AcceleratorEvidence],
    *,
    anchors: AcceleratorAnchors,
    collateral: AcceleratorCollateral,
    at: AppraisalContext,
) -> Unbound[AcceleratorClaims]:
    """Every check but freshness. Raises as ``verify_genuine``."""
    claims = verify_genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    return Unbound(claims, claims.report_data, NONCE, MINT)


def needs(parsed: Parsed[Evidence, AcceleratorEvidence], have: GivenCollateral) -> Iterator[Need]:
    """Its certificates come along; a list of each authority does not.

    Args:
        parsed: untrusted.
        have: what the operator already brought along.

    Raises:
        ParseError: a certificate or list is malformed.
    """
    lists = {name for der in have.crls for name in issuer_names(der)}
    chain = [parse_certificate(der, what="chain") for der in parsed.report.document.chain]
    for issuer, _ in pairwise(chain):
        name = issuer.common_name
        yield Need(CollateralKind.CERTIFICATE, name, "evidence")
        yield provided(CollateralKind.CRL, f"list of {name}", have=name in lists)


ACCELERATOR = EvidencePlugin(
    kind=Tee.EXAMPLE_ACCELERATOR,
    about=(
        "An example: no vendor makes this accelerator. Its document is signed by a key in the chip,"
        " and says which program was loaded, with which firmware, and whether debug mode is on."
    ),
    vendor=EXAMPLE_VENDOR,
    checks=checks.CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=genuine,
    needs=needs,
    identities=machine_identity,
)
