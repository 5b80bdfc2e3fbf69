"""Collateral of every vendor: loose files or a signed bundle, sorted by what they hold.
Spec: docs/spec/collateral-bundle.md.

    bytes of files -> sort_files    -> items -> collect -> CollateralSet
    a bundle       -> verify_bundle -> VerifiedBundle    -> CollateralSet

Nothing here reads a file, a clock or the network.
"""

from regalia.appraisal.collateral import Item, Need
from regalia.verifier.collateral.blocks import parse_roots
from regalia.verifier.collateral.bundle import (
    NO_FLOOR,
    Floor,
    PeekedBundle,
    VerifiedBundle,
    add_signatures,
    make_bundle,
    peek_bundle,
    verify_bundle,
)
from regalia.verifier.collateral.collection import CollateralSet, collect
from regalia.verifier.collateral.dates import Dates, dates_of
from regalia.verifier.collateral.deny import (
    require_certificates_not_denied,
    require_device_not_denied,
    require_not_denied,
)
from regalia.verifier.collateral.freshness import Freshness, Validity
from regalia.verifier.collateral.grace import mark_grace
from regalia.verifier.collateral.items import parse_item
from regalia.verifier.collateral.needs import needs_of
from regalia.verifier.collateral.sort import (
    COLLATERAL_ENDINGS,
    COLLATERAL_FILE_MAX,
    COLLATERAL_FILES_MAX,
    parse_collateral,
    sort_files,
)

__all__ = [
    "COLLATERAL_ENDINGS",
    "COLLATERAL_FILES_MAX",
    "COLLATERAL_FILE_MAX",
    "NO_FLOOR",
    "CollateralSet",
    "Dates",
    "Floor",
    "Freshness",
    "Item",
    "Need",
    "PeekedBundle",
    "Validity",
    "VerifiedBundle",
    "add_signatures",
    "collect",
    "dates_of",
    "make_bundle",
    "mark_grace",
    "needs_of",
    "parse_collateral",
    "parse_item",
    "parse_roots",
    "peek_bundle",
    "require_certificates_not_denied",
    "require_device_not_denied",
    "require_not_denied",
    "sort_files",
    "verify_bundle",
]
