"""NVIDIA's GPUs and switches as the verifier sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.evidence_plugin import EvidencePlugin
from regalia.tees.nvidia.evidence import checks
from regalia.tees.nvidia.evidence.needs import needs
from regalia.tees.nvidia.evidence.online import ONLINE
from regalia.tees.nvidia.evidence.vendor import NVIDIA
from regalia.tees.nvidia.evidence.verify import NONCE, parse, verify_genuine
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from regalia.tees.nvidia.claims import NvidiaClaims
    from regalia.tees.nvidia.evidence.anchors import NvidiaAnchors
    from regalia.tees.nvidia.evidence.collateral import PreparedNvidia
    from regalia.tees.nvidia.evidence.spdm import SpdmParts
    from regalia.wire.evidence import DeviceEvidence


def _device(
    kind: DeviceKind, about: str
) -> EvidencePlugin[DeviceEvidence, SpdmParts, NvidiaClaims, NvidiaAnchors, PreparedNvidia]:
    return EvidencePlugin(
        kind=kind,
        about=about,
        vendor=NVIDIA,
        checks=checks.CHECKS,
        nonce=NONCE,
        parse=parse,
        genuine=verify_genuine,
        needs=needs,
        online=ONLINE,
        identities=lambda claims: ((claims.kind.value, claims.identity),),
    )


GPU = _device(
    DeviceKind.NVIDIA_GPU,
    "A GPU's report is signed by a key that its boot firmware derived. It holds digests of the"
    " firmware that runs on the GPU, which reference values of NVIDIA (RIMs) explain. It says"
    " nothing of the programs on the GPU, and nothing of the machine it is in: only a CPU's report"
    " that commits to it does.",
)
SWITCH = _device(
    DeviceKind.NVIDIA_SWITCH,
    "A switch's report is like a GPU's: it shows that the links between GPUs run through a genuine"
    " switch with known firmware.",
)
