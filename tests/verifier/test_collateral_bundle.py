"""Collateral bundles: what is signed comes out, and every defect has its code."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.appraisal.collateral_rule import NO_GRACE
from regalia.core.codec import canonical_json
from regalia.core.errors import ParseError, RegaliaError
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.crypto.sign import SigningKey
from regalia.verifier.collateral import (
    NO_FLOOR,
    Floor,
    Freshness,
    VerifiedBundle,
    add_signatures,
    make_bundle,
    peek_bundle,
    sort_files,
    verify_bundle,
)
from regalia.verifier.collateral.collection import collect
from regalia.wire.collateral import PAYLOAD_TYPE, CollateralKind, parse_bundle
from regalia_testing.collateral import DENY_LIST, SITE, tcb_info_body
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.verifier.collateral import Item
    from regalia_testing.tees.snp.testbed import SnpTestbed

ISSUED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW = ISSUED + timedelta(days=3)
NEXT_UPDATE = ISSUED + timedelta(days=30)
DAY = timedelta(days=1)
KEYS = (SigningKey.generate_ed25519(), SigningKey.generate_p384(), SigningKey.generate_ed25519())
STRANGER = SigningKey.generate_ed25519()
SIGNERS = tuple(key.verify_key for key in KEYS)


@pytest.fixture(scope="module")
def items(testbed: SnpTestbed) -> tuple[Item, ...]:
    """One of every kind that is signed by nobody real."""
    platform = testbed.platform
    return sort_files(
        {
            "ark.der": platform.ark,
            "ask.der": platform.ask,
            "list.crl": platform.crl,
            "sgx.json": tcb_info_body(number=18),
            "tpm-ek-root.der": platform.asvk,
            "deny.json": DENY_LIST.encode(),
        }
    )


def make(items: tuple[Item, ...], **changes: Any) -> bytes:  # noqa: ANN401
    fields: dict[str, Any] = {
        "name": SITE,
        "serial": 7,
        "issued": ISSUED,
        "next_update": NEXT_UPDATE,
        "tcb_evaluation_data_number": 17,
        "keys": KEYS[:2],
    }
    return make_bundle(items, **(fields | changes))


def verify(data: bytes, **changes: Any) -> VerifiedBundle:  # noqa: ANN401
    fields: dict[str, Any] = {
        "name": SITE,
        "signers": SIGNERS,
        "threshold": 2,
        "floor": NO_FLOOR,
        "now": NOW,
        "grace": NO_GRACE,
    }
    return verify_bundle(data, **(fields | changes))


def payload_of(data: bytes) -> bytes:
    return dsse.parse_envelope(data, what="x").unverified_payload


def signed(payload: bytes, keys: tuple[SigningKey, ...] = KEYS[:2]) -> bytes:
    return dsse.sign(PAYLOAD_TYPE, payload, keys).encode()


# -- what comes out --------------------------------------------------------------------------


def test_what_goes_in_comes_out(items: tuple[Item, ...]) -> None:
    found = verify(make(items))
    assert found.document.serial == 7
    assert found.freshness is Freshness.CURRENT
    assert found.signed_by == tuple(str(key.verify_key.fingerprint) for key in KEYS[:2])
    assert {i.content for i in found.items} == {i.content for i in items}
    assert {i.source for i in found.items} == {i.source for i in items}
    want = replace(
        collect(found.items),
        validity=found.collateral.validity,
    )
    assert found.collateral == want
    assert len(found.collateral.of(CollateralKind.TCB_INFO)) == 1
    assert {i.kind for i in found.items} == {
        CollateralKind.CERTIFICATE,
        CollateralKind.CRL,
        CollateralKind.TCB_INFO,
        CollateralKind.EK_ROOT,
        CollateralKind.DENY_LIST,
    }


def test_a_bundle_cannot_be_declared_verified(items: tuple[Item, ...]) -> None:
    found = verify(make(items))
    with pytest.raises(TypeError):
        VerifiedBundle(
            found.document,
            found.digest,
            found.signed_by,
            found.items,
            found.collateral,
            found.freshness,
            object(),
        )
    with pytest.raises((TypeError, ValueError)):
        replace(found, freshness=Freshness.CURRENT)


def test_making_is_deterministic_and_independent_of_order(items: tuple[Item, ...]) -> None:
    assert payload_of(make(items)) == payload_of(make(items[::-1]))


def test_encode_is_the_inverse_of_parse(items: tuple[Item, ...]) -> None:
    payload = payload_of(make(items))
    assert parse_bundle(payload)[0].encode() == payload


def test_two_lists_of_one_issuer_have_two_names(
    testbed: SnpTestbed, items: tuple[Item, ...]
) -> None:
    authority = testbed.platform.authority
    later = replace(authority.crl(), next_update=NOW + 100 * DAY).sign(authority.keys.ark)
    more = sort_files({"later.crl": later})
    names = [i.name for i in verify(make((*items, *more))).items if i.kind is CollateralKind.CRL]
    assert names == [items[2].name, f"{items[2].name} #2"]


# -- signatures ------------------------------------------------------------------------------


def test_fewer_signatures_than_the_threshold_are_refused(items: tuple[Item, ...]) -> None:
    data = make(items, keys=KEYS[:2])
    verify(data, threshold=2)
    refused("COLLATERAL_SIG_INVALID", verify, data=data, threshold=3)
    refused("COLLATERAL_SIG_INVALID", verify, data=make(items, keys=KEYS[:1]))


def test_a_stranger_counts_for_nothing(items: tuple[Item, ...]) -> None:
    for keys in ((STRANGER,), (STRANGER, KEYS[0]), ()):
        refused("COLLATERAL_SIG_INVALID", verify, data=make(items, keys=keys))
    verify(make(items, keys=(STRANGER, *KEYS[:2])))


def test_no_signers_deny(items: tuple[Item, ...]) -> None:
    refused("COLLATERAL_SIG_INVALID", verify, data=make(items), signers=(), threshold=1)


def test_a_threshold_of_none_is_a_bug_of_the_caller(items: tuple[Item, ...]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        verify(make(items), threshold=0)


def test_one_key_cannot_sign_for_two(items: tuple[Item, ...]) -> None:
    envelope = dsse.parse_envelope(make(items, keys=KEYS[:1]), what="x")
    doubled = replace(envelope, signatures=envelope.signatures * 2).encode()
    refused("MALFORMED", verify, data=doubled)
    refused("COLLATERAL_SIG_INVALID", verify, data=envelope.encode(), signers=SIGNERS[:1] * 2)


def test_another_signed_document_is_no_bundle(items: tuple[Item, ...]) -> None:
    data = dsse.sign("application/vnd.regalia.policy.v1+json", payload_of(make(items)), KEYS)
    refused("WRONG_PAYLOAD_TYPE", verify, data=data.encode())


def test_every_changed_byte_of_the_payload_is_refused(items: tuple[Item, ...]) -> None:
    envelope = dsse.parse_envelope(make(items[-1:], keys=KEYS[1:2]), what="x")
    payload = envelope.unverified_payload
    for at in range(len(payload)):
        changed = bytearray(payload)
        changed[at] ^= 1
        data = replace(envelope, unverified_payload=bytes(changed)).encode()
        refused("COLLATERAL_SIG_INVALID", verify, data=data, threshold=1)


def test_every_changed_byte_of_the_file_is_refused(items: tuple[Item, ...]) -> None:
    data = make(items[-1:])
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(RegaliaError):
            verify(bytes(changed))


def test_signatures_cannot_be_dropped_or_moved(items: tuple[Item, ...]) -> None:
    envelope = dsse.parse_envelope(make(items), what="x")
    other = dsse.parse_envelope(make(items, serial=8), what="x")
    (first, second), (foreign, _) = envelope.signatures, other.signatures
    for signatures in (
        (first,),
        (second,),
        (),
        (first, foreign),
        (foreign, second),
        ((first[0], second[1]), second),
    ):
        data = replace(envelope, signatures=signatures).encode()
        with pytest.raises(RegaliaError):
            verify(data)
    verify(replace(envelope, signatures=(second, first)).encode())  # their order says nothing


# -- what its signers would have to lie about ------------------------------------------------


def lies() -> dict[str, Callable[[dict[str, Any]], None]]:
    def entry(**changes: Any) -> Callable[[dict[str, Any]], None]:  # noqa: ANN401
        return lambda doc: doc["entries"][0].update(changes)

    def drop(field: str) -> Callable[[dict[str, Any]], None]:
        return lambda doc: doc["entries"][0].pop(field)

    def renamed(pattern: str) -> Callable[[dict[str, Any]], None]:
        return lambda doc: doc["entries"][0].update(name=pattern.format(doc["entries"][0]["name"]))

    def swap(doc: dict[str, Any]) -> None:
        doc["entries"][0], doc["entries"][1] = doc["entries"][1], doc["entries"][0]

    def exchange_contents(doc: dict[str, Any]) -> None:
        a, b = doc["entries"][:2]
        a["content"], b["content"] = b["content"], a["content"]

    def repeat(doc: dict[str, Any]) -> None:
        doc["entries"].insert(1, dict(doc["entries"][0]))

    def repeat_renamed(doc: dict[str, Any]) -> None:
        doc["entries"].insert(1, {**doc["entries"][0], "name": doc["entries"][0]["name"] + " #2"})

    return {
        "another format": lambda doc: doc.update(format="regalia/collateral-bundle/v2"),
        "unknown member": lambda doc: doc.update(more=1),
        "no entries": lambda doc: doc.update(entries=[]),
        "serial 0": lambda doc: doc.update(serial=0),
        "serial negative": lambda doc: doc.update(serial=-1),
        "serial too large": lambda doc: doc.update(serial=2**53),
        "floor negative": lambda doc: doc.update(floors={"tcb_evaluation_data_number": -1}),
        "no floors": lambda doc: doc.pop("floors"),
        "name empty": lambda doc: doc.update(name=""),
        "name with newline": lambda doc: doc.update(name="a\nb"),
        "dates reversed": lambda doc: doc.update(issued=doc["next_update"]),
        "date in another form": lambda doc: doc.update(issued="2026-11-22T12:00:00+00:00"),
        "entries swapped": swap,
        "entry twice": repeat,
        "entry twice under two names": repeat_renamed,
        "contents exchanged": exchange_contents,
        "content empty": entry(content="", size=0),
        "content no base64": entry(content="?"),
        "size": entry(size=1),
        "digest": entry(digest="sha256:" + "00" * 32),
        "digest without its prefix": entry(digest="00" * 32),
        "unknown kind": entry(kind="certificates"),
        "another kind": entry(kind="crl"),
        "another name": entry(name="ARK-Milan 0000000000000000"),
        "another name with a number": entry(name="ARK-Milan #2"),
        "name with no number": renamed("{} #x"),
        "name with a number and no sign": renamed("{} 2"),
        "name with space": entry(name=" x"),
        "source with newline": entry(source="a\nb"),
        "valid_from another": entry(valid_from="2020-01-01T00:00:00Z"),
        "valid_from absent": entry(valid_from=""),
        "valid_until another": entry(valid_until="2030-01-01T00:00:00Z"),
        "valid_until no date": entry(valid_until="tomorrow"),
        "no source": drop("source"),
    }


@pytest.mark.parametrize("name", lies())
def test_a_signed_lie_is_refused(items: tuple[Item, ...], name: str) -> None:
    document = json.loads(payload_of(make(items)))
    lies()[name](document)
    refused("MALFORMED", verify, data=signed(canonical_json(document)))


def test_another_spelling_is_refused(items: tuple[Item, ...]) -> None:
    payload = payload_of(make(items))
    for other in (payload + b"\n", b" " + payload, payload.replace(b'"serial":7', b'"serial":7.0')):
        refused("MALFORMED", verify, data=signed(other))
    data = make(items)
    for other in (data + b"\n", data[:-1], b"", b"{}", b"[" * 100_000):
        refused("MALFORMED", verify, data=other)


def test_limits(items: tuple[Item, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(items)
    refused("TOO_LARGE", verify, data=b"x" * (dsse.LIMIT + 1))
    monkeypatch.setattr("regalia.wire.collateral.ENTRIES_MAX", len(items) - 1)
    refused("TOO_LARGE", verify, data=data)
    monkeypatch.setattr("regalia.wire.collateral.ENTRIES_MAX", len(items))
    monkeypatch.setattr("regalia.wire.collateral.ENTRY_MAX", 100)
    refused("TOO_LARGE", verify, data=data)
    monkeypatch.setattr("regalia.wire.collateral.PAYLOAD_MAX", 100)
    refused("TOO_LARGE", verify, data=data)


def test_content_that_is_not_what_its_kind_says(items: tuple[Item, ...]) -> None:
    for index in range(len(items)):
        document = json.loads(payload_of(make(items)))
        entry = document["entries"][index]
        content = base64.b64decode(entry["content"])[:-1]
        entry["content"] = base64.b64encode(content).decode()
        entry["size"] -= 1
        entry["digest"] = str(Digest.of(content))
        refused("MALFORMED", verify, data=signed(canonical_json(document)))


# -- scope, serial numbers, dates ------------------------------------------------------------


def test_the_bundle_of_another_site_is_refused(items: tuple[Item, ...]) -> None:
    said = refused("COLLATERAL_MISSING", verify, data=make(items, name="other"))
    assert "other" in said
    assert SITE in said


def test_an_older_bundle_is_refused(items: tuple[Item, ...]) -> None:
    newer = verify(make(items, serial=8))
    refused("COLLATERAL_ROLLBACK", verify, data=make(items, serial=7), floor=newer.floor)
    verify(make(items, serial=8), floor=newer.floor)
    verify(make(items, serial=9), floor=newer.floor)


def test_one_serial_number_is_one_bundle(items: tuple[Item, ...]) -> None:
    seen = verify(make(items))
    other = make(items[1:])
    assert "another bundle" in refused("COLLATERAL_ROLLBACK", verify, data=other, floor=seen.floor)


def test_the_same_payload_signed_by_others_is_the_same_bundle(items: tuple[Item, ...]) -> None:
    seen = verify(make(items))
    assert verify(make(items, keys=KEYS[1:]), floor=seen.floor).floor == seen.floor


def test_the_floor_of_intels_number_never_goes_down(items: tuple[Item, ...]) -> None:
    lower = make(items, serial=8, tcb_evaluation_data_number=16)
    refused("COLLATERAL_ROLLBACK", verify, data=lower, floor=Floor(7, "", 17))
    verify(make(items, tcb_evaluation_data_number=18))  # as its only document says
    refused("COLLATERAL_ROLLBACK", make, items=items, tcb_evaluation_data_number=19)
    document = json.loads(payload_of(make(items)))
    document["floors"]["tcb_evaluation_data_number"] = 19
    refused("COLLATERAL_ROLLBACK", verify, data=signed(canonical_json(document)))


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("now", "grace", "want"),
    [
        (ISSUED, NO_GRACE, "current"),
        (NEXT_UPDATE, NO_GRACE, "current"),
        (NEXT_UPDATE, 3 * DAY, "current"),
        (ISSUED - SECOND, NO_GRACE, "COLLATERAL_STALE"),
        (ISSUED - SECOND, 9 * DAY, "COLLATERAL_STALE"),  # grace is for lateness alone
        (NEXT_UPDATE + SECOND, NO_GRACE, "COLLATERAL_STALE"),
        (NEXT_UPDATE + SECOND, 3 * DAY, "grace"),
        (NEXT_UPDATE + 3 * DAY, 3 * DAY, "grace"),
        (NEXT_UPDATE + 3 * DAY + SECOND, 3 * DAY, "COLLATERAL_STALE"),
    ],
)
def test_dates(items: tuple[Item, ...], now: datetime, grace: timedelta, want: str) -> None:
    data = make(items)
    if want == "COLLATERAL_STALE":
        said = refused(want, verify, data=data, now=now, grace=grace)
        assert "in date from 2026-11-22T12:00:00Z to 2026-12-22T12:00:00Z" in said
        refused(want, verify(data).collateral.require_fresh, now=now, grace=grace)
    else:
        assert verify(data, now=now, grace=grace).freshness.value == want
        assert verify(data).collateral.require_fresh(now, grace).value == want


def test_a_moment_without_a_time_zone_is_a_bug_of_the_caller(items: tuple[Item, ...]) -> None:
    with pytest.raises(ValueError, match="time zone"):
        verify(make(items), now=NOW.replace(tzinfo=None))


# -- before anybody looks at signatures ------------------------------------------------------


def test_a_bundle_of_nothing_is_not_made() -> None:
    refused("MALFORMED", make, items=())


def test_what_a_bundle_says_is_shown_whoever_signed_it(items: tuple[Item, ...]) -> None:
    data = make(items, keys=(STRANGER,))
    found = peek_bundle(data)
    assert found.document == parse_bundle(payload_of(data))[0]
    assert {item.content for item in found.items} == {item.content for item in items}
    assert found.digest == Digest.of(payload_of(data))
    assert found.signers == (str(STRANGER.verify_key.fingerprint),)
    other = dsse.sign("application/json", payload_of(data), KEYS).encode()
    for call in (peek_bundle, lambda data: add_signatures(data, KEYS)):
        refused("WRONG_PAYLOAD_TYPE", call, data=other)
        refused("MALFORMED", call, data=signed(b"{}"))


def test_several_people_sign_one_after_another(items: tuple[Item, ...]) -> None:
    first = make(items, keys=KEYS[:1])
    both = add_signatures(first, KEYS[1:2])
    assert verify(both).signed_by == verify(make(items)).signed_by
    assert payload_of(both) == payload_of(first)
    refused("MALFORMED", add_signatures, data=both, keys=KEYS[:1])  # nobody signs twice


# -- hostile bytes ---------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(RegaliaError):
        verify(data)
    with pytest.raises(ParseError):
        parse_bundle(data)
    with pytest.raises(RegaliaError):
        verify(signed(data))
