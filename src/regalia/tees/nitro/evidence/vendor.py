"""AWS: its root, and its part of the collateral."""

from __future__ import annotations

from regalia.appraisal.evidence_plugin import Vendor, ready
from regalia.tees.nitro.evidence.anchors import NitroAnchors, NitroCollateral

AWS = Vendor(
    name="nitro",
    anchors=NitroAnchors,
    prepare=lambda given: ready(NitroCollateral(given.crls)),
)
