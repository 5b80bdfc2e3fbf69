"""One certificate: parsed strictly, and the checks of a path, one function each."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki.der import certificate_fields, common_name, signed_part
from regalia.appraisal.pki.schemes import require_signature, scheme_of
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from regalia.appraisal.pki.schemes import Scheme

    Constraints = x509.BasicConstraints | None
    Usage = x509.KeyUsage | None

CERTIFICATE_MAX = 8 * 1024  # bytes; vendors' are below 3 KiB

# AMD's leaves have serial number 0, against RFC 5280. A canary test watches for the release of
# `cryptography` that stops parsing them.
SERIAL_ZERO_WARNING = "Parsed a serial number which wasn't positive"

# Version 3, then the serial number; the parser warns of none but zero and negative ones.
_SERIAL = b"\xa0\x03\x02\x01\x02\x02"
_SERIAL_WITHIN = 16  # bytes: it follows the heads of two sequences
_ZERO = b"\x01\x00"
_NEGATIVE = b"\x80"

# warnings.catch_warnings changes the state of the process: one thread at a time.
_WARNINGS_LOCK = threading.Lock()

# What `cryptography` raises on bytes that are not what they should be.
FOREIGN_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the checks look at, read out of one certificate. Untrusted."""

    der: bytes
    common_name: str  # empty if the name has none; some EK certificates have no subject
    issuer_common_name: str
    subject: bytes  # the whole name in DER, as received; like issuer, spki and tbs
    issuer: bytes
    serial: int
    version: x509.Version
    key: object
    spki: bytes  # SubjectPublicKeyInfo, DER
    not_before: datetime
    not_after: datetime
    extensions: x509.Extensions
    basic_constraints: x509.BasicConstraints | None  # None if the extension is absent
    key_usage: x509.KeyUsage | None  # likewise
    critical: tuple[x509.ObjectIdentifier, ...]  # of the extensions that are critical
    names_crls: bool  # its issuer says where it publishes lists (cRLDistributionPoints)
    tbs: bytes
    signature: bytes
    scheme: Scheme  # of the signature on this certificate

    def __str__(self) -> str:
        return f"certificate {self.common_name[:80]!r}"


def parse_certificate(der: bytes, *, what: str) -> Certificate:
    """Parse one certificate in DER.

    Args:
        der: raw, untrusted.
        what: where it came from, for messages.

    Raises:
        ParseError: TOO_LARGE or MALFORMED; the latter also for trailing bytes, duplicate
            extensions and keys of unknown types.
    """
    if len(der) > CERTIFICATE_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(der)} bytes, at most {CERTIFICATE_MAX}")
    try:
        return _read(_load(der), der)
    except FOREIGN_ERRORS as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: not an X.509 certificate: {exc}") from exc


def _load(der: bytes) -> x509.Certificate:
    at = der.find(_SERIAL, 0, _SERIAL_WITHIN) + len(_SERIAL)
    serial = der[at : at + 2]
    if at >= len(_SERIAL) and serial != _ZERO and serial[1:] < _NEGATIVE:
        return x509.load_der_x509_certificate(der)
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=SERIAL_ZERO_WARNING, category=CryptographyDeprecationWarning
        )
        return x509.load_der_x509_certificate(der)


def _read(certificate: x509.Certificate, der: bytes) -> Certificate:
    signed = signed_part(der)
    fields = certificate_fields(signed)
    if fields.serial < 0:
        raise ValueError("negative serial number")
    extensions = certificate.extensions
    found = {type(extension.value): extension.value for extension in extensions}
    return Certificate(
        der=der,
        common_name=common_name(fields.subject),
        issuer_common_name=common_name(fields.issuer),
        subject=fields.subject,
        issuer=fields.issuer,
        serial=fields.serial,
        version=certificate.version,
        key=certificate.public_key(),
        spki=fields.spki,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        extensions=extensions,
        basic_constraints=cast("Constraints", found.get(x509.BasicConstraints)),
        key_usage=cast("Usage", found.get(x509.KeyUsage)),
        critical=tuple(extension.oid for extension in extensions if extension.critical),
        names_crls=x509.CRLDistributionPoints in found,
        tbs=signed.tbs,
        signature=signed.signature,
        scheme=scheme_of(certificate.signature_algorithm_oid, certificate.signature_hash_algorithm),
    )


