"""What revocation lists say, for every vendor's certificates.

Which authorities must have lists is each vendor's own rule. What a list amounts to is one rule for
all (RFC 5280 section 6.3): a list counts if it is complete and its issuer signed it; a certificate
that it names is refused whatever its dates; dates decide what is known of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.collateral_rule import RevocationRule
from regalia.appraisal.pki.crl import require_complete
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.pki import Cache, Certificate, Crl, Scheme

_WORST_LAST = (Revocation.CHECKED, Revocation.GRACE, Revocation.UNKNOWN)


def weakest(*known: Revocation) -> Revocation:
    """What is known when all of these are. There is at least one."""
    return max(known, key=_WORST_LAST.index)


def lists_of(
    issuer: Certificate,
    below: Iterable[Certificate],
    ders: Sequence[bytes],
    *,
    schemes: Collection[Scheme],
    cache: Cache,
) -> tuple[Crl, ...]:
    """The issuer's own lists, whatever their dates: complete, signed, and naming none of ``below``.

    Args:
        issuer: whose lists are looked for.
        below: certificates that it issued, itself included if it is a root.
        ders: lists of anybody.
        schemes: that it may sign with.
        cache: remembers parsed lists and their signatures.

    Raises:
        ParseError: one of ``ders`` is no list.
        AttestationError: CRL_MISSING (an incomplete one), CRL_SIG_INVALID or CERT_REVOKED.
    """
    own = tuple(crl for crl in map(cache.crl, ders) if crl.issuer == issuer.subject)
    below = tuple(below)
    for crl in own:
        require_complete(crl)
        cache.require_signed_by(crl, issuer, schemes)
        require_not_listed(crl, below, issuer)
    return own


def require_not_listed(crl: Crl, certificates: Iterable[Certificate], issuer: Certificate) -> None:
    """The list names none of them. Raises AttestationError CERT_REVOKED.

    Args:
        crl: signed by ``issuer``.
        certificates: that ``issuer`` issued.
        issuer: names the list in the error.
    """
    for certificate in certificates:
        if crl.lists(certificate.serial):
            raise AttestationError(
                AttestCode.CERT_REVOKED, f"{certificate} is listed in the CRL of {issuer}"
            )


def revocation_status(crls: Sequence[Crl], issuer: Certificate, at: AppraisalContext) -> Revocation:
    """What the issuer's own lists, which name nobody here, let one know at ``at.now``.

    A list that is late by no more than the policy's grace counts, and the claims say so.
    ``RevocationRule.ANY`` tolerates lists that are absent or out of date.

    Args:
        crls: complete, signed by the issuer, naming nobody here.
        issuer: whose lists these are.
        at: the context of the appraisal.

    Raises:
        AttestationError: CRL_MISSING or CRL_STALE.
    """
    rule, now = at.rule, at.now
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
