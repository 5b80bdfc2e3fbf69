"""Verifier of NVIDIA GPUs and NVSwitches. Spec: docs/spec/nvidia-appraisal.md.

``plugin`` is what the verifier sees; ``verify`` is the walk for one device;
``verifier.composite`` puts devices and CPU together. ``rim_xml`` turns NVIDIA's signed XML into
reference values; it needs the extra ``ingest`` and is imported by whoever ingests, not by
verifiers.
"""

from regalia.tees.nvidia.evidence.anchors import NvidiaAnchors, RimAnchors
from regalia.tees.nvidia.evidence.collateral import NvidiaCollateral, PreparedNvidia, prepare
from regalia.tees.nvidia.evidence.verify import parse, verify_genuine

__all__ = [
    "NvidiaAnchors",
    "NvidiaCollateral",
    "PreparedNvidia",
    "RimAnchors",
    "parse",
    "prepare",
    "verify_genuine",
]
