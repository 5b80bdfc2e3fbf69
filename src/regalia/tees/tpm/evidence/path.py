"""From a certificate of a TPM's key to one of the operator's roots (RFC 5280 section 6).

TPM vendors have hundreds of authorities and none that all share, so the roots are not pinned in
code: they come with the operator's signed collateral, those for EKs apart from those for AKs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import Scheme, chain_invalid, require_valid_at
from regalia.appraisal.pki.certificates import require_ca
from regalia.appraisal.pki.crl import lists_of, revocation_status, weakest
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.claims import Revocation
    from regalia.appraisal.pki import Cache, Certificate

AUTHORITIES_MAX = 4  # between a TPM's certificate and the root, the root included
SCHEMES = frozenset(Scheme) - {Scheme.OTHER}


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who may vouch for a certificate of a TPM, and in which context.

    Attributes:
        roots: DER, of the verifier's operator. A path ends in one of them.
        intermediates: DER, of the operator; more may come along with a leaf.
        crls: DER, of any of these issuers.
        at: the context of the check.
    """

    roots: tuple[bytes, ...]
    intermediates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    at: AppraisalContext


def find_path(
    leaf: Certificate, came: Sequence[Certificate], authorities: Authorities
) -> tuple[Certificate, ...]:
    """The authorities that vouch for ``leaf``, its issuer first, a trusted root last.

    Every signature, name and constraint holds; ``require_current`` sees to the time.

    Args:
        leaf: untrusted.
        came: issuers that came along, untrusted: the path's, in its order, and no others.
        authorities: with the operator's roots for such a leaf.

    Raises:
        ParseError: a certificate of the operator is malformed.
        AttestationError: ROOT_UNTRUSTED or CHAIN_INVALID.
    """
    cache = authorities.at.cache
    roots = [cache.certificate(der, what="TPM root") for der in authorities.roots]
    given = [cache.certificate(der, what="TPM authority") for der in authorities.intermediates]
    path = _climb(leaf, (*came, *given), roots, cache)
    for below, authority in enumerate(path):
        length = require_ca(authority).path_length
        if length is not None and length < below:
            raise chain_invalid(f"{authority}: pathLen={length}, {below} authorities below it")
    if [each.der for each in came] != [each.der for each in path[: len(came)]]:
        raise chain_invalid("the certificates that came along are not one chain, leaf first")
    return tuple(path)


def require_current(leaf: Certificate, path: Sequence[Certificate], now: datetime) -> None:
    """The whole path is valid now. Raises AttestationError CERT_EXPIRED or CERT_NOT_YET_VALID.

    Args:
        leaf: a TPM's certificate.
        path: its authorities, found by ``find_path``.
        now: the moment of the appraisal, aware.
    """
    for certificate in (leaf, *path):
        require_valid_at(certificate, now)


def _climb(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    roots: Sequence[Certificate],
    cache: Cache,
) -> list[Certificate]:
    """From issuer to issuer until a root signed. A root is preferred, which ends the search."""
    path: list[Certificate] = []
    child = leaf
    while len(path) < AUTHORITIES_MAX:
        issuer = _issuer(child, roots, cache)
        if issuer is not None:
            return [*path, issuer]
        issuer = _issuer(child, intermediates, cache)
        if issuer is None:
            raise _no_issuer(child, intermediates)
        path.append(issuer)
        child = issuer
    raise chain_invalid(f"{leaf}: more than {AUTHORITIES_MAX} authorities")


def _issuer(
    child: Certificate, candidates: Sequence[Certificate], cache: Cache
) -> Certificate | None:
    """The first candidate that signed ``child``. Vendors reuse names when they renew a key."""
    for candidate in candidates:
        if candidate.subject == child.issuer:
            try:
                cache.require_issued_by(child, candidate, SCHEMES)
            except AttestationError:
                continue
            return candidate
    return None


def _no_issuer(child: Certificate, intermediates: Sequence[Certificate]) -> AttestationError:
    if any(candidate.subject == child.issuer for candidate in intermediates):
        return chain_invalid(f"{child} is not signed by the authority that it names")
    return AttestationError(
        AttestCode.ROOT_UNTRUSTED,
        f"{child} is issued by {child.issuer_common_name[:80]!r}, which is none of the trusted "
        "roots and leads to none",
    )


def check_revocation(
    leaf: Certificate, path: Sequence[Certificate], authorities: Authorities
) -> Revocation:
    """No authority of the path has revoked the certificate below it.

    ``RevocationRule.ANY`` tolerates lists that are absent or out of date, and nothing else.

    Args:
        leaf: a TPM's certificate.
        path: its authorities, found by ``find_path``.
        authorities: with the operator's lists, and the context of the check.

    Returns:
        What is known of the certificate of which least is known.

    Raises:
        ParseError: a CRL is not one.
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    pairs = zip((leaf, *path), path, strict=False)
    return weakest(*(_revocation(child, issuer, authorities) for child, issuer in pairs))


def _revocation(child: Certificate, issuer: Certificate, authorities: Authorities) -> Revocation:
    at = authorities.at
    own = at.cache.derived(
        "tpm lists",
        child.der,
        (child.der, issuer.der),
        lambda: lists_of(issuer, (child,), authorities.crls, schemes=SCHEMES, cache=at.cache),
        held=authorities.crls,
    )
    return revocation_status(own, issuer, at)
