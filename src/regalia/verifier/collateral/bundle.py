"""Signed collateral bundles: made from items, verified into items.
Spec: docs/spec/collateral-bundle.md.

(1) The envelope parses, and enough of the expected signers signed its payload.
(2) The payload is canonical; every content has the size and digest that stand beside it.
(3) It is for the expected name.
(4) Its serial number is not below the highest seen; of that number there is one bundle.
(5) It is in date, or late by no more than a grace that the caller gives, and then it says so.
(6) Every content is what its kind, name and dates say.
(7) None of Intel's documents is below the bundle's floor, and the floor never goes down.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, replace
from typing import TYPE_CHECKING

from regalia.appraisal.codes import AttestCode
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.errors import AttestationError, CoreCode, IntegrityError, ParseError
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.verifier.collateral.collection import collect
from regalia.verifier.collateral.freshness import Validity
from regalia.verifier.collateral.items import distinct, parse_item
from regalia.wire.collateral import FORMAT, PAYLOAD_TYPE, Bundle, Floors, make_entry, parse_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from regalia.appraisal.collateral import Item
    from regalia.crypto.sign import SigningKey, VerifyKey
    from regalia.verifier.collateral.collection import CollateralSet
    from regalia.verifier.collateral.freshness import Freshness
    from regalia.wire.collateral import Entry

# Keeps bundles from being declared verified by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class Floor:
    """The newest that was seen under one name. Kept by the caller, over restarts.

    Attributes:
        serial: 0 if nothing was seen yet.
        digest: of that bundle's payload, text form; empty for serial 0.
        tcb_evaluation_data_number: of that bundle's floors.
    """

    serial: int
    digest: str
    tcb_evaluation_data_number: int

    def require(self, document: Bundle, digest: Digest) -> None:
        """Not older than this. A serial number that comes again must come with the same bytes.

        Args:
            document: a bundle, whose signatures hold.
            digest: of its bytes.

        Raises:
            AttestationError: COLLATERAL_ROLLBACK.
        """
        number = document.floors.tcb_evaluation_data_number
        if document.serial < self.serial:
            raise _rollback(
                f"the bundle has serial number {document.serial}; {self.serial} was seen already"
            )
        if document.serial == self.serial and str(digest) != self.digest:
            raise _rollback(
                f"another bundle with serial number {self.serial} was seen already, {self.digest}"
            )
        if number < self.tcb_evaluation_data_number:
            raise _rollback(
                f"the bundle's floor of tcbEvaluationDataNumber is {number}; "
                f"{self.tcb_evaluation_data_number} was seen already"
            )


NO_FLOOR = Floor(0, "", 0)


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle that its signers vouch for. Made by ``verify_bundle``.

    Attributes:
        document: the payload.
        digest: of the payload.
        signed_by: fingerprints of the expected signers that signed.
        items: its entries, in its order.
        collateral: the same by kind.
        freshness: at the moment of verification; ``collateral`` is asked again later.
    """

    document: Bundle
    digest: Digest
    signed_by: tuple[str, ...]
    items: tuple[Item, ...]
    collateral: CollateralSet
    freshness: Freshness
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a verified bundle comes from verify_bundle")

    @property
    def floor(self) -> Floor:
        """What to remember of it."""
        return Floor(
            self.document.serial,
            str(self.digest),
            self.document.floors.tcb_evaluation_data_number,
        )


def verify_bundle(  # noqa: PLR0913 - everything that is expected of a bundle
    data: bytes,
    *,
    name: str,
    signers: tuple[VerifyKey, ...],
    threshold: int,
    floor: Floor,
    now: datetime,
    grace: timedelta,
) -> VerifiedBundle:
    """Turn a file into verified collateral, or refuse at the first check that fails.

    Args:
        data: raw, untrusted.
        name: the site or fleet that the bundle must be for.
        signers: whose signatures count; none denies.
        threshold: how many different ones must have signed, at least 1.
        floor: the newest seen under this name, or ``NO_FLOOR``.
        now: aware.
        grace: how long after its next update it still counts; ``NO_GRACE`` unless a policy
            says otherwise by name.

    Raises:
        ParseError: the file or a content is malformed.
        IntegrityError: WRONG_PAYLOAD_TYPE.
        AttestationError: COLLATERAL_SIG_INVALID, COLLATERAL_MISSING (another site's),
            COLLATERAL_ROLLBACK or COLLATERAL_STALE.
        ValueError: ``now`` has no time zone, or the threshold is not positive (caller's bugs).
    """
    payload, signed_by = _payload(data, signers, threshold)  # (1)
    document, contents = parse_bundle(payload)  # (2)
    if document.name != name:  # (3)
        raise AttestationError(
            AttestCode.COLLATERAL_MISSING,
            f"the bundle is for {document.name!r}, want one for {name!r}",
        )
    digest = Digest.of(payload)
    floor.require(document, digest)  # (4)
    validity = Validity(  # (5)
        f"the bundle {document.serial} for {name!r}",
        parse_rfc3339(document.issued),
        parse_rfc3339(document.next_update),
    )
    freshness = validity.require(now, grace)
    items = tuple(  # (6)
        _item(entry, content) for entry, content in zip(document.entries, contents, strict=True)
    )
    _require_evaluated(document, items)  # (7)
    return VerifiedBundle(
        document=document,
        digest=digest,
        signed_by=signed_by,
        items=items,
        collateral=collect(items, validity=validity),
        freshness=freshness,
        mint=_MINT,
    )


