"""The roots that a relying party trusts, of every vendor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from regalia.tees.intel.evidence import IntelAnchors
from regalia.tees.nitro.evidence import NitroAnchors
from regalia.tees.nvidia.evidence import NvidiaAnchors
from regalia.tees.snp.evidence import SnpAnchors
from regalia.tees.tpm.evidence.anchors import TpmAnchors

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """Pinned roots by vendor; None where no evidence is trusted.

    Anchors of simulated roots are made by regalia_testing alone (``host.plugins``).

    Attributes:
        tpm: TPM makers are many and none is pinned: their roots are in the operator's collateral.
    """

    snp: SnpAnchors | None = None
    intel: IntelAnchors | None = None
    nitro: NitroAnchors | None = None
    nvidia: NvidiaAnchors | None = None
    tpm: TpmAnchors | None = None

    @classmethod
    def production(cls) -> Self:
        """The vendors' own roots: claims say ``hardware: genuine``."""
        return cls(
            snp=SnpAnchors.production(),
            intel=IntelAnchors.production(),
            nitro=NitroAnchors.production(),
            nvidia=NvidiaAnchors.production(),
            tpm=TpmAnchors.production(),
        )


class MakeSimulatedAnchors(Protocol):
    """What the plug-in group ``regalia.simulated_anchors`` holds."""

    def __call__(self, roots: Sequence[bytes]) -> TrustAnchors:
        """Trust these roots (DER) and no others: claims say ``hardware: simulated``.

        Raises:
            ParseError: one is not a certificate.
            AttestationError: there is none, two are of one vendor, or one is not named like the
                root of a vendor.
        """
