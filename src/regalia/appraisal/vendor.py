"""One vendor: its roots, and what is particular to its collateral.

Several kinds of evidence may stand on one vendor: TDX, SGX and an Azure guest on Intel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from regalia.appraisal.collateral import GivenCollateral, Item, LeafName
    from regalia.appraisal.pki import Cache, Certificate
    from regalia.wire.collateral import CollateralKind
    from regalia.wire.evidence import DeviceEvidence, DeviceKind

    ReadItem = Callable[[CollateralKind, bytes, str], Item]

K = TypeVar("K")  # collateral as this vendor's verifier wants it
V = TypeVar("V")


class Anchors(Protocol):
    """Pinned roots of one vendor."""

    @classmethod
    def production(cls) -> Self:
        """The vendor's own roots."""


A = TypeVar("A", bound=Anchors)


class Ingest(Protocol):
    """Reads a file that a vendor signed in a form of its own."""

    def __call__(
        self, data: bytes, *, devices: Sequence[DeviceEvidence], name: str, now: datetime
    ) -> bytes:
        """Our document of what the file says, after it was verified.

        Args:
            data: raw, untrusted.
            devices: that it may be for, untrusted; there may be none.
            name: of the file, without its ending.
            now: at which its signature must be valid, aware.

        Raises:
            UsageError: an extra that reads it is not installed.
            ParseError, AttestationError: it does not verify.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFiles:
    """Files that a vendor signs in a form of its own. They are verified when they are taken in.

    Attributes:
        endings: of their names, with the dots.
        recognizes: whether content is meant to be such a file.
        ingest: verifies one, and gives our document.
    """

    endings: tuple[str, ...]
    recognizes: Callable[[bytes], bool]
    ingest: Ingest


def ready(collateral: V) -> Callable[[object, Cache], V]:
    """For collateral that does not depend on anchors."""
    return lambda _anchors, _cache: collateral


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor(Generic[A, K]):
    """One vendor.

    Attributes:
        name: of its roots in ``TrustAnchors``.
        anchors: the class of its roots.
        prepare: called once for each collateral, and parses it; raises ParseError. What it gives
            is called for each piece of evidence, with anchors, and may verify what it holds.
        items: how documents of its own kinds are read; each raises ParseError.
        formats: names that its documents state as their ``format``.
        files: beginnings of file names that say what a certificate is trusted for.
        read_json: its collateral in a JSON file that states no format, or nothing.
        leaf_name: what it calls a certificate; None if that is not one of its leaves.
        check_links: whether all its devices of one machine, by their claims, are linked to each
            other and to nothing else; raises AttestationError COMPOSITE_MISMATCH.
        signed_files: its collateral in a form that only this vendor has.
        kind_of_chain: the kind of device that a certificate chain is of; None if it is of none.
    """

    name: str
    anchors: type[A]
    prepare: Callable[[GivenCollateral], Callable[[A, Cache], K]]
    items: Mapping[CollateralKind, ReadItem] = field(default_factory=dict)
    formats: Mapping[str, CollateralKind] = field(default_factory=dict)
    files: Mapping[str, CollateralKind] = field(default_factory=dict)
    read_json: Callable[[bytes, str], Iterator[tuple[CollateralKind, bytes]]] | None = None
    leaf_name: Callable[[Certificate], LeafName | None] | None = None
    check_links: Callable[[Sequence[Any]], None] | None = None
    signed_files: SignedFiles | None = None
    kind_of_chain: Callable[[Sequence[bytes]], DeviceKind | None] | None = None
