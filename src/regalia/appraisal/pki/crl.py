"""Certificate revocation lists (RFC 5280 section 5): parsing, and the checks of one list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki.certificates import FOREIGN_ERRORS
from regalia.appraisal.pki.der import signed_part
from regalia.appraisal.pki.schemes import require_signature, scheme_of
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from regalia.appraisal.pki.certificates import Certificate
    from regalia.appraisal.pki.schemes import Scheme

CRL_MAX = 1 << 20  # bytes


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