def require_issued_by(child: Certificate, issuer: Certificate, schemes: Collection[Scheme]) -> None:
    """Names and signature lead from ``child`` to ``issuer``, in one of the accepted schemes.

    Args:
        child: untrusted until this returns.
        issuer: whose key must have signed it.
        schemes: that the issuer may sign with.

    Raises:
        AttestationError: CHAIN_INVALID.
    """
    if child.issuer != issuer.subject:
        raise chain_invalid(f"{child} does not name {issuer} as its issuer")
    if child.scheme not in schemes:
        raise chain_invalid(f"{child} is signed with {child.scheme.value}")
    require_signature(
        issuer.key,
        child.scheme,
        child.signature,
        child.tbs,
        code=AttestCode.CHAIN_INVALID,
        what=f"{child}, issued by {issuer}",
    )


def require_authority(certificate: Certificate, *, path_length: int | None) -> None:
    """A CA: version 3, basicConstraints with that pathLen, keyCertSign, nothing unknown critical.

    Args:
        certificate: that must be an authority's.
        path_length: that it must state; None if it must state none.

    Raises:
        AttestationError: CHAIN_INVALID.
    """
    constraints = require_ca(certificate)
    if constraints.path_length != path_length:
        raise chain_invalid(
            f"{certificate}: basicConstraints CA=True pathLen={constraints.path_length}, "
            f"want CA=True pathLen={path_length}"
        )


def require_ca(certificate: Certificate) -> x509.BasicConstraints:
    """``require_authority`` for vendors whose path lengths vary: returns the constraints.

    Raises:
        AttestationError: CHAIN_INVALID.
    """
    require_version_3(certificate)
    require_known_critical(certificate, (x509.BasicConstraints.oid, x509.KeyUsage.oid))
    constraints, usage = certificate.basic_constraints, certificate.key_usage
    if constraints is None or usage is None:
        raise chain_invalid(f"{certificate}: basicConstraints or keyUsage is missing")
    if not constraints.ca:
        raise chain_invalid(f"{certificate}: basicConstraints CA=False, want CA=True")
    if not usage.key_cert_sign:
        raise chain_invalid(f"{certificate}: keyUsage lacks keyCertSign")
    return constraints


def require_version_3(certificate: Certificate) -> None:
    """X.509 version 3, the only one with extensions. Raises AttestationError CHAIN_INVALID."""
    if certificate.version is not x509.Version.v3:
        raise chain_invalid(f"{certificate}: X.509 version is not 3")


def require_known_critical(
    certificate: Certificate, known: tuple[x509.ObjectIdentifier, ...]
) -> None:
    """No critical extension but the known ones. Raises AttestationError CHAIN_INVALID.

    Args:
        certificate: that is looked at.
        known: extensions that this program understands.
    """
    for oid in certificate.critical:
        if oid not in known:
            raise chain_invalid(
                f"{certificate}: critical extension {oid.dotted_string} is not known"
            )


def require_valid_at(certificate: Certificate, now: datetime) -> None:
    """``now`` lies in the certificate's validity, both ends included.

    Args:
        certificate: that is looked at.
        now: the moment of the appraisal, aware.

    Raises:
        AttestationError: CERT_EXPIRED or CERT_NOT_YET_VALID.
    """
    if now < certificate.not_before:
        raise AttestationError(
            AttestCode.CERT_NOT_YET_VALID,
            f"{certificate} is valid from {rfc3339(certificate.not_before)}, "
            f"and now is {rfc3339(now)}",
        )
    if now > certificate.not_after:
        raise AttestationError(
            AttestCode.CERT_EXPIRED,
            f"{certificate} was valid until {rfc3339(certificate.not_after)}, "
            f"and now is {rfc3339(now)}",
        )


def chain_invalid(what: str) -> AttestationError:
    """A CHAIN_INVALID refusal."""
    return AttestationError(AttestCode.CHAIN_INVALID, what)
