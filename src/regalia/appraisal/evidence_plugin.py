"""What a TEE or a kind of device gives to the verifier, to tell whether evidence is genuine.

One value of ``EvidencePlugin`` for each kind, in ``tees/<name>/evidence/plugin.py``;
``verifier.registry`` lists them. The verifier knows nothing else of a TEE. Several kinds of
evidence may stand on one ``Vendor``: TDX, SGX and an Azure guest on Intel.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from regalia.appraisal.claims import MINT, Revocation
from regalia.wire.evidence import DEVICE_NONCE_SIZE, REPORT_DATA_SIZE, Tee

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check import Check
    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Claims, NonceField, Unbound
    from regalia.appraisal.collateral import GivenCollateral, Item, LeafName, Need
    from regalia.appraisal.online_collateral import OnlineCollateral
    from regalia.appraisal.pki import Cache, Certificate
    from regalia.wire.collateral import CollateralKind
    from regalia.wire.evidence import DeviceEvidence, DeviceKind

    ReadItem = Callable[[CollateralKind, bytes, str], Item]

R = TypeVar("R")  # Evidence or DeviceEvidence
T = TypeVar("T")  # what its report says
C = TypeVar("C")  # claims
A = TypeVar("A", bound="Anchors")
A_contra = TypeVar("A_contra", contravariant=True)
K = TypeVar("K")  # collateral as its vendor's verifier wants it
K_contra = TypeVar("K_contra", contravariant=True)
P_contra = TypeVar("P_contra", contravariant=True)
V = TypeVar("V")


class Anchors(Protocol):
    """Pinned roots of one vendor."""

    @classmethod
    def production(cls) -> Self:
        """The vendor's own roots."""


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
        read_table: certificates of a table in a form that only this vendor has; none if the file
            is no such table.
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
    read_table: Callable[[bytes], tuple[bytes, ...]] | None = None
    leaf_name: Callable[[Certificate], LeafName | None] | None = None
    check_links: Callable[[Sequence[Any]], None] | None = None
    signed_files: SignedFiles | None = None
    kind_of_chain: Callable[[Sequence[bytes]], DeviceKind | None] | None = None


@dataclass(frozen=True, slots=True)
class Parsed(Generic[R, T]):
    """Evidence whose report parses. Untrusted.

    Attributes:
        raw: as received.
        report: what its report says.
    """

    raw: R
    report: T


class Genuine(Protocol[P_contra, A_contra, K_contra, C]):
    """Every check of one kind of evidence but freshness."""

    def __call__(
        self, parsed: P_contra, *, anchors: A_contra, collateral: K_contra, at: AppraisalContext
    ) -> Unbound[C]:
        """Claims of unknown age, or a refusal.

        Args:
            parsed: untrusted.
            anchors: the vendor's pinned roots.
            collateral: what the verifier's operator provides of this vendor, prepared.
            at: the context of the appraisal.

        Raises:
            ParseError: evidence or collateral is malformed.
            AttestationError: the evidence is not genuine.
        """


def same_nonce(report_data: bytes) -> bytes:
    """For evidence that has room for the whole report data."""
    return report_data


def machine_identity(claims: Claims) -> tuple[tuple[str, bytes], ...]:
    """For a TEE whose machine has one name."""
    return ((claims.tee.value, claims.instance),)


def known_late(claims: C) -> C:
    """For claims that hold what is known of revocation in a field of their own."""
    weaker: C = replace(claims, revocation=Revocation.GRACE, mint=MINT)  # type: ignore[type-var] # a protocol cannot say "dataclass"
    return weaker


@dataclass(frozen=True, slots=True)
class MachineNames:
    """How people write the names of machines; policies list them so.

    Attributes:
        show: the words for ``Claims.instance``.
        pattern: a regular expression for a whole name, as a person may write it.
        meant: what is wanted, for messages.
    """

    show: Callable[[bytes], str]
    pattern: str
    meant: str


IN_HEX = MachineNames(bytes.hex, r"(?:[0-9a-fA-F]{2})+", "hex digits, two for each byte")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePlugin(Generic[R, T, C, A, K]):
    """One kind of evidence.

    Attributes:
        kind: of TEE or of device.
        about: what a newcomer is told of it before the checks: what it is, and what it is not.
        vendor: whose roots and collateral it is verified with.
        checks: all that it makes, in order; the last one is the nonce's.
        nonce: where the evidence carries the verifier's nonce.
        nonce_of: the nonce that stands for report data (64 bytes) or for a device's nonce.
        parse: raises ParseError.
        genuine: every check but freshness.
        needs: what verifying it takes beside itself, and where that is found. Decides nothing;
            raises ParseError or AttestationError if the evidence does not tell.
        identities: what a site's deny-list may call the machine or device: kind and identity.
        weaken: the same claims, of which revocation is known from late collateral only.
        machine_names: how people write the name of a machine.
        online: where its collateral can be fetched; None if nothing has to be, or nobody has it.
    """

    kind: Tee | DeviceKind
    about: str
    vendor: Vendor[A, K]
    checks: tuple[Check, ...]
    nonce: NonceField
    nonce_of: Callable[[bytes], bytes] = same_nonce
    parse: Callable[[R, CheckLog], Parsed[R, T]]
    genuine: Genuine[Parsed[R, T], A, K, C]
    needs: Callable[[Parsed[R, T], GivenCollateral], Iterator[Need]]
    identities: Callable[[C], tuple[tuple[str, bytes], ...]]
    weaken: Callable[[C], C] = known_late
    machine_names: MachineNames = IN_HEX
    online: OnlineCollateral | None = None

    def expected(self, value: bytes) -> bytes:
        """The nonce that fresh evidence carries.

        Args:
            value: report data (64 bytes); for a device its nonce (32 bytes).

        Raises:
            ValueError: it has another size (the caller's bug).
        """
        cpu = isinstance(self.kind, Tee)
        size = REPORT_DATA_SIZE if cpu else DEVICE_NONCE_SIZE
        if len(value) != size:
            what = "report data" if cpu else "nonce"
            raise ValueError(f"the expected {what} has {len(value)} bytes, want {size}")
        return self.nonce_of(value)
