"""One certificate: parsed strictly, and the checks of a path, one function each.

Signed bytes, names and keys are cut out as received: encoding them again takes longer, and what
was signed is what came. `cryptography` has parsed them before and accepts DER only, so the lengths
are right.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from regalia.appraisal.codes import AttestCode
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

_TAG_INTEGER = 0x02
_TAG_SEQUENCE = 0x30
_OID_COMMON_NAME = b"\x06\x03\x55\x04\x03"
_TEXT = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_LONG_LENGTH = 0x80

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


class Signed(NamedTuple):
    """The signed part of a certificate or list, and the signature over it."""

    tbs: bytes
    signature: bytes
    algorithm: tuple[int, int]  # where in ``tbs`` its identifier begins and ends


class Fields(NamedTuple):
    """Of a certificate; names and key with tag and length."""

    serial: int
    issuer: bytes
    subject: bytes
    spki: bytes  # SubjectPublicKeyInfo


def signed_part(der: bytes) -> Signed:
    """Split a certificate or CRL. One encoding for each: the unsigned rest repeats the signed part.

    Otherwise anybody could make twins of it: signatureAlgorithm repeats the signed one (RFC 5280
    4.1.1.2 and 5.1.1.2), and the signature's BIT STRING has no unused bits.

    Raises:
        ValueError: it is a twin, like the parser that saw the bytes before.
    """
    tbs_at = _element(der, 0)[0]
    tbs_start, tbs_end = _element(der, tbs_at)
    outer, outer_end = _element(der, tbs_end)
    start, end = _element(der, outer_end)
    at = tbs_start
    while der[at] != _TAG_SEQUENCE:  # past version and serial number
        at = _element(der, at)[1]
    inner, inner_end = _element(der, at)
    if der[inner:inner_end] != der[outer:outer_end]:
        raise ValueError("inner and outer signature algorithms differ")
    if der[start]:
        raise ValueError("the signature has unused bits")
    place = (at - tbs_at, inner_end - tbs_at)
    return Signed(der[tbs_at:tbs_end], der[start + 1 : end], place)


def certificate_fields(signed: Signed) -> Fields:
    """Serial number, names and key of a certificate (RFC 5280 4.1)."""
    tbs = signed.tbs
    algorithm_at, issuer_at = signed.algorithm
    serial_at = _element(tbs, 0)[0]
    if tbs[serial_at] != _TAG_INTEGER:  # the version stands before it
        serial_at = _element(tbs, serial_at)[1]
    serial_start = _element(tbs, serial_at)[0]
    issuer_end = _element(tbs, issuer_at)[1]
    subject_at = _element(tbs, issuer_end)[1]  # past the validity
    subject_end = _element(tbs, subject_at)[1]
    spki_end = _element(tbs, subject_end)[1]
    return Fields(
        int.from_bytes(tbs[serial_start:algorithm_at], "big", signed=True),
        tbs[issuer_at:issuer_end],
        tbs[subject_at:subject_end],
        tbs[subject_end:spki_end],
    )


def common_name(name: bytes) -> str:
    """The common name (RFC 5280 appendix A.1) in a whole name; empty if it has none.

    Raises:
        ValueError: there are two, or it is no text.
    """
    found = ""
    at, end = _element(name, 0)
    while at < end:
        attribute_at, at = _element(name, at)
        while attribute_at < at:  # of one relative name; mostly there is one
            start, attribute_at = _element(name, attribute_at)
            if not name.startswith(_OID_COMMON_NAME, start):
                continue
            text, text_end = _element(name, start + len(_OID_COMMON_NAME))
            encoding = _TEXT.get(name[start + len(_OID_COMMON_NAME)])
            if found or encoding is None or text == text_end:
                raise ValueError("a name has at most one common name, which is text")
            found = name[text:text_end].decode(encoding)
    return found


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the DER element at ``at`` begin and end."""
    size = der[at + 1]
    start = at + 2
    if size & _LONG_LENGTH:
        start += size & ~_LONG_LENGTH
        size = int.from_bytes(der[at + 2 : start], "big")
    return start, start + size
