"""Claims about one NVIDIA GPU or NVSwitch."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.claims import require_mint

if TYPE_CHECKING:
    from regalia.appraisal.claims import Hardware, Revocation
    from regalia.core.types import Digest
    from regalia.tees.nvidia.names import Feature, Status
    from regalia.wire.evidence import DeviceKind


@dataclass(frozen=True, slots=True)
class RimFact:
    """A set of reference values that the device's measurements matched."""

    id: str
    version: str
    source: Digest  # of NVIDIA's document


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaClaims:
    """A genuine, fresh SPDM measurements report of one device.

    Names are NVIDIA's where it has one.
    """

    kind: DeviceKind
    hardware: Hardware
    revocation: Revocation
    evidence_digest: Digest
    identity: bytes  # serial number of the device's own certificate: the same under any firmware
    nonce: bytes  # 32
    model: str  # GH100, GB100 or LS_10
    hwmodel: str  # e.g. GH100 A01 GSP BROM
    ueid: str  # decimal serial number of the leaf: changes with the device's boot firmware
    driver_version: str  # empty for a switch
    vbios_version: str
    feature: Feature
    protected_pcie: Status
    nvdec0: Status
    fwid: bytes  # 48, of the leaf
    fwid_reported: bool  # whether the report repeats it; old drivers do not
    debug: bool  # the leaf says that its boot firmware runs in debug mode (Blackwell states it)
    rims: tuple[RimFact, ...]  # matched
    rims_missing: tuple[str, ...]  # ids of reference values that were not at hand
    pdi: bytes  # a switch's own identifier on the links
    switch_pdis: tuple[bytes, ...]  # switches that a GPU is linked to
    gpu_pdis: tuple[bytes, ...]  # GPUs that a switch is linked to
    opaque_addition: tuple[int, ...]  # types of signed fields that are not known here
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)
