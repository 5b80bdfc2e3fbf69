"""The example's vendor: its root, and its part of the collateral."""

from __future__ import annotations

from regalia.appraisal.evidence_plugin import Vendor, ready
from regalia.tees.accelerator.evidence.anchors import (
    AcceleratorAnchors,
    AcceleratorCollateral,
)

EXAMPLE_VENDOR = Vendor(
    name="accelerator",
    anchors=AcceleratorAnchors,
    prepare=lambda given: ready(AcceleratorCollateral(given.crls)),
)
