"""What a verifier trusts, and the collateral it was given. All of it is the caller's argument."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Self

from regalia.appraisal.claims import Hardware
from regalia.core.codec import lp
from regalia.tees.snp.evidence.wire import TURIN_CHIP_ID_SIZE, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.tees.snp.evidence.wire import SnpReport

# SHA-256 of the SubjectPublicKeyInfo (DER) of AMD's root keys. A key, not a name, is the anchor.
AMD_ROOT_SPKI_SHA256 = {
    Product.MILAN: "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
    Product.GENOA: "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
    Product.TURIN: "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
}

# Keeps anchors from being assembled by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class SnpAnchors:
    """Pinned root keys by product, and whether they are AMD's."""

    hardware: Hardware
    pins: tuple[tuple[Product, bytes], ...]  # SHA-256 of the SubjectPublicKeyInfo
    identity: bytes = field(init=False)  # tells these pins from all others
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("use SnpAnchors.production()")
        parts = (part for product, pin in self.pins for part in (product.encode(), pin))
        object.__setattr__(self, "identity", lp(*parts))

    @classmethod
    def production(cls) -> Self:
        """AMD's root keys: claims say ``hardware: genuine``."""
        pins = tuple((p, bytes.fromhex(pin)) for p, pin in AMD_ROOT_SPKI_SHA256.items())
        return cls.pinned(Hardware.GENUINE, pins)

    @classmethod
    def pinned(cls, hardware: Hardware, pins: tuple[tuple[Product, bytes], ...]) -> Self:
        """Other root keys. Only regalia_testing calls this with ``Hardware.SIMULATED``.

        Args:
            hardware: what claims say of evidence under these keys.
            pins: SHA-256 of the SubjectPublicKeyInfo, by product.
        """
        return cls(hardware, pins, _MINT)

    def pins_for(self, product: Product) -> tuple[bytes, ...]:
        """SPKI digests of this product's roots; empty means that the product is not trusted."""
        return tuple(pin for pinned, pin in self.pins if pinned is product)


@dataclass(frozen=True, slots=True)
class SnpCollateral:
    """Certificates and CRLs that the verifier's operator provides, in DER.

    Attributes:
        intermediates: ARK, ASK and ASVK certificates, and VLEKs if they do not come with the
            evidence. They are verified like those in the evidence.
        crls: revocation lists signed by the ARK.
        vceks: leaves by (HWID, TCB_VERSION): a fleet has many.
    """

    intermediates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    vceks: Mapping[tuple[bytes, bytes], bytes] = field(default_factory=dict)

    def for_report(self, report: SnpReport) -> SnpCollateral:
        """What may help to verify a report: of the VCEKs only the one for its chip and TCB.

        Args:
            report: untrusted. It is a hint, since the verifier compares.
        """
        if not self.vceks:
            return self
        chips = (report.chip_id, report.chip_id[:TURIN_CHIP_ID_SIZE])
        found = (self.vceks.get((chip, report.reported_tcb)) for chip in chips)
        leaves = tuple(vcek for vcek in found if vcek is not None)
        return SnpCollateral(self.intermediates + leaves, self.crls)
