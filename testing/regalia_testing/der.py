"""Certificates and CRLs assembled byte by byte, so that each can have exactly one defect.

Certificate builders refuse what AMD really issues (serial number 0) and what an attacker may
send (a duplicate extension, a CRL without a next update). Here a ``CertificateSpec`` is taken
at its word. DER is that of RFC 5280.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x02, 0x03, 0x04, 0x05, 0x06
IA5_STRING, UTC_TIME, GENERALIZED_TIME = 0x16, 0x17, 0x18
SEQUENCE, BOOLEAN = 0x30, 0x01

_LONG_LENGTH = 0x80
_UTC_TIME_UNTIL = 2050

_OID_PSS = "1.2.840.113549.1.1.10"
_OID_MGF1 = "1.2.840.113549.1.1.8"
_OID_DIGEST = {"sha256": "2.16.840.1.101.3.4.2.1", "sha384": "2.16.840.1.101.3.4.2.2"}
_OID_RSA_SHA384 = "1.2.840.113549.1.1.12"  # PKCS #1 v1.5

Extension = tuple[str, bool, bytes]  # dotted OID, critical, octets


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """How a certificate or CRL is signed; the default is AMD's way."""

    padding: Literal["pss", "pkcs1v15"] = "pss"
    digest: Literal["sha256", "sha384"] = "sha384"
    salt: int = 48  # bytes

    def algorithm(self) -> bytes:
        """AlgorithmIdentifier (RFC 4055)."""
        if self.padding == "pkcs1v15":
            return tlv(SEQUENCE, oid(_OID_RSA_SHA384), tlv(NULL))
        digest = tlv(SEQUENCE, oid(_OID_DIGEST[self.digest]), tlv(NULL))
        return tlv(
            SEQUENCE,
            oid(_OID_PSS),
            tlv(
                SEQUENCE,
                tlv(0xA0, digest),
                tlv(0xA1, tlv(SEQUENCE, oid(_OID_MGF1), digest)),
                tlv(0xA2, integer(self.salt)),
            ),
        )

    def sign(self, key: rsa.RSAPrivateKey, message: bytes) -> bytes:
        """Sign with exactly these parameters."""
        digest = hashes.SHA384() if self.digest == "sha384" else hashes.SHA256()
        if self.padding == "pkcs1v15":
            return key.sign(message, padding.PKCS1v15(), digest)
        pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=self.salt)
        return key.sign(message, pss, digest)


AMD_SCHEME = SignatureScheme()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSpec:
    """One certificate to be signed. ``dataclasses.replace`` makes a defective variant."""

    subject: x509.Name
    issuer: x509.Name
    serial: int
    not_before: datetime
    not_after: datetime
    key: PublicKeyTypes
    extensions: tuple[Extension, ...]
    version: int = 3
    scheme: SignatureScheme = AMD_SCHEME

    def sign(self, signer: rsa.RSAPrivateKey) -> bytes:
        """The certificate in DER."""
        spki = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        tbs = tlv(
            SEQUENCE,
            tlv(0xA0, integer(self.version - 1)) if self.version > 1 else b"",
            integer(self.serial),
            self.scheme.algorithm(),
            self.issuer.public_bytes(),
            tlv(SEQUENCE, time(self.not_before), time(self.not_after)),
            self.subject.public_bytes(),
            spki,
            tlv(0xA3, _extensions(self.extensions)) if self.extensions else b"",
        )
        return _signed(tbs, signer, self.scheme)

    def without(self, dotted: str) -> tuple[Extension, ...]:
        """The extensions, less one."""
        return tuple(extension for extension in self.extensions if extension[0] != dotted)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlSpec:
    """One revocation list to be signed."""

    issuer: x509.Name
    this_update: datetime
    next_update: datetime | None
    serials: tuple[int, ...] = ()
    extensions: tuple[Extension, ...] = ()
    scheme: SignatureScheme = AMD_SCHEME

    def sign(self, signer: rsa.RSAPrivateKey) -> bytes:
        """The CRL in DER, version 2."""
        entries = (tlv(SEQUENCE, integer(s), time(self.this_update)) for s in self.serials)
        tbs = tlv(
            SEQUENCE,
            integer(1),
            self.scheme.algorithm(),
            self.issuer.public_bytes(),
            time(self.this_update),
            b"" if self.next_update is None else time(self.next_update),
            tlv(SEQUENCE, *entries) if self.serials else b"",
            tlv(0xA0, _extensions(self.extensions)) if self.extensions else b"",
        )
        return _signed(tbs, signer, self.scheme)


def _signed(tbs: bytes, signer: rsa.RSAPrivateKey, scheme: SignatureScheme) -> bytes:
    signature = scheme.sign(signer, tbs)
    return tlv(SEQUENCE, tbs, scheme.algorithm(), tlv(BIT_STRING, b"\x00" + signature))


def _extensions(extensions: tuple[Extension, ...]) -> bytes:
    return tlv(
        SEQUENCE,
        *(
            tlv(
                SEQUENCE,
                oid(dotted),
                tlv(BOOLEAN, b"\xff") if critical else b"",
                tlv(OCTET_STRING, octets),
            )
            for dotted, critical, octets in extensions
        ),
    )


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    body = b"".join(parts)
    size = len(body)
    if size < _LONG_LENGTH:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_LENGTH | len(length))) + length + body


def integer(value: int) -> bytes:
    """DER INTEGER of a value that is not negative."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """DER OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    out = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        out += bytes(reversed(septets))
    return tlv(OID, bytes(out))


def time(moment: datetime) -> bytes:
    """UTCTime before 2050, GeneralizedTime from then on (RFC 5280 4.1.2.5)."""
    moment = moment.astimezone(UTC)
    if moment.year < _UTC_TIME_UNTIL:
        return tlv(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())
