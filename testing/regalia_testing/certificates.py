"""Certificates and revocation lists of simulated authorities, ECDSA, with room for one defect each.

Simulated AMD is apart: its RSA-PSS certificates are assembled byte by byte in ``der``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.extensions import ExtensionType

    PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

ORGANIZATION = "Regalia simulation - protects nothing"
BACKDATED = timedelta(hours=1)  # so that a verifier whose clock is a little behind accepts
AUTHORITY_USAGE = ("key_cert_sign", "crl_sign")
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)

Digest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePlan:
    """One certificate to be issued. ``dataclasses.replace`` makes a defective variant.

    Attributes:
        subject: common name; empty for a certificate without a name.
        issuer: common name.
        serial: 0 draws one.
        constraints: whether there are basicConstraints at all.
        usage: keyUsage, in the words of ``cryptography``; empty leaves the extension out.
        extensions: further ones, each with whether it is critical.
        unknown_critical: adds a critical extension that nobody knows.
    """

    subject: str
    issuer: str
    serial: int = 0
    key: PublicKey
    not_before: datetime
    not_after: datetime
    ca: bool = True
    path_length: int | None = None
    constraints: bool = True
    usage: tuple[str, ...] = AUTHORITY_USAGE
    usage_critical: bool = True
    extensions: tuple[tuple[ExtensionType, bool], ...] = ()
    unknown_critical: bool = False
    digest: Digest = field(default_factory=hashes.SHA384)

    def sign(self, signer: ec.EllipticCurvePrivateKey) -> bytes:
        """The certificate in DER. The same plan and key give the same bytes, if it has a serial."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(simulated_name(self.subject) if self.subject else x509.Name([]))
            .issuer_name(simulated_name(self.issuer))
            .serial_number(self.serial or x509.random_serial_number())
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .public_key(self.key)
        )
        for extension, critical in self._extensions():
            builder = builder.add_extension(extension, critical=critical)
        signed = builder.sign(signer, self.digest, ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)

    def _extensions(self) -> list[tuple[ExtensionType, bool]]:
        found: list[tuple[ExtensionType, bool]] = []
        if self.constraints:
            length = self.path_length if self.ca else None
            found.append((x509.BasicConstraints(ca=self.ca, path_length=length), True))
        if self.usage:
            usage = x509.KeyUsage(**{name: name in self.usage for name in _USAGES})
            found.append((usage, self.usage_critical))
        found += self.extensions
        if self.unknown_critical:
            unknown = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
            found.append((x509.UnrecognizedExtension(unknown, b"\x05\x00"), True))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlPlan:
    """One revocation list to be issued. ``dataclasses.replace`` makes a defective variant.

    Attributes:
        issuer: common name.
        serials: of revoked certificates.
        extensions: none of them critical.
    """

    issuer: str
    this_update: datetime
    next_update: datetime
    serials: Sequence[int] = ()
    extensions: tuple[ExtensionType, ...] = ()
    digest: Digest = field(default_factory=hashes.SHA384)

    def sign(self, signer: ec.EllipticCurvePrivateKey) -> bytes:
        """The list in DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(simulated_name(self.issuer))
            .last_update(self.this_update)
            .next_update(self.next_update)
        )
        for extension in self.extensions:
            builder = builder.add_extension(extension, critical=False)
        for serial in self.serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            dated = entry.revocation_date(self.this_update)
            builder = builder.add_revoked_certificate(dated.build())
        signed = builder.sign(signer, self.digest, ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)


def simulated_name(common_name: str) -> x509.Name:
    """A vendor's common name, and an organization that says that this is not the vendor."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
