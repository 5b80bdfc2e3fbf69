"""A throw-away vendor: its root, one authority, chips' certificates and revocation lists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from regalia.tees.accelerator.evidence.anchors import ROOT_NAME

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

ORGANIZATION = "Regalia simulation - protects nothing"
ISSUER_NAME = "Example Accelerator Chips"
LIFE = timedelta(days=365)
BACKDATED = timedelta(hours=1)  # so that a verifier whose clock is a little behind accepts


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePlan:
    """One certificate to be issued. ``dataclasses.replace`` makes a defective variant."""

    subject: str
    issuer: str
    key: ec.EllipticCurvePublicKey
    not_before: datetime
    not_after: datetime
    path_length: int | None  # None: no authority
    may_sign: bool = True

    def sign(self, signer: ec.EllipticCurvePrivateKey) -> bytes:
        """The certificate in DER."""
        ca = self.path_length is not None
        usage = x509.KeyUsage(
            digital_signature=self.may_sign and not ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=not self.may_sign,
            key_cert_sign=ca,
            crl_sign=ca,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(self.subject))
            .issuer_name(_name(self.issuer))
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .public_key(self.key)
            .add_extension(x509.BasicConstraints(ca, self.path_length), critical=True)
            .add_extension(usage, critical=True)
        )
        return builder.sign(signer, hashes.SHA384()).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True, repr=False)
class AcceleratorAuthority:
    """The vendor's keys."""

    root_key: ec.EllipticCurvePrivateKey
    issuer_key: ec.EllipticCurvePrivateKey
    since: datetime

    def root(self) -> CertificatePlan:
        """The root, for ``root_key`` to sign."""
        return self._plan(ROOT_NAME, ROOT_NAME, self.root_key.public_key(), 1)

    def issuer(self) -> CertificatePlan:
        """The authority of chips, for ``root_key`` to sign."""
        return self._plan(ISSUER_NAME, ROOT_NAME, self.issuer_key.public_key(), 0)

    def chip(self, chip_id: bytes, key: ec.EllipticCurvePublicKey) -> CertificatePlan:
        """A chip's certificate, for ``issuer_key`` to sign."""
        return self._plan(chip_id.hex(), ISSUER_NAME, key, None)

    def lists(self, *revoked: bytes) -> tuple[bytes, bytes]:
        """The lists of root and authority, in DER. Each names what it issued of ``revoked``."""
        found = [x509.load_der_x509_certificate(der) for der in revoked]
        return (
            self._list(ROOT_NAME, self.root_key, found),
            self._list(ISSUER_NAME, self.issuer_key, found),
        )

    def _plan(
        self, subject: str, issuer: str, key: ec.EllipticCurvePublicKey, path_length: int | None
    ) -> CertificatePlan:
        return CertificatePlan(
            subject=subject,
            issuer=issuer,
            key=key,
            not_before=self.since - BACKDATED,
            not_after=self.since + LIFE,
            path_length=path_length,
        )

    def _list(
        self, name: str, key: ec.EllipticCurvePrivateKey, revoked: list[x509.Certificate]
    ) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(name))
            .last_update(self.since - BACKDATED)
            .next_update(self.since + LIFE)
        )
        for certificate in revoked:
            if certificate.issuer == _name(name):
                entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
                dated = entry.revocation_date(self.since - BACKDATED)
                builder = builder.add_revoked_certificate(dated.build())
        return builder.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
