"""AMD's revocation lists: one signed by the ARK for each product and kind of key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.pki import Scheme
from regalia.appraisal.revocation import lists_of, revocation_status

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.claims import Revocation
    from regalia.appraisal.pki import Certificate
    from regalia.tees.snp.evidence.anchors import SnpCollateral

SCHEMES = frozenset({Scheme.RSA_PSS_SHA384})


def check_revocation(
    collateral: SnpCollateral, root: Certificate, intermediate: Certificate, at: AppraisalContext
) -> Revocation:
    """The root's CRL is there, signed by it, in date, and lists neither certificate.

    A list that is late by no more than the policy's grace counts, and the claims say so.
    ``RevocationRule.ANY`` tolerates a CRL that is absent or out of date, and nothing else: a
    certificate that a list names is refused, and so is a list with a bad signature.

    Args:
        collateral: what the verifier's operator provides.
        root: a pinned ARK.
        intermediate: the ASK or ASVK that it issued, as the caller has verified.
        at: the context of the appraisal.

    Raises:
        ParseError: a CRL is not one.
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    crls = at.cache.derived(
        "snp lists",
        intermediate.der,
        (root.der, intermediate.der),
        lambda: lists_of(
            root, (root, intermediate), collateral.crls, schemes=SCHEMES, cache=at.cache
        ),
        held=collateral.crls,
    )
    return revocation_status(crls, root, at)
