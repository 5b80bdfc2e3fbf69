"""Revocation lists of AWS's Nitro authorities, where the operator has them.

AWS's validation procedure uses none: the enclave's certificate lives for hours, the instance's
for a day, the zone's for days. Authorities that name a distribution point can be looked up, and
a relying party that demands ``required`` gets that.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.pki.crl import lists_of, revocation_status, weakest
from regalia.tees.nitro.evidence.chain import SCHEMES

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.tees.nitro.evidence.anchors import NitroCollateral
    from regalia.tees.nitro.evidence.chain import TrustedSigner


def check_revocation(
    signer: TrustedSigner, *, collateral: NitroCollateral, at: AppraisalContext
) -> Revocation:
    """Check 4: every list at hand is signed by its authority and names none of its children.

    ``RevocationRule.REQUIRED`` demands a current list for each certificate that names a
    distribution point. ``ANY`` tolerates an absent or stale one, and nothing else.

    Args:
        signer: made by ``verify_chain``.
        collateral: what the verifier's operator provides.
        at: the context of the appraisal.

    Raises:
        ParseError: a CRL is not one.
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    known: list[Revocation] = []
    for issuer, child in pairwise((*signer.authorities, signer.certificate)):
        own = lists_of(issuer, (child,), collateral.crls, schemes=SCHEMES, cache=at.cache)
        if own or child.names_crls:
            known.append(revocation_status(own, issuer, at))
    return weakest(*known) if known else Revocation.UNKNOWN
