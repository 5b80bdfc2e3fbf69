"""A throw-away AWS: root, regional, zonal and instance authorities, and enclaves' certificates.

Names, constraints and signatures are like AWS's; the organization says that they are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from regalia_testing.certificates import BACKDATED, CertificatePlan, CrlPlan
from regalia_testing.folder import new_ec_keys

if TYPE_CHECKING:
    from datetime import datetime

REGION = "nowhere-1"
ROOT_LIFE = timedelta(days=30 * 365)
AUTHORITY_LIFE = timedelta(days=20)
LEAF_LIFE = timedelta(hours=3)
CRL_URL = "http://crl.simulated.invalid/crl.crl"


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
        return new_ec_keys(cls, ec.SECP384R1())

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
                subject=name,
                issuer=issuer,
                key=key.public_key(),
                not_before=self.since - BACKDATED,
                not_after=self.since + AUTHORITY_LIFE,
                path_length=length,
                usage=usage,
                extensions=((_distribution_point(), False),) if length in (2, 1) else (),
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

    def leaf(
        self, key: ec.EllipticCurvePublicKey, module_id: str, now: datetime
    ) -> CertificatePlan:
        """An enclave's certificate, for ``keys.instance`` to sign."""
        return CertificatePlan(
            subject=f"{module_id}.{REGION}.aws",
            issuer=self.plans()[-1].subject,
            key=key,
            not_before=now - timedelta(seconds=3),
            not_after=now + LEAF_LIFE,
            ca=False,
            usage=("digital_signature", "content_commitment"),
            usage_critical=False,
        )

    def crl(self, level: int, serials: tuple[int, ...] = ()) -> CrlPlan:
        """A revocation list of the authority at ``level`` (0: root), to be signed by its key."""
        return CrlPlan(
            issuer=self.plans()[level].subject,
            this_update=self.since - BACKDATED,
            next_update=self.since + AUTHORITY_LIFE,
            serials=serials,
        )


def _distribution_point() -> x509.CRLDistributionPoints:
    uri = x509.UniformResourceIdentifier(CRL_URL)
    return x509.CRLDistributionPoints([x509.DistributionPoint([uri], None, None, None)])
