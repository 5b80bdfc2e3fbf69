"""Intel: its root, and its part of the collateral."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.collateral import Item
from regalia.appraisal.evidence_plugin import Vendor
from regalia.tees.intel.evidence.anchors import IntelAnchors
from regalia.tees.intel.evidence.collateral import IntelCollateral, parse_json_collateral
from regalia.tees.intel.evidence.pcs import parse_intel, pcs_body
from regalia.tees.intel.evidence.verified_collateral import Preparer
from regalia.wire.collateral import CollateralKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.collateral import GivenCollateral
    from regalia.tees.intel.evidence.collateral import SignedDocument


def collateral_of(given: GivenCollateral) -> IntelCollateral:
    """Signed documents, certificates and lists. Raises ParseError."""

    def signed(kind: CollateralKind) -> tuple[SignedDocument, ...]:
        return tuple(parse_intel(kind, body, what=kind).signed for body in given.of(kind))

    return IntelCollateral(
        signed(CollateralKind.TCB_INFO),
        signed(CollateralKind.QE_IDENTITY),
        given.certificates,
        given.crls,
    )


def read_item(kind: CollateralKind, content: bytes, what: str) -> Item:
    """A TCB info or a QE identity. Raises ParseError.

    Args:
        kind: what the content claims to be: TCB_INFO or QE_IDENTITY.
        content: raw, untrusted.
        what: names the value in the error.
    """
    found = parse_intel(kind, content, what=what)
    return Item(
        kind,
        found.name,
        content,
        found.issued,
        found.next_update,
        found,
        tcb_evaluation_data_number=found.tcb_evaluation_data_number,
    )


def read_json(data: bytes, what: str) -> Iterator[tuple[CollateralKind, bytes]]:
    """What a JSON file without a format holds: answers of Intel's service. Raises ParseError.

    Args:
        data: raw, untrusted.
        what: names the value in the error.
    """
    found = parse_json_collateral(data, what=what)
    for kind, documents in (
        (CollateralKind.TCB_INFO, found.tcb_infos),
        (CollateralKind.QE_IDENTITY, found.identities),
    ):
        yield from ((kind, pcs_body(kind, document)) for document in documents)
    yield from ((CollateralKind.CERTIFICATE, der) for der in found.certificates)
    yield from ((CollateralKind.CRL, der) for der in found.crls)


INTEL = Vendor(
    name="intel",
    anchors=IntelAnchors,
    # Verified when the first quote comes: a site without Intel's machines need not have it whole.
    prepare=lambda given: Preparer(lambda: collateral_of(given)),
    items={CollateralKind.TCB_INFO: read_item, CollateralKind.QE_IDENTITY: read_item},
    read_json=read_json,
)
