"""AMD's revocation lists: one signed by the ARK for each product and kind of key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.attest.codes import AttestCode
from regalia.attest.pki import Scheme
from regalia.attest.pki.crl import require_complete
from regalia.attest.rules import RevocationRule
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError
from regalia.formats.claims import Revocation

if TYPE_CHECKING:
    from regalia.attest.circumstances import Circumstances
    from regalia.attest.pki import Cache, Certificate, Crl
    from regalia.attest.snp.anchors import SnpCollateral

SCHEMES = frozenset({Scheme.RSA_PSS_SHA384})


def check_revocation(
    collateral: SnpCollateral, root: Certificate, intermediate: Certificate, at: Circumstances
) -> Revocation:
    """The root's CRL is there, signed by it, in date, and lists neither certificate.

    A list that is late by no more than the policy's grace counts, and the claims say so.
    ``RevocationRule.ANY`` tolerates a CRL that is absent or out of date, and nothing else: a
    certificate that a list names is refused, and so is a list with a bad signature.

    Raises:
        ParseError: a CRL is not one.
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    rule, now = at.rule, at.now
    crls = at.cache.derived(
        "snp lists",
        (root.der, intermediate.der),
        lambda: _lists(collateral.crls, root, intermediate, at.cache),
        held=collateral.crls,
    )
    if any(crl.is_current(now) for crl in crls):
        return Revocation.CHECKED
    if any(crl.is_late(now, rule.grace) for crl in crls):
        return Revocation.GRACE
    if rule.revocation is RevocationRule.ANY:
        return Revocation.UNKNOWN
    if not crls:
        raise AttestationError(
            AttestCode.CRL_MISSING, f"the collateral holds no CRL issued by {root}"
        )
    raise AttestationError(
        AttestCode.CRL_STALE,
        f"no CRL of {root} is in date at {rfc3339(now)}: {', '.join(c.dates() for c in crls)}",
    )


def _lists(
    ders: tuple[bytes, ...], root: Certificate, intermediate: Certificate, cache: Cache
) -> tuple[Crl, ...]:
    """The root's lists, whatever their dates: complete, signed, and naming neither of the two."""
    crls = tuple(crl for crl in map(cache.crl, ders) if crl.issuer == root.subject)
    for crl in crls:
        require_complete(crl)
        cache.require_signed_by(crl, root, SCHEMES)
        for certificate in (root, intermediate):
            if crl.lists(certificate.serial):
                raise AttestationError(
                    AttestCode.CERT_REVOKED, f"{certificate} is listed in the CRL of {root}"
                )
    return crls
