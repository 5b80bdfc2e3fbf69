"""NVIDIA: its root, and its part of the collateral."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.collateral import Item
from regalia.appraisal.evidence_plugin import Vendor, ready
from regalia.tees.nvidia.evidence import key_denials, rims
from regalia.tees.nvidia.evidence.anchors import NvidiaAnchors
from regalia.tees.nvidia.evidence.collateral import NvidiaCollateral, prepare
from regalia.tees.nvidia.evidence.models import kind_of_chain
from regalia.tees.nvidia.evidence.signed_files import RIM_FILES
from regalia.tees.nvidia.evidence.topology import check_topology
from regalia.wire.collateral import CollateralKind

if TYPE_CHECKING:
    from regalia.appraisal.collateral import GivenCollateral


def collateral_of(given: GivenCollateral) -> NvidiaCollateral:
    """Reference values, lists, and denied keys."""
    return NvidiaCollateral(
        given.of(CollateralKind.RIM), given.crls, given.of(CollateralKind.KEY_DENIALS)
    )


def read_rim(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001 - a ReadItem
    """Reference values. Raises ParseError.

    Args:
        kind: what the content claims to be.
        content: raw, untrusted.
        what: unused; every ``ReadItem`` takes it.
    """
    found = rims.parse_rim(content)
    return Item(kind, found.id, content, found.ingested_at, None, found)


def read_denials(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001 - a ReadItem
    """Denied keys. Raises ParseError.

    Args:
        kind: what the content claims to be.
        content: raw, untrusted.
        what: unused; every ``ReadItem`` takes it.
    """
    found = key_denials.parse_key_denials(content)
    return Item(kind, "denied keys", content, found.this_update, found.next_update, found)


NVIDIA = Vendor(
    name="nvidia",
    anchors=NvidiaAnchors,
    prepare=lambda given: ready(prepare(collateral_of(given))),
    items={CollateralKind.RIM: read_rim, CollateralKind.KEY_DENIALS: read_denials},
    formats={
        rims.FORMAT: CollateralKind.RIM,
        key_denials.FORMAT: CollateralKind.KEY_DENIALS,
    },
    check_links=check_topology,
    signed_files=RIM_FILES,
    kind_of_chain=kind_of_chain,
)
