"""The example's vendor: its root, and its part of the collateral."""

from __future__ import annotations

from regalia.appraisal.vendor import Vendor, ready
from regalia.tees.accelerator.evidence.anchors import (
    ROOT_NAME,
    AcceleratorAnchors,
    AcceleratorCollateral,
)

EXAMPLE_VENDOR = Vendor(
    name="accelerator",
    anchors=AcceleratorAnchors,
    root_names=frozenset({ROOT_NAME}),
    prepare=lambda given: ready(AcceleratorCollateral(given.crls)),
)
