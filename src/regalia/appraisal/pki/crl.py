"""Certificate revocation lists (RFC 5280 section 5): parsing, checks, and what they amount to.

Which authorities must have lists is each vendor's own rule. What a list amounts to is one rule for
all (section 6.3): a list counts if it is complete and its issuer signed it; a certificate that it
names is refused whatever its dates; dates decide what is known of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from regalia.appraisal.claims import Revocation
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.collateral_rule import RevocationRule
from regalia.appraisal.pki.certificates import FOREIGN_ERRORS, signed_part
from regalia.appraisal.pki.schemes import require_signature, scheme_of
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime, timedelta

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.pki.cache import Cache
    from regalia.appraisal.pki.certificates import Certificate
    from regalia.appraisal.pki.schemes import Scheme

CRL_MAX = 1 << 20  # bytes
_WORST_LAST = (Revocation.CHECKED, Revocation.GRACE, Revocation.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Crl:
    """What the checks look at, read out of one list. Untrusted until ``require_signed_by``."""

    der: bytes
    issuer: bytes  # DER of the whole name
    this_update: datetime
    next_update: datetime | None
    scheme: Scheme
    critical: tuple[str, ...]  # OIDs of critical extensions
    tbs: bytes
    signature: bytes
    revoked: x509.CertificateRevocationList
    serials: frozenset[int]  # of what it revokes: searching a list takes as long as it is

    def lists(self, serial: int) -> bool:
        """Whether a certificate with this serial number is revoked."""
        return serial in self.serials

    def is_current(self, now: datetime) -> bool:
        """A list without a next update never ages, so it is never current."""
        return self.next_update is not None and self.this_update <= now <= self.next_update

    def is_late(self, now: datetime, grace: timedelta) -> bool:
        """Out of date by no more than ``grace``: for a policy that says so by name.

        Args:
            now: the moment of the appraisal, aware.
            grace: how long a list counts after its next update.
        """
        return self.next_update is not None and (self.next_update < now <= self.next_update + grace)

    def dates(self) -> str:
        """For messages."""
        until = "no next update" if self.next_update is None else rfc3339(self.next_update)
        return f"{rfc3339(self.this_update)} to {until}"


def issuer_names(der: bytes) -> tuple[str, ...]:
    """Common names of who issued a list: there is mostly one. Raises ParseError."""
    names = parse_crl(der).revoked.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return tuple(str(name.value) for name in names)


def parse_crl(der: bytes) -> Crl:
    """Parse one CRL in DER; nothing is verified. Raises ParseError TOO_LARGE or MALFORMED."""
    if len(der) > CRL_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"CRL: {len(der)} bytes, at most {CRL_MAX}")
    try:
        crl = x509.load_der_x509_crl(der)
        signed = signed_part(der)
        return Crl(
            der=der,
            issuer=crl.issuer.public_bytes(),
            this_update=crl.last_update_utc,
            next_update=crl.next_update_utc,
            scheme=scheme_of(crl.signature_algorithm_oid, crl.signature_hash_algorithm),
            critical=tuple(e.oid.dotted_string for e in crl.extensions if e.critical),
            tbs=signed.tbs,
            signature=signed.signature,
            revoked=crl,
            serials=frozenset(each.serial_number for each in crl),
        )
    except FOREIGN_ERRORS as exc:
        raise ParseError(CoreCode.MALFORMED, f"not a CRL: {exc}") from exc


def require_complete(crl: Crl) -> None:
    """A delta, partial or indirect list says so in a critical extension (RFC 5280 5.2).

    Raises:
        AttestationError: CRL_MISSING.
    """
    if crl.critical:
        raise AttestationError(
            AttestCode.CRL_MISSING,
            f"the CRL is not a complete one: it has critical extensions {list(crl.critical)}",
        )


def require_signed_by(crl: Crl, issuer: Certificate, schemes: Collection[Scheme]) -> None:
    """The list is signed by ``issuer``, which may sign lists.

    Args:
        crl: untrusted until this returns.
        issuer: whose key must have signed it.
        schemes: that the issuer may sign with.

    Raises:
        AttestationError: CRL_SIG_INVALID.
    """
    if crl.scheme not in schemes:
        raise AttestationError(
            AttestCode.CRL_SIG_INVALID,
            f"the CRL is signed with {crl.scheme.value}, want "
            f"{' or '.join(sorted(scheme.value for scheme in schemes))}",
        )
    usage = issuer.key_usage
    if usage is None or not usage.crl_sign:
        raise AttestationError(AttestCode.CRL_SIG_INVALID, f"{issuer}: keyUsage lacks cRLSign")
    require_signature(
        issuer.key,
        crl.scheme,
        crl.signature,
        crl.tbs,
        code=AttestCode.CRL_SIG_INVALID,
        what=f"revocation list of {issuer}",
    )


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
