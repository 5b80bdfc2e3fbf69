"""X.509 as AMD uses it: RSASSA-PSS signatures, leaves with serial number zero.

``cryptography``'s own path building refuses RSASSA-PSS, so the few checks that a chain of three
needs stand here, one function each. A ``Certificate`` is parsed and untrusted.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from regalia.attest.codes import AttestCode
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, CoreCode, ParseError

if TYPE_CHECKING:
    from datetime import datetime

CERTIFICATE_MAX = 8 * 1024  # bytes; AMD's are below 2 KiB
RSA_BITS = 4096
SALT_SIZE = 48  # bytes
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=SALT_SIZE)

# AMD's leaves have serial number 0, against RFC 5280. A canary test watches for the release of
# `cryptography` that stops parsing them.
SERIAL_ZERO_WARNING = "Parsed a serial number which wasn't positive"

_TAG_SEQUENCE = 0x30
_LONG_LENGTH = 0x80

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

    common_name: str
    issuer_common_name: str
    subject: bytes  # DER of the whole name
    issuer: bytes
    serial: int
    version: x509.Version
    key: object
    spki: bytes  # SubjectPublicKeyInfo, DER
    not_before: datetime
    not_after: datetime
    extensions: x509.Extensions
    tbs: bytes
    signature: bytes
    pss_sha384: bool

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
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=SERIAL_ZERO_WARNING, category=CryptographyDeprecationWarning
            )
            certificate = x509.load_der_x509_certificate(der)
            return _read(certificate, der)
    except FOREIGN_ERRORS as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: not an X.509 certificate: {exc}") from exc


def _read(certificate: x509.Certificate, der: bytes) -> Certificate:
    if certificate.serial_number < 0:
        raise ValueError("negative serial number")
    key = certificate.public_key()
    require_one_encoding(der, certificate.tbs_certificate_bytes, certificate.signature)
    return Certificate(
        common_name=_common_name(certificate.subject),
        issuer_common_name=_common_name(certificate.issuer),
        subject=certificate.subject.public_bytes(),
        issuer=certificate.issuer.public_bytes(),
        serial=certificate.serial_number,
        version=certificate.version,
        key=key,
        spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        extensions=certificate.extensions,
        tbs=certificate.tbs_certificate_bytes,
        signature=certificate.signature,
        pss_sha384=is_pss_sha384(
            certificate.signature_algorithm_oid, certificate.signature_hash_algorithm
        ),
    )


def require_one_encoding(der: bytes, tbs: bytes, signature: bytes) -> None:
    """The unsigned rest of a certificate or CRL is what the signed part implies.

    Otherwise anybody could make twins of it: signatureAlgorithm repeats the signed one (RFC 5280
    4.1.1.2 and 5.1.1.2), and the signature's BIT STRING has no unused bits. Raises ValueError,
    like the parser that saw the bytes before.
    """
    outer, outer_end = _element(der, _element(der, 0)[0] + len(tbs))
    at = _element(tbs, 0)[0]
    while tbs[at] != _TAG_SEQUENCE:  # past version and serial number
        at = _element(tbs, at)[1]
    inner, inner_end = _element(tbs, at)
    if tbs[inner:inner_end] != der[outer:outer_end]:
        raise ValueError("inner and outer signature algorithms differ")
    start, end = _element(der, outer_end)
    if der[start:end] != b"\x00" + signature:
        raise ValueError("the signature has unused bits")


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the DER element at ``at`` begin and end. The bytes parsed before."""
    size = der[at + 1]
    start = at + 2
    if size & _LONG_LENGTH:
        start += size & ~_LONG_LENGTH
        size = int.from_bytes(der[at + 2 : start], "big")
    return start, start + size


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1 or not isinstance(found[0].value, str):
        raise ValueError("a name needs exactly one common name")
    return found[0].value


def is_pss_sha384(oid: x509.ObjectIdentifier, digest: hashes.HashAlgorithm | None) -> bool:
    """Whether a signature is declared as AMD makes them."""
    return oid == SignatureAlgorithmOID.RSASSA_PSS and isinstance(digest, hashes.SHA384)


def require_signature(
    issuer: Certificate, signature: bytes, message: bytes, *, code: AttestCode, what: str
) -> None:
    """An RSASSA-PSS signature (SHA-384, MGF1 with SHA-384, salt 48 bytes) by an RSA-4096 key.

    Raises:
        AttestationError: ``code``.
    """
    if not isinstance(issuer.key, rsa.RSAPublicKey) or issuer.key.key_size != RSA_BITS:
        raise AttestationError(code, f"{what}: {issuer} has no RSA-{RSA_BITS} key")
    try:
        issuer.key.verify(signature, message, PSS, hashes.SHA384())
    except InvalidSignature as exc:
        raise AttestationError(code, f"{what}: not signed by {issuer}") from exc


def require_issued_by(child: Certificate, issuer: Certificate) -> None:
    """Names and signature lead from ``child`` to ``issuer``.

    Raises:
        AttestationError: CHAIN_INVALID.
    """
    if child.issuer != issuer.subject:
        raise chain_invalid(f"{child} does not name {issuer} as its issuer")
    if not child.pss_sha384:
        raise chain_invalid(f"{child} is not signed with RSASSA-PSS and SHA-384")
    require_signature(
        issuer, child.signature, child.tbs, code=AttestCode.CHAIN_INVALID, what=str(child)
    )


def require_authority(certificate: Certificate, *, path_length: int | None) -> None:
    """A CA: version 3, basicConstraints with that pathLen, keyCertSign, nothing unknown critical.

    Raises:
        AttestationError: CHAIN_INVALID.
    """
    require_version_3(certificate)
    require_known_critical(certificate, (x509.BasicConstraints.oid, x509.KeyUsage.oid))
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as exc:
        raise chain_invalid(f"{certificate}: basicConstraints or keyUsage is missing") from exc
    if not constraints.ca or constraints.path_length != path_length:
        raise chain_invalid(
            f"{certificate}: basicConstraints CA={constraints.ca} "
            f"pathLen={constraints.path_length}, want CA=True pathLen={path_length}"
        )
    if not usage.key_cert_sign:
        raise chain_invalid(f"{certificate}: keyUsage lacks keyCertSign")


def require_version_3(certificate: Certificate) -> None:
    """X.509 version 3, the only one with extensions. Raises AttestationError CHAIN_INVALID."""
    if certificate.version is not x509.Version.v3:
        raise chain_invalid(f"{certificate}: X.509 version is not 3")


def require_known_critical(
    certificate: Certificate, known: tuple[x509.ObjectIdentifier, ...]
) -> None:
    """No critical extension but the known ones. Raises AttestationError CHAIN_INVALID."""
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in known:
            raise chain_invalid(
                f"{certificate}: critical extension {extension.oid.dotted_string} is not known"
            )


def require_valid_at(certificate: Certificate, now: datetime) -> None:
    """``now`` lies in the certificate's validity, both ends included.

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
