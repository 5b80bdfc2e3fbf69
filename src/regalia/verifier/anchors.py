"""The roots that a relying party trusts, of every vendor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import parse_certificate
from regalia.core.errors import AttestationError
from regalia.tees.intel.evidence import IntelAnchors
from regalia.tees.intel.evidence.anchors import ROOT_NAME as INTEL_ROOT
from regalia.tees.nitro.evidence import NitroAnchors
from regalia.tees.nitro.evidence.anchors import ROOT_NAME as AWS_ROOT
from regalia.tees.nvidia.evidence import NvidiaAnchors
from regalia.tees.nvidia.evidence.anchors import DEVICE_ROOT_NAME as NVIDIA_ROOT
from regalia.tees.snp.evidence import SnpAnchors
from regalia.tees.tpm.evidence.anchors import TpmAnchors

if TYPE_CHECKING:
    from collections.abc import Sequence

# What swtpm's own CA calls its root.
SOFTWARE_TPM_ROOT = "swtpm-localca-rootca"


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """Pinned roots by vendor; None where no evidence is trusted. Two constructors, no third.

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

    @classmethod
    def dangerous_simulated(cls, roots: Sequence[bytes]) -> Self:
        """Throw-away roots (DER) and no others: claims say ``hardware: simulated``.

        Each is told by its name to be the root of one vendor.

        Raises:
            ParseError: one is not a certificate.
            AttestationError: there is none, two are of one vendor, or one is not named like the
                root of a vendor.
        """
        found: dict[str, object] = {}
        for root in roots:
            vendor, anchors = _simulated(root)
            if vendor in found:
                raise AttestationError(
                    AttestCode.ROOT_UNTRUSTED, f"two simulated roots of {vendor}: want one at most"
                )
            found[vendor] = anchors
        if not found:
            raise AttestationError(AttestCode.ROOT_UNTRUSTED, "no simulated root")
        return cls(**found)  # type: ignore[arg-type]  # _simulated pairs them


def _simulated(root: bytes) -> tuple[str, object]:
    """The vendor's field of ``TrustAnchors``, and its anchors."""
    match parse_certificate(root, what="simulated root").common_name:
        case name if name == INTEL_ROOT:
            return "intel", IntelAnchors.dangerous_simulated(root)
        case name if name == AWS_ROOT:
            return "nitro", NitroAnchors.dangerous_simulated(root)
        case name if name == NVIDIA_ROOT:
            return "nvidia", NvidiaAnchors.dangerous_simulated(root)
        case name if name == SOFTWARE_TPM_ROOT:
            return "tpm", TpmAnchors.dangerous_simulated(root)
        case _:
            return "snp", SnpAnchors.dangerous_simulated(root)
