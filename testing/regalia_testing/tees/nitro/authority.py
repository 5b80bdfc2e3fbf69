"""A throw-away AWS: root, regional, zonal and instance authorities, and enclaves' certificates.

Names, constraints and signatures are like AWS's; the organization says that they are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from datetime import datetime

ORGANIZATION = "Regalia simulation - protects nothing"
REGION = "nowhere-1"
ROOT_LIFE = timedelta(days=30 * 365)
AUTHORITY_LIFE = timedelta(days=20)
LEAF_LIFE = timedelta(hours=3)
BACKDATED = timedelta(hours=1)  # so that a verifier whose clock is a little behind accepts
CRL_URL = "http://crl.simulated.invalid/crl.crl"

_NO_USAGE: dict[str, bool] = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePlan:
    """One certificate to be issued. ``dataclasses.replace`` makes a defective variant."""

    name: str
    issuer_name: str
    key: Any  # a public key
    not_before: datetime
    not_after: datetime
    ca: bool
    path_length: int | None
    usage: tuple[str, ...]
    distribution_point: bool = False
    constraints: bool = True  # whether basicConstraints is there
    unknown_critical: bool = False
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 = field(default_factory=hashes.SHA384)

    def sign(self, signer: ec.EllipticCurvePrivateKey) -> bytes:
        """The certificate in DER."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(self.name))
            .issuer_name(_name(self.issuer_name))
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .public_key(self.key)
        )
        if self.constraints:
            limits = x509.BasicConstraints(ca=self.ca, path_length=self.path_length)
            builder = builder.add_extension(limits, critical=True)
        if self.usage:
            usage = x509.KeyUsage(**{**_NO_USAGE, **dict.fromkeys(self.usage, True)})
            builder = builder.add_extension(usage, critical=self.ca)
        if self.distribution_point:
            point = x509.DistributionPoint(
                [x509.UniformResourceIdentifier(CRL_URL)], None, None, None
            )
            builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
        if self.unknown_critical:
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"")
            builder = builder.add_extension(unknown, critical=True)
        return builder.sign(signer, self.digest).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True, repr=False)
class NitroKeys:
    """Private keys of the four authorities, root first."""

    root: ec.EllipticCurvePrivateKey
    regional: ec.EllipticCurvePrivateKey
    zonal: ec.EllipticCurvePrivateKey
    instance: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> NitroKeys:
        """Fresh P-384 keys."""
        return cls(*(ec.generate_private_key(ec.SECP384R1()) for _ in range(4)))

    def all(self) -> tuple[ec.EllipticCurvePrivateKey, ...]:
        """In the order of the chain."""
        return self.root, self.regional, self.zonal, self.instance


@dataclass(frozen=True, slots=True, repr=False)
class NitroAuthority:
    """The chain above one simulated instance.

    Real intermediates live for days or hours; here all of them are valid from ``since`` on, the
    root for long, the others for 20 days.
    """

    keys: NitroKeys
    instance_id: str
    since: datetime

    def plans(self) -> tuple[CertificatePlan, ...]:
        """Root, regional, zonal and instance authority."""
        names = (
            "aws.nitro-enclaves",
            f"0123456789abcdef.{REGION}.aws.nitro-enclaves",
            f"0123456789abcdef.zonal.{REGION}.aws.nitro-enclaves",
            f"{self.instance_id}.{REGION}.aws.nitro-enclaves",
        )
        issuers = (names[0], *names)
        usages = (("digital_signature", "key_cert_sign", "crl_sign"),) * 3 + (("key_cert_sign",),)
        root, *below = (
            CertificatePlan(
                name=name,
                issuer_name=issuer,
                key=key.public_key(),
                not_before=self.since - BACKDATED,
                not_after=self.since + AUTHORITY_LIFE,
                ca=True,
                path_length=length,
                usage=usage,
                distribution_point=length in (2, 1),
            )
            for name, issuer, key, length, usage in zip(
                names, issuers, self.keys.all(), (None, 2, 1, 0), usages, strict=False
            )
        )
        return replace(root, not_after=self.since + ROOT_LIFE), *below

    def chain(self) -> tuple[bytes, ...]:
        """The four certificates in DER, root first, as in a document's cabundle."""
        signers = (self.keys.root, *self.keys.all())
        return tuple(plan.sign(key) for plan, key in zip(self.plans(), signers, strict=False))

    def leaf(self, key: Any, module_id: str, now: datetime) -> CertificatePlan:  # noqa: ANN401 - any public key
        """An enclave's certificate, for ``keys.instance`` to sign."""
        return CertificatePlan(
            name=f"{module_id}.{REGION}.aws",
            issuer_name=self.plans()[-1].name,
            key=key,
            not_before=now - timedelta(seconds=3),
            not_after=now + LEAF_LIFE,
            ca=False,
            path_length=None,
            usage=("digital_signature", "content_commitment"),
        )

    def crl(
        self, level: int, serials: tuple[int, ...] = ()
    ) -> x509.CertificateRevocationListBuilder:
        """A revocation list of the authority at ``level`` (0: root), to be signed by its key."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(self.plans()[level].name))
            .last_update(self.since - BACKDATED)
            .next_update(self.since + AUTHORITY_LIFE)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            builder = builder.add_revoked_certificate(
                entry.revocation_date(self.since - BACKDATED).build()
            )
        return builder


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "XX"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
