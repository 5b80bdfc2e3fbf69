"""Verifier of NVIDIA GPUs and NVSwitches. Spec: docs/spec/nvidia-appraisal.md.

``verify_nvidia`` in ``verify`` is the walk for one device; ``verifier.composite`` puts devices and
CPU together. ``nvidia.rim`` turns NVIDIA's signed XML into reference values; it needs the extra
``ingest`` and is imported by whoever ingests, not by verifiers.
"""

from regalia.tees.nvidia.evidence.anchors import NvidiaAnchors, RimAnchors
from regalia.tees.nvidia.evidence.collateral import NvidiaCollateral, PreparedNvidia, prepare
from regalia.tees.nvidia.evidence.verify import (
    PUBLISHED_NONCE,
    GenuineDevice,
    verify_genuine,
    verify_nvidia,
)

__all__ = [
    "PUBLISHED_NONCE",
    "GenuineDevice",
    "NvidiaAnchors",
    "NvidiaCollateral",
    "PreparedNvidia",
    "RimAnchors",
    "prepare",
    "verify_genuine",
    "verify_nvidia",
]
