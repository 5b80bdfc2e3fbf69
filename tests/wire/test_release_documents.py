"""Messages of the release exchange and the record of it: one encoding each, nothing unknown."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import ParseError
from regalia.tlog.tiles import ENTRY_MAX
from regalia.wire.release import (
    MINT,
    NOTICE_FORMAT,
    RECORD_FORMAT,
    RECORD_FORMAT_V1,
    RECORD_LIMIT,
    ChallengeRequest,
    ChallengeResponse,
    LoggedRecord,
    LogNotice,
    LogProof,
    Reason,
    Refusal,
    ReleaseRecord,
    ReleaseRequest,
    ReleaseResponse,
    device_names,
    parse_entry,
    parse_record,
    release_info,
)
from regalia_testing.tees.nvidia.policy import gpu_claims

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_INT = st.integers(-(2**63), 2**63 - 1)


def structs(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of a message type, field by field."""
    return st.builds(
        kind,
        **{field.name: _of(field.type, field.name) for field in msgspec.structs.fields(kind)},
    )


def _of(kind: Any, name: str) -> st.SearchStrategy[Any]:  # noqa: ANN401
    if name == "format":
        return st.just(RECORD_FORMAT)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is Annotated:
        text = st.from_regex(r"\Alease:[0-9a-f]{32}\Z")
        return text if name == "lease_id" else st.integers(0, 2**53 - 1)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: _TEXT,
        int: _INT,
        str | None: st.none() | _TEXT,
        list[str]: st.lists(_TEXT, max_size=3),
        list[Reason]: st.lists(st.builds(Reason, code=_TEXT, what=_TEXT), max_size=3),
    }
    if kind in simple:
        return simple[kind]
    if kind == LogProof | None:
        return st.none() | structs(LogProof)
    return structs(kind)


