"""AWS: its root, and its part of the collateral."""

from __future__ import annotations

from regalia.appraisal.vendor import Vendor, ready
from regalia.tees.nitro.evidence.anchors import ROOT_NAME, NitroAnchors, NitroCollateral

AWS = Vendor(
    name="nitro",
    anchors=NitroAnchors,
    root_names=frozenset({ROOT_NAME}),
    prepare=lambda given: ready(NitroCollateral(given.crls)),
)
