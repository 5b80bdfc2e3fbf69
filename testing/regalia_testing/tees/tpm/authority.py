"""A throw-away maker of TPMs: a root, an issuing authority, EK and AK certificates, lists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from regalia.tees.tpm.model import TPM_MANUFACTURER, TPM_MODEL, TPM_VERSION, TpmModel

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.tees.tpm.evidence.keys import PublicKey

EK_USAGE = "2.23.133.8.1"
AK_USAGE = "2.23.133.8.3"
HARDWARE_TPM = TpmModel("id:58595A00", "XYZ 9000", "id:00070002")
SOFTWARE_TPM = TpmModel("id:00001014", "swtpm", "id:20191023")
YEAR = timedelta(days=365)
_ORGANIZATION = "Regalia simulation - protects nothing"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafSpec:
    """A certificate of a TPM's key. ``dataclasses.replace`` makes a defective variant."""

    key: PublicKey
    usage: str = EK_USAGE  # empty: no extended key usage
    key_usages: tuple[str, ...] = ("key_agreement",)  # empty: no key usage
    model: TpmModel | None = HARDWARE_TPM
    ca: bool = False
    critical: str = ""  # OID of a critical extension that nobody knows
    serial: int = 4711
    age: timedelta = YEAR
    life: timedelta = 10 * YEAR

    @classmethod
    def ek(cls, key: PublicKey) -> LeafSpec:
        """As the EK Credential Profile has it."""
        rsa_key = isinstance(key, rsa.RSAPublicKey)
        return cls(key=key, key_usages=("key_encipherment" if rsa_key else "key_agreement",))

    @classmethod
    def ak(cls, key: PublicKey) -> LeafSpec:
        """As the AK profile has it."""
        return cls(key=key, usage=AK_USAGE, key_usages=("digital_signature",))


@dataclass(frozen=True, slots=True, repr=False)
class TpmAuthority:
    """Root and issuing authority, with their keys."""

    name: str
    root_key: ec.EllipticCurvePrivateKey
    issuer_key: ec.EllipticCurvePrivateKey
    now: datetime

    @classmethod
    def create(cls, *, now: datetime, name: str = "Simulated TPM maker") -> TpmAuthority:
        """Fresh keys."""
        root, issuer = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
        return cls(name, root, issuer, now)

    @property
    def root_name(self) -> x509.Name:
        """Of the root."""
        return _name(f"{self.name} root")

    @property
    def issuer_name(self) -> x509.Name:
        """Of the issuing authority."""
        return _name(f"{self.name} EK CA")

    def root(self, *, path_length: int | None = None) -> bytes:
        """The root's certificate, DER; another one each time, with the same key."""
        return self._authority(self.root_name, self.root_key, path_length)

    def issuer(self, *, path_length: int | None = 0, ca: bool = True) -> bytes:
        """The issuing authority's certificate, DER."""
        return self._authority(self.issuer_name, self.issuer_key, path_length, ca=ca)

    def _authority(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        path_length: int | None,
        *,
        ca: bool = True,
    ) -> bytes:
        builder = _builder(subject, self.root_name, key.public_key(), serial=1000)
        builder = builder.not_valid_before(self.now - YEAR).not_valid_after(self.now + 20 * YEAR)
        constraints = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
        builder = builder.add_extension(constraints, critical=True)
        builder = builder.add_extension(_usage(("key_cert_sign", "crl_sign")), critical=True)
        signed = builder.sign(self.root_key, hashes.SHA384(), ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)

    def leaf(self, spec: LeafSpec) -> bytes:
        """A certificate of a TPM's key, DER."""
        builder = _builder(x509.Name([]), self.issuer_name, spec.key, serial=spec.serial)
        since = self.now - spec.age
        builder = builder.not_valid_before(since).not_valid_after(since + spec.life)
        builder = builder.add_extension(x509.BasicConstraints(spec.ca, None), critical=True)
        if spec.key_usages:
            builder = builder.add_extension(_usage(spec.key_usages), critical=True)
        if spec.usage:
            usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier(spec.usage)])
            builder = builder.add_extension(usage, critical=False)
        if spec.model is not None:
            builder = builder.add_extension(_alternative_name(spec.model), critical=True)
        if spec.critical:
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(spec.critical), b"\x05\x00")
            builder = builder.add_extension(unknown, critical=True)
        return builder.sign(self.issuer_key, hashes.SHA256()).public_bytes(Encoding.DER)

    def crls(
        self, *, revoked: int | None = None, age: timedelta = timedelta(0)
    ) -> tuple[bytes, ...]:
        """Lists of root and issuing authority, DER, in date for a month."""
        return (
            self._crl(self.root_name, self.root_key, revoked, age),
            self._crl(self.issuer_name, self.issuer_key, revoked, age),
        )

    def _crl(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        revoked: int | None,
        age: timedelta,
    ) -> bytes:
        since = self.now - age - timedelta(hours=1)
        builder = x509.CertificateRevocationListBuilder().issuer_name(name)
        builder = builder.last_update(since).next_update(since + timedelta(days=30))
        if revoked is not None:
            entry = x509.RevokedCertificateBuilder().serial_number(revoked).revocation_date(since)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, *, serial: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    return builder.public_key(key).serial_number(serial)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _usage(wanted: tuple[str, ...]) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in wanted for name in _USAGES})


def _alternative_name(model: TpmModel) -> x509.SubjectAlternativeName:
    values = (
        (TPM_MANUFACTURER, model.manufacturer),
        (TPM_MODEL, model.model),
        (TPM_VERSION, model.version),
    )
    attributes = [x509.NameAttribute(oid, value) for oid, value in values]
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(attributes))])