@dataclass(frozen=True, slots=True)
class PeekedBundle:
    """What a bundle says, with nothing verified but its form: for showing, never for deciding."""

    document: Bundle
    digest: Digest
    items: tuple[Item, ...]
    signers: tuple[str, ...]  # fingerprints that the file names


def peek_bundle(data: bytes) -> PeekedBundle:
    """Read a bundle without checking who signed it, or when.

    Raises:
        ParseError: malformed. IntegrityError: WRONG_PAYLOAD_TYPE.
    """
    envelope = dsse.parse_envelope(data, what="collateral bundle")
    if envelope.payload_type != PAYLOAD_TYPE:
        raise IntegrityError(
            dsse.DsseCode.WRONG_PAYLOAD_TYPE,
            f"want {PAYLOAD_TYPE}, got {envelope.payload_type[:100]!r}",
        )
    payload = envelope.unverified_payload
    document, contents = parse_bundle(payload)
    items = tuple(map(_item, document.entries, contents))
    names = tuple(name for name, _ in envelope.signatures)
    return PeekedBundle(document, Digest.of(payload), items, names)


def add_signatures(data: bytes, keys: tuple[SigningKey, ...]) -> bytes:
    """Add signatures, so that several people can sign one after another.

    The signatures that are there already are kept as they are, unchecked.

    Args:
        data: a bundle, untrusted.
        keys: each adds one signature.

    Raises:
        ParseError: the bundle is malformed, or a key has signed already.
        IntegrityError: WRONG_PAYLOAD_TYPE.
    """
    peek_bundle(data)
    envelope = dsse.parse_envelope(data, what="collateral bundle")
    more = dsse.sign(PAYLOAD_TYPE, envelope.unverified_payload, keys)
    both = replace(envelope, signatures=envelope.signatures + more.signatures).encode()
    dsse.parse_envelope(both, what="collateral bundle")
    return both


def _payload(
    data: bytes, signers: tuple[VerifyKey, ...], threshold: int
) -> tuple[bytes, tuple[str, ...]]:
    """(1) The signed payload, and who of the expected ones signed it."""
    envelope = dsse.parse_envelope(data, what="collateral bundle")
    try:
        payload = envelope.verify(PAYLOAD_TYPE, signers, threshold=threshold)
    except IntegrityError as exc:
        if exc.code is dsse.DsseCode.WRONG_PAYLOAD_TYPE:
            raise
        raise AttestationError(AttestCode.COLLATERAL_SIG_INVALID, exc.what) from exc
    trusted = {str(key.fingerprint) for key in signers}
    return payload, tuple(name for name, _ in envelope.signatures if name in trusted)


def _item(entry: Entry, content: bytes) -> Item:
    """(6) A name or a date that the content does not have would mislead whoever reads the list."""
    what = f"collateral bundle, {entry.kind} {entry.name!r}"
    item = parse_item(entry.kind, content, what=what)
    name, hash_, number = entry.name.rpartition(" #")
    if item.name != entry.name and not (hash_ and name == item.name and number.isdecimal()):
        raise ParseError(CoreCode.MALFORMED, f"{what}: the content is {item.name!r}")
    for text, moment in (
        (entry.valid_from, item.valid_from),
        (entry.valid_until, item.valid_until),
    ):
        seen = "" if moment is None else rfc3339(moment)
        if text != seen:
            raise ParseError(
                CoreCode.MALFORMED, f"{what}: the date {text!r} is {seen!r} in the content"
            )
    return replace(item, name=entry.name, source=entry.source)


def _require_evaluated(document: Bundle, items: tuple[Item, ...]) -> None:
    """(7) Intel raises tcbEvaluationDataNumber with each recovery: an older one hides it."""
    least = document.floors.tcb_evaluation_data_number
    for item in items:
        number = item.tcb_evaluation_data_number
        if number is not None and number < least:
            raise _rollback(
                f"{item.kind} {item.name!r} has tcbEvaluationDataNumber "
                f"{number}, and the bundle's floor is {least}"
            )


def _rollback(what: str) -> AttestationError:
    return AttestationError(AttestCode.COLLATERAL_ROLLBACK, what)


def make_bundle(  # noqa: PLR0913 - everything that its maker decides
    items: Iterable[Item],
    *,
    name: str,
    serial: int,
    issued: datetime,
    next_update: datetime,
    tcb_evaluation_data_number: int,
    keys: tuple[SigningKey, ...],
) -> bytes:
    """A signed bundle over ``items``; ``verify_bundle`` is its inverse.

    Args:
        items: what it holds.
        name: of the site that it is for.
        serial: higher than that of every bundle before.
        issued: aware.
        next_update: after which it is late, aware.
        tcb_evaluation_data_number: Intel's documents below it are refused.
        keys: each adds one signature.

    Raises:
        ParseError: it would not parse again, for example because there are no items.
        AttestationError: COLLATERAL_ROLLBACK, one of Intel's documents is below the floor.
    """
    items = distinct(items)
    document = Bundle(
        entries=[
            make_entry(
                item.kind,
                item.name,
                item.content,
                source=item.source,
                valid_from=item.valid_from,
                valid_until=item.valid_until,
            )
            for item in items
        ],
        floors=Floors(tcb_evaluation_data_number=tcb_evaluation_data_number),
        format=FORMAT,
        issued=rfc3339(issued),
        name=name,
        next_update=rfc3339(next_update),
        serial=serial,
    )
    payload = document.encode()
    parse_bundle(payload)
    _require_evaluated(document, items)
    return dsse.sign(PAYLOAD_TYPE, payload, keys).encode()
