"""TPM makers: their roots come from the operator, and so do enrolments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.collateral import Item, certificate_item
from regalia.appraisal.evidence_plugin import Vendor, ready
from regalia.tees.tpm.evidence.anchors import TpmAnchors, TpmCollateral
from regalia.tees.tpm.evidence.enrolment import FORMAT, parse_enrolment
from regalia.wire.collateral import CollateralKind

if TYPE_CHECKING:
    from regalia.appraisal.collateral import GivenCollateral


def collateral_of(given: GivenCollateral) -> TpmCollateral:
    """Roots, authorities below them, lists and enrolments."""
    ek_roots, ak_roots = given.of(CollateralKind.EK_ROOT), given.of(CollateralKind.AK_ROOT)
    enrolments = given.of(CollateralKind.ENROLMENT)
    if not (ek_roots or ak_roots or enrolments):
        return TpmCollateral()  # without TPMs the other certificates are of no use here
    return TpmCollateral(ek_roots, ak_roots, given.certificates, given.crls, enrolments)


def read_enrolment(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001 - a ReadItem
    """An enrolment. Raises ParseError.

    Args:
        kind: what the content claims to be.
        content: raw, untrusted.
        what: unused; every ``ReadItem`` takes it.
    """
    found = parse_enrolment(content)
    return Item(kind, f"AK {found.ak_name.hex()}", content, found.enrolled_at, None, found)


TPM_MAKERS = Vendor(
    name="tpm",
    anchors=TpmAnchors,
    prepare=lambda given: ready(collateral_of(given).prepare()),
    items={
        CollateralKind.EK_ROOT: certificate_item,
        CollateralKind.AK_ROOT: certificate_item,
        CollateralKind.ENROLMENT: read_enrolment,
    },
    formats={FORMAT: CollateralKind.ENROLMENT},
    # A root of TPMs is an anchor and looks like any other certificate, so its file's name tells it.
    files={
        "tpm-ek-root": CollateralKind.EK_ROOT,
        "tpm-ak-root": CollateralKind.AK_ROOT,
    },
)
