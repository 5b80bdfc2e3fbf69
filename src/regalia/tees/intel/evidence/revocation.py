"""Intel's revocation lists: the root's covers the CAs and signers, a PCK CA's covers the PCKs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.pki.crl import (
    require_complete,
    require_not_listed,
    require_signed_by,
    revocation_status,
    weakest,
)
from regalia.tees.intel.evidence.chain import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.claims import Revocation
    from regalia.appraisal.pki import Certificate
    from regalia.tees.intel.evidence.chain import PckPath
    from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral


def check_revocation(
    pck: PckPath,
    signers: Iterable[Certificate],
    *,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Revocation:
    """Both lists are there, signed, in date, and name none of the certificates.

    ``RevocationRule.ANY`` tolerates a list that is absent or out of date, and nothing else: a
    certificate that a list names is refused, and so is a list with a bad signature.

    Args:
        pck: made by ``verify_pck``.
        signers: TCB signing certificates of the documents that the appraisal relies on.
        collateral: what the verifier's operator provides, prepared.
        at: the context of the appraisal.

    Raises:
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    by_root = (pck.root, pck.authority, *signers)
    return weakest(
        _check(pck.root, by_root, collateral, at),
        _check(pck.authority, (pck.leaf,), collateral, at),
    )


def _check(
    issuer: Certificate,
    certificates: Iterable[Certificate],
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Revocation:
    own = []
    for crl, spki in collateral.crls:
        if crl.issuer != issuer.subject:
            continue
        if spki != issuer.spki:
            require_complete(crl)
            require_signed_by(crl, issuer, SCHEMES)
        require_not_listed(crl, certificates, issuer)
        own.append(crl)
    return revocation_status(own, issuer, at)
