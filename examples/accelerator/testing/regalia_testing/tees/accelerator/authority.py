"""A throw-away vendor: its root, one authority, chips' certificates and revocation lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.tees.accelerator.evidence.anchors import ROOT_NAME
from regalia_testing.certificates import BACKDATED, CertificatePlan, CrlPlan, simulated_name
from regalia_testing.folder import new_ec_keys

if TYPE_CHECKING:
    from datetime import datetime

ISSUER_NAME = "Example Accelerator Chips"
LIFE = timedelta(days=365)
CHIP_SERIAL = 3


@dataclass(frozen=True, slots=True, repr=False)
class AcceleratorKeys:
    """Private keys of the vendor and of one chip, P-384."""

    root: ec.EllipticCurvePrivateKey
    issuer: ec.EllipticCurvePrivateKey
    chip: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> AcceleratorKeys:
        """Fresh keys."""
        return new_ec_keys(cls, ec.SECP384R1())


@dataclass(frozen=True, slots=True, repr=False)
class AcceleratorAuthority:
    """What the simulated vendor issues, and what it is signed with."""

    keys: AcceleratorKeys
    since: datetime

    def root(self) -> CertificatePlan:
        """The root, for ``keys.root`` to sign."""
        return self._plan(1, ROOT_NAME, ROOT_NAME, self.keys.root)

    def issuer(self) -> CertificatePlan:
        """The authority of chips, for ``keys.root`` to sign."""
        return self._plan(2, ISSUER_NAME, ROOT_NAME, self.keys.issuer)

    def chip(self, chip_id: bytes) -> CertificatePlan:
        """A chip's certificate, for ``keys.issuer`` to sign."""
        return self._plan(CHIP_SERIAL, chip_id.hex(), ISSUER_NAME, self.keys.chip)

    def lists(self, *revoked: bytes) -> tuple[bytes, bytes]:
        """The lists of root and authority, in DER. Each names what it issued of ``revoked``."""
        found = [x509.load_der_x509_certificate(der) for der in revoked]
        return (
            self._list(ROOT_NAME, self.keys.root, found),
            self._list(ISSUER_NAME, self.keys.issuer, found),
        )

    def _plan(
        self, serial: int, subject: str, issuer: str, key: ec.EllipticCurvePrivateKey
    ) -> CertificatePlan:
        """The serial counts down the chain: root, authority, chip."""
        plan = CertificatePlan(
            subject=subject,
            issuer=issuer,
            serial=serial,
            key=key.public_key(),
            not_before=self.since - BACKDATED,
            not_after=self.since + LIFE,
            path_length=2 - serial,
        )
        return plan if serial < CHIP_SERIAL else as_leaf(plan)

    def _list(
        self, name: str, key: ec.EllipticCurvePrivateKey, revoked: list[x509.Certificate]
    ) -> bytes:
        return CrlPlan(
            issuer=name,
            this_update=self.since - BACKDATED,
            next_update=self.since + LIFE,
            serials=[c.serial_number for c in revoked if c.issuer == simulated_name(name)],
        ).sign(key)


def as_leaf(plan: CertificatePlan) -> CertificatePlan:
    """The same certificate, and no authority's."""
    return replace(plan, ca=False, path_length=None, usage=("digital_signature",))
