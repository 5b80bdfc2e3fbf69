"""Whether a device's certificates are known not to be revoked.

NVIDIA answers for devices online only (OCSP) and publishes lists for its authorities. An
operator's dated list of denied keys, made from those answers, covers both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.collateral_rule import RevocationRule
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.tees.nvidia.evidence.chain import Path
    from regalia.tees.nvidia.evidence.collateral import Links, PreparedNvidia


def check_revocation(path: Path, collateral: PreparedNvidia, at: AppraisalContext) -> Revocation:
    """No key is denied, no list names a certificate, and what says so is in date.

    A list that names a certificate counts whatever its dates and whatever the rule says. A chain
    is checked if a list of denied keys is in date, or if every authority above the device has a
    CRL that is. (The device itself issues the leaf, and no list.)

    Args:
        path: leads to a pinned root, as the caller has verified.
        collateral: what the verifier's operator provides, prepared.
        at: the context of the appraisal.

    Raises:
        AttestationError: CERT_REVOKED, CRL_MISSING, CRL_STALE or CRL_SIG_INVALID.
    """
    rule, now = at.rule, at.now
    if not collateral.denied.isdisjoint(path.fingerprints):
        denied = [
            str(certificate)
            for certificate, fingerprint in zip(path.certificates, path.fingerprints, strict=True)
            if fingerprint in collateral.denied
        ]
        raise _revoked(f"the key of {' and '.join(denied)} is denied")
    current, late, stale = _by_lists(path, collateral, at)
    if current or any(denials.is_current(now) for denials in collateral.denials):
        return Revocation.CHECKED
    if late or any(denials.is_late(now, rule.grace) for denials in collateral.denials):
        return Revocation.GRACE
    if rule.revocation is RevocationRule.ANY:
        return Revocation.UNKNOWN
    if stale or collateral.denials:
        raise AttestationError(
            AttestCode.CRL_STALE, f"no list of revoked or denied keys is in date at {rfc3339(now)}"
        )
    raise AttestationError(
        AttestCode.CRL_MISSING,
        f"neither CRLs of all authorities above {path.device} nor a list of denied keys was given",
    )


def _by_lists(
    path: Path, collateral: PreparedNvidia, at: AppraisalContext
) -> tuple[bool, bool, bool]:
    """Whether all lists are in date, whether all are at most late, whether one is out of date."""
    if not collateral.crls:
        return False, False, False
    links = collateral.links.get(path.ders)
    if links is None:
        links = collateral.remember_links(path.ders, _links(path, collateral))
    rule, now = at.rule, at.now
    current, late, stale = True, True, False
    for crls in links:
        fresh = any(crl.is_current(now) for crl in crls)
        current = current and fresh
        late = late and (fresh or any(crl.is_late(now, rule.grace) for crl in crls))
        stale = stale or bool(crls and not fresh)
    return current, late, stale


def _links(path: Path, collateral: PreparedNvidia) -> Links:
    """For each authority above the device its lists, whatever their dates; none names who is below.

    Raises:
        AttestationError: CERT_REVOKED, CRL_MISSING or CRL_SIG_INVALID.
    """
    links = []
    for subject, issuer in zip(path.certificates[1:], path.certificates[2:], strict=False):
        crls = collateral.crls_of(issuer)
        if any(crl.lists(subject.serial) for crl in crls):
            raise _revoked(f"{subject} is listed in the CRL of {issuer}")
        links.append(crls)
    return tuple(links)


def _revoked(what: str) -> AttestationError:
    return AttestationError(AttestCode.CERT_REVOKED, what)
