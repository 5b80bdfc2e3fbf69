"""A throw-away maker of TPMs: a root, an issuing authority, EK and AK certificates, lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from regalia.tees.tpm.model import TPM_MANUFACTURER, TPM_MODEL, TPM_VERSION, TpmModel
from regalia_testing.certificates import BACKDATED, CertificatePlan, CrlPlan

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.tees.tpm.evidence.keys import PublicKey

EK_USAGE = "2.23.133.8.1"
AK_USAGE = "2.23.133.8.3"
HARDWARE_TPM = TpmModel("id:58595A00", "XYZ 9000", "id:00070002")
SOFTWARE_TPM = TpmModel("id:00001014", "swtpm", "id:20191023")
YEAR = timedelta(days=365)


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
    def root_name(self) -> str:
        """Common name of the root."""
        return f"{self.name} root"

    @property
    def issuer_name(self) -> str:
        """Common name of the issuing authority."""
        return f"{self.name} EK CA"

    def root(self, *, path_length: int | None = None) -> bytes:
        """The root's certificate, DER."""
        return self._authority(self.root_name, self.root_key, path_length)

    def issuer(self, *, path_length: int | None = 0, ca: bool = True) -> bytes:
        """The issuing authority's certificate, DER."""
        return self._authority(self.issuer_name, self.issuer_key, path_length, ca=ca)

    def _authority(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        path_length: int | None,
        *,
        ca: bool = True,
    ) -> bytes:
        plan = CertificatePlan(
            subject=subject,
            issuer=self.root_name,
            serial=1000,
            key=key.public_key(),
            not_before=self.now - YEAR,
            not_after=self.now + 20 * YEAR,
            ca=ca,
            path_length=path_length,
        )
        return plan.sign(self.root_key)

    def leaf(self, spec: LeafSpec) -> bytes:
        """A certificate of a TPM's key, DER."""
        since = self.now - spec.age
        extensions: list[tuple[x509.ExtensionType, bool]] = []
        if spec.usage:
            usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier(spec.usage)])
            extensions.append((usage, False))
        if spec.model is not None:
            extensions.append((_alternative_name(spec.model), True))
        if spec.critical:
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(spec.critical), b"\x05\x00")
            extensions.append((unknown, True))
        plan = CertificatePlan(
            subject="",
            issuer=self.issuer_name,
            serial=spec.serial,
            key=spec.key,
            not_before=since,
            not_after=since + spec.life,
            ca=spec.ca,
            usage=spec.key_usages,
            extensions=tuple(extensions),
            digest=hashes.SHA256(),
        )
        return plan.sign(self.issuer_key)

    def crls(
        self, *, revoked: int | None = None, age: timedelta = timedelta(0)
    ) -> tuple[bytes, ...]:
        """Lists of root and issuing authority, DER, in date for a month."""
        since = self.now - age - BACKDATED
        root = CrlPlan(
            issuer=self.root_name,
            this_update=since,
            next_update=since + timedelta(days=30),
            serials=() if revoked is None else (revoked,),
        )
        issuer = replace(root, issuer=self.issuer_name)
        return root.sign(self.root_key), issuer.sign(self.issuer_key)


def _alternative_name(model: TpmModel) -> x509.SubjectAlternativeName:
    values = (
        (TPM_MANUFACTURER, model.manufacturer),
        (TPM_MODEL, model.model),
        (TPM_VERSION, model.version),
    )
    attributes = [x509.NameAttribute(oid, value) for oid, value in values]
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(attributes))])
