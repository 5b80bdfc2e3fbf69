"""An authority of tests, for servers on loopback and their clients."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass(frozen=True)
class Authority:
    """Issues certificates that are valid from an hour ago until a day from now."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str = "authority of tests") -> Self:
        key = rsa.generate_private_key(65537, 2048)
        builder = _builder(name, name, key.public_key())
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        return cls(key, builder.sign(key, SHA256()))

    def write(self, path: Path) -> None:
        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue_server(self, certificate: Path, key: Path) -> None:
        """For 127.0.0.1."""
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = x509.SubjectAlternativeName([address, x509.DNSName("localhost")])
        self._issue("server", certificate, key, ExtendedKeyUsageOID.SERVER_AUTH, names=names)

    def issue_client(self, certificate: Path, key: Path, name: str, *, ended: bool = False) -> None:
        """For a client of this name; ``ended`` for one that was valid until a minute ago."""
        end = datetime.now(UTC) - timedelta(minutes=1) if ended else None
        self._issue(name, certificate, key, ExtendedKeyUsageOID.CLIENT_AUTH, end=end)

    def _issue(
        self,
        name: str,
        certificate: Path,
        key: Path,
        usage: x509.ObjectIdentifier,
        *,
        names: x509.SubjectAlternativeName | None = None,
        end: datetime | None = None,
    ) -> None:
        private = rsa.generate_private_key(65537, 2048)
        issuer = self.certificate.subject.rfc4514_string().removeprefix("CN=")
        builder = _builder(name, issuer, private.public_key(), end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)  # noqa: FBT003
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
            critical=False,
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        certificate.write_bytes(builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM))
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key.chmod(0o600)


_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def _builder(
    subject: str, issuer: str, key: rsa.RSAPublicKey, end: datetime | None = None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(_named(issuer), _named(subject), key, x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1) if end is None else end)
    )