KINDS: list[type[Any]] = [
    ChallengeRequest,
    ChallengeResponse,
    ReleaseRequest,
    ReleaseResponse,
    Refusal,
    LogProof,
    ReleaseRecord,
    LogNotice,
]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_message_has_one_encoding(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(structs(kind))
    encoded = canonical_json(value)
    parsed = parse_json(encoded, kind, limit=RECORD_LIMIT, what="message")
    assert parsed == value
    assert canonical_json(parsed) == encoded
    for other in (encoded + b" ", b" " + encoded, encoded.replace(b":", b": ", 1)):
        with pytest.raises(ParseError):
            parse_json(other, kind, limit=RECORD_LIMIT, what="message")
    fields = json.loads(encoded)
    with pytest.raises(ParseError):
        parse_json(canonical_json(fields | {"zzz": 1}), kind, limit=RECORD_LIMIT, what="message")
    for name in fields:
        less = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(ParseError):
            parse_json(canonical_json(less), kind, limit=RECORD_LIMIT, what="message")


@given(structs(ReleaseRecord))
@settings(max_examples=50, deadline=None)
def test_records(record: ReleaseRecord) -> None:
    assert parse_record(record.encode()) == record


def _record() -> ReleaseRecord:
    fields: dict[str, Any] = {
        field.name: 0 if field.name.endswith("_version") else ""
        for field in msgspec.structs.fields(ReleaseRecord)
    }
    fields |= {name: [] for name in ("devices", "wildcards", "reasons")}
    return ReleaseRecord(**(fields | {"format": RECORD_FORMAT, "decision": "denial"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "regalia/release-record/v1"},  # and a list of devices, which that has not
        {"format": "regalia/release-record/v2"},  # and a key wrapping
        {"format": "regalia/release-record/v4"},
        {"key_wrapping": None},
        {"devices": None},
        {"devices": [7]},
        {"decision": "maybe"},
        {"model_version": "1"},
        {"model_version": 1.0},
        {"model_version": -1},
        {"policy_version": 2**53},
        {"reasons": [{"code": "X"}]},
        {"wildcards": None},
    ],
)
def test_records_that_are_none(changes: dict[str, Any]) -> None:
    fields = json.loads(_record().encode()) | changes
    with pytest.raises(ParseError):
        parse_record(canonical_json(fields))


def test_a_record_from_before_devices_keeps_its_bytes() -> None:
    """Logs are kept longer than software: what stands in one can always be verified."""
    old = msgspec.structs.replace(_record(), format=RECORD_FORMAT_V1, key_wrapping="none")
    encoded = old.encode()
    assert b"devices" not in encoded
    assert parse_record(encoded) == old
    assert parse_record(encoded).encode() == encoded
    for format_ in (RECORD_FORMAT, "regalia/release-record/v4"):
        with pytest.raises(ParseError):
            parse_record(encoded.replace(RECORD_FORMAT_V1.encode(), format_.encode()))
    with pytest.raises(ParseError):
        parse_record(encoded + b" ")
    # The words of the format inside of a text are a text.
    spoken = msgspec.structs.replace(_record(), broker=f'"format":"{RECORD_FORMAT_V1}"')
    assert parse_record(spoken.encode()) == spoken


@pytest.mark.parametrize(
    "changes",
    [
        {"count": -1},
        {"count": 2**53},
        {"count": 10**30},
        {"count": "1"},
        {"kind": "key-released"},
        {"format": "regalia/log-notice/v2"},
        {"more": ""},
    ],
)
def test_notices_that_are_none(changes: dict[str, Any]) -> None:
    fields = {
        "broker": "",
        "count": 1,
        "format": NOTICE_FORMAT,
        "kind": "denials-counted",
        "since": "",
        "time": "",
        "what": "",
    }
    assert isinstance(parse_entry(canonical_json(fields)), LogNotice)
    with pytest.raises(ParseError):
        parse_entry(canonical_json(fields | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"custody": "vault"},
        {"key_wrapping": "rsa-pkcs1"},
        {"lease_id": ""},
        {"lease_id": "lease:" + 32 * "A"},
        {"lease_id": "lease:" + 32 * "0" + "\n"},
        {"lease_id": "x\nlease:" + 32 * "0"},
    ],
)
def test_answers_that_are_none(changes: dict[str, Any]) -> None:
    proof = {"checkpoint": "", "index": 0, "path": [], "record": ""}
    fields = {
        "custody": "hsm",
        "key_wrapping": "rsa-oaep-sha256",
        "encapsulated_key": "",
        "lease_id": "lease:" + 32 * "0",
        "lease_s": 1,
        "log": proof,
        "wrapped_key": "",
    }
    parse_json(canonical_json(fields), ReleaseResponse, limit=RECORD_LIMIT, what="answer")
    with pytest.raises(ParseError):
        parse_json(
            canonical_json(fields | changes), ReleaseResponse, limit=RECORD_LIMIT, what="answer"
        )


def test_devices_are_named_in_one_order() -> None:
    first, second = gpu_claims(1), gpu_claims(2)
    names = ["nvidia-gpu:410000000000000001", "nvidia-gpu:410000000000000002"]
    assert device_names((second, first)) == device_names((first, second)) == names
    assert device_names(()) == []


def test_a_record_over_the_limit() -> None:
    assert RECORD_LIMIT == ENTRY_MAX == 65_535
    room = RECORD_LIMIT - len(msgspec.structs.replace(_record(), chip_id="").encode())
    last = msgspec.structs.replace(_record(), chip_id="0" * room)
    assert parse_record(last.encode()) == last
    with pytest.raises(ParseError, match="TOO_LARGE"):
        parse_record(msgspec.structs.replace(_record(), chip_id="0" * (room + 1)).encode())


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_record(data)


@given(_TEXT, _TEXT, st.integers(0, 2**62), _TEXT, _TEXT, st.integers(0, 2**62))
def test_info_strings_differ_when_anything_does(  # noqa: PLR0917
    model: str, lease: str, index: int, other_model: str, other_lease: str, other_index: int
) -> None:
    one = release_info(model_id=model, lease_id=lease, record_index=index)
    two = release_info(model_id=other_model, lease_id=other_lease, record_index=other_index)
    assert (one == two) == ((model, lease, index) == (other_model, other_lease, other_index))


def test_logged_records_come_from_the_log() -> None:
    proof = LogProof(record="", index=0, path=[], checkpoint="")
    with pytest.raises(TypeError, match=r"regalia\.tlog"):
        LoggedRecord(_record(), b"", 0, proof, None)
    assert LoggedRecord(_record(), b"", 0, proof, MINT).index == 0
