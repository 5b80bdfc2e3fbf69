"""Revocation lists of AWS's Nitro authorities, where the operator has them.

AWS's validation procedure uses none: the enclave's certificate lives for hours, the instance's
for a day, the zone's for days. Authorities that name a distribution point can be looked up, and
a relying party that demands ``required`` gets that.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509

from regalia.attest.codes import AttestCode
from regalia.attest.nitro.chain import SCHEMES
from regalia.attest.pki import parse_crl
from regalia.attest.pki.crl import require_complete, require_signed_by
from regalia.attest.rules import RevocationRule
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError
from regalia.formats.claims import Revocation

if TYPE_CHECKING:
    from regalia.attest.circumstances import Circumstances
    from regalia.attest.nitro.anchors import NitroCollateral
    from regalia.attest.nitro.chain import TrustedSigner
    from regalia.attest.pki import Certificate, Crl


def check_revocation(
    signer: TrustedSigner, *, collateral: NitroCollateral, at: Circumstances
) -> Revocation:
    """Check 4: every list at hand is signed by its authority and names none of its children.

    ``RevocationRule.REQUIRED`` demands a current list for each certificate that names a
    distribution point. ``ANY`` tolerates an absent or stale one, and nothing else.

    Raises:
        ParseError: a CRL is not one.
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    crls = tuple(parse_crl(der) for der in collateral.crls)
    known: list[Revocation] = []
    for issuer, child in pairwise((*signer.authorities, signer.certificate)):
        own = [crl for crl in crls if crl.issuer == issuer.subject]
        for crl in own:
            require_complete(crl)
            require_signed_by(crl, issuer, SCHEMES)
            if crl.lists(child.serial):
                raise AttestationError(
                    AttestCode.CERT_REVOKED, f"{child} is listed in the CRL of {issuer}"
                )
        if own or _has_distribution_point(child):
            known.append(_state(own, issuer, at))
    return _worst(known)


def _has_distribution_point(certificate: Certificate) -> bool:
    return any(isinstance(e.value, x509.CRLDistributionPoints) for e in certificate.extensions)


def _state(crls: list[Crl], issuer: Certificate, at: Circumstances) -> Revocation:
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


def _worst(known: list[Revocation]) -> Revocation:
    for state in (Revocation.UNKNOWN, Revocation.GRACE):
        if state in known:
            return state
    return Revocation.CHECKED if known else Revocation.UNKNOWN
