"""Intel's revocation lists: the root's covers the CAs and signers, a PCK CA's covers the PCKs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.attest.codes import AttestCode
from regalia.attest.intel.chain import SCHEMES
from regalia.attest.pki.crl import require_complete, require_signed_by
from regalia.attest.rules import RevocationRule
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError
from regalia.formats.claims import Revocation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.attest.circumstances import Circumstances
    from regalia.attest.intel.chain import PckPath
    from regalia.attest.intel.prepared import PreparedCollateral
    from regalia.attest.pki import Certificate

_WORST_LAST = (Revocation.CHECKED, Revocation.GRACE, Revocation.UNKNOWN)


def check_revocation(
    pck: PckPath,
    signers: Iterable[Certificate],
    *,
    collateral: PreparedCollateral,
    at: Circumstances,
) -> Revocation:
    """Both lists are there, signed, in date, and name none of the certificates.

    ``RevocationRule.ANY`` tolerates a list that is absent or out of date, and nothing else: a
    certificate that a list names is refused, and so is a list with a bad signature.

    Raises:
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    by_root = (pck.root, pck.authority, *signers)
    return worst(
        _check(pck.root, by_root, collateral, at),
        _check(pck.authority, (pck.leaf,), collateral, at),
    )


def worst(*known: Revocation) -> Revocation:
    """What is known when all of these are."""
    return max(known, key=_WORST_LAST.index)


def _check(
    issuer: Certificate,
    certificates: Iterable[Certificate],
    collateral: PreparedCollateral,
    at: Circumstances,
) -> Revocation:
    rule, now = at.rule, at.now
    crls = []
    for crl, spki in collateral.crls:
        if crl.issuer != issuer.subject:
            continue
        if spki != issuer.spki:
            require_complete(crl)
            require_signed_by(crl, issuer, SCHEMES)
        crls.append(crl)
        for certificate in certificates:
            if crl.lists(certificate.serial):
                raise AttestationError(
                    AttestCode.CERT_REVOKED, f"{certificate} is listed in the CRL of {issuer}"
                )
    if any(crl.is_current(now) for crl in crls):
        return Revocation.CHECKED
    if any(crl.is_late(now, rule.grace) for crl in crls):
        return Revocation.GRACE
    if rule.revocation is RevocationRule.ANY:
        return Revocation.UNKNOWN
    if not crls:
        raise AttestationError(
            AttestCode.CRL_MISSING, f"the collateral holds no CRL issued by {issuer}"
        )
    raise AttestationError(
        AttestCode.CRL_STALE,
        f"no CRL of {issuer} is in date at {rfc3339(now)}: {', '.join(c.dates() for c in crls)}",
    )
