"""NVIDIA's GPUs and switches as the verifier sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT
from regalia.appraisal.evidence_plugin import EvidencePlugin
from regalia.appraisal.unbound import NonceField, Unbound
from regalia.tees.nvidia.evidence import checks
from regalia.tees.nvidia.evidence.needs import needs
from regalia.tees.nvidia.evidence.online import ONLINE
from regalia.tees.nvidia.evidence.vendor import NVIDIA
from regalia.tees.nvidia.evidence.verify import claims_of, parse, verify_genuine
from regalia.wire.evidence import DEVICE_NONCE_SIZE, DeviceKind

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.nvidia.claims import NvidiaClaims
    from regalia.tees.nvidia.evidence.anchors import NvidiaAnchors
    from regalia.tees.nvidia.evidence.collateral import PreparedNvidia
    from regalia.tees.nvidia.evidence.spdm import SpdmParts
    from regalia.wire.evidence import DeviceEvidence

# The nonce that NVIDIA's tools use when nobody gives them one: reports over it are public.
PUBLISHED_NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
NONCE = NonceField(
    checks.NONCE, range(DEVICE_NONCE_SIZE, DEVICE_NONCE_SIZE + 1), (PUBLISHED_NONCE,)
)


def genuine(
    parsed: Parsed[DeviceEvidence, SpdmParts],
    *,
    anchors: NvidiaAnchors,
    collateral: PreparedNvidia,
    at: AppraisalContext,
) -> Unbound[NvidiaClaims]:
    """Every check but freshness. Raises as ``verify_genuine``."""
    found = verify_genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    return Unbound(claims_of(parsed.raw, found), parsed.report.nonce, NONCE, MINT)


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
        genuine=genuine,
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
