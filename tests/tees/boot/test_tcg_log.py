"""Event logs parse to one meaning or not at all."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.tees.boot.evidence.log import (
    EV_NO_ACTION,
    EVENT_DATA_MAX,
    EVENTS_MAX,
    LOG_MAX,
    Algorithm,
    Event,
    EventLog,
    looks_like_event_log,
    parse_event_log,
)
from regalia.tees.boot.evidence.uefi import parse_variable
from regalia_testing.tees.boot.eventlog import LogBuilder, SimulatedBoot
from regalia_testing.tees.boot.strategies import event_logs, uefi_variables

if TYPE_CHECKING:
    from regalia.tees.boot.evidence.uefi import UefiVariable

LOG = SimulatedBoot().pcr_log()
BYTES = LOG.encode()
HEADER_SIZE = len(LOG.spec_id.encode())
COUNT_AT = 32 + 24  # numberOfAlgorithms of the Spec ID
FIRST_ALGORITHM_AT = COUNT_AT + 4
EVENT = HEADER_SIZE  # where the first event starts


def code_of(data: bytes) -> str:
    with pytest.raises(ParseError) as refusal:
        parse_event_log(data)
    return refusal.value.code.name


def patched(offset: int, value: bytes, data: bytes = BYTES) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


@given(event_logs())
def test_parse_inverts_encode(log: EventLog) -> None:
    data = log.encode()
    assert parse_event_log(data) == log
    assert parse_event_log(data).encode() == data


@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_event_log(data)


@given(st.binary(max_size=200))
def test_noise_after_a_header_parses_canonically_or_not_at_all(noise: bytes) -> None:
    data = LOG.spec_id.encode() + noise
    try:
        log = parse_event_log(data)
    except ParseError:
        return
    assert log.encode() == data


@given(st.integers(0, len(BYTES) - 1), st.integers(1, 255))
def test_an_altered_log_is_another_or_none(position: int, change: int) -> None:
    data = patched(position, bytes([BYTES[position] ^ change]))
    try:
        log = parse_event_log(data)
    except ParseError:
        return
    assert log != LOG
    assert log.encode() == data


@given(st.integers(0, len(BYTES) - 1))
def test_a_log_cut_short_gains_no_event(size: int) -> None:
    """Cut at the end of an event, or within zeros that can be padding, it is a shorter log."""
    try:
        log = parse_event_log(BYTES[:size])
    except ParseError:
        return
    assert log.events == LOG.events[: len(log.events)]
    assert len(log.events) < len(LOG.events)
    assert not any(log.padding)


def test_the_sha_1_only_format_has_a_code_of_its_own() -> None:
    legacy = struct.pack("<II20sI", 0, 0x8, bytes(20), 4) + b"1.0\x00"
    assert code_of(legacy) == "EVENTLOG_SHA1_ONLY"
    for signature in (b"Spec ID Event00\x00", b"Spec ID Event02\x00"):
        assert code_of(patched(32, signature)) == "EVENTLOG_SHA1_ONLY"


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(0, struct.pack("<I", 2), id="header names another register"),
        pytest.param(8, b"\x01", id="header has a digest"),
        pytest.param(28, struct.pack("<I", EVENT_DATA_MAX + 1), id="header's data too large"),
        pytest.param(28, struct.pack("<I", HEADER_SIZE), id="header's data not all of the spec"),
        pytest.param(32, b"Spec ID EventXX\x00", id="another signature"),
        pytest.param(COUNT_AT, struct.pack("<I", 0), id="no algorithm"),
        pytest.param(COUNT_AT, struct.pack("<I", 1), id="fewer algorithms than listed"),
        pytest.param(COUNT_AT, struct.pack("<I", 3), id="more algorithms than listed"),
        pytest.param(COUNT_AT, struct.pack("<I", 2**32 - 1), id="endless algorithms"),
        pytest.param(FIRST_ALGORITHM_AT, struct.pack("<H", 0x10), id="TPM_ALG_NULL"),
        pytest.param(FIRST_ALGORITHM_AT, struct.pack("<HH", 0xC, 48), id="algorithm twice"),
        pytest.param(FIRST_ALGORITHM_AT + 2, struct.pack("<H", 31), id="another digest size"),
        pytest.param(HEADER_SIZE - 1, b"\x01", id="vendor information runs over"),
        pytest.param(EVENT, struct.pack("<I", 24), id="PCR 24"),
        pytest.param(EVENT, b"\xff\xff\xff\xff", id="padding with something behind it"),
        pytest.param(EVENT + 8, struct.pack("<I", 1), id="a digest missing"),
        pytest.param(EVENT + 8, struct.pack("<I", 3), id="a digest too many"),
        pytest.param(EVENT + 8, struct.pack("<I", 2**32 - 1), id="endless digests"),
        pytest.param(EVENT + 12, struct.pack("<H", 0xC), id="a digest of another bank"),
        pytest.param(EVENT + 12, struct.pack("<H", 0x99), id="a digest of no bank"),
    ],
)
def test_malformed(offset: int, value: bytes) -> None:
    assert code_of(patched(offset, value)) == "MALFORMED"


def test_a_spec_id_of_another_version() -> None:
    assert code_of(patched(32, b"Spec ID Event04\x00")) == "UNSUPPORTED_VERSION"


def test_digests_come_in_the_order_of_the_header() -> None:
    event = LOG.events[0]
    swapped = replace(event, digests=event.digests[::-1])
    assert code_of(replace(LOG, events=(swapped,)).encode()) == "MALFORMED"


def test_limits_hold_before_anything_is_kept() -> None:
    assert code_of(bytes(LOG_MAX + 1)) == "TOO_LARGE"
    size_at = EVENT + 12 + 2 + 32 + 2 + 48
    assert code_of(patched(size_at, struct.pack("<I", EVENT_DATA_MAX + 1))) == "TOO_LARGE"
    builder = LogBuilder((Algorithm.SHA256,))
    builder.note(b"")
    log = builder.build()
    many = replace(log, events=log.events * EVENTS_MAX)
    assert len(parse_event_log(many.encode()).events) == EVENTS_MAX
    assert code_of(replace(log, events=log.events * (EVENTS_MAX + 1)).encode()) == "TOO_LARGE"


def test_the_largest_event_and_the_largest_log_parse() -> None:
    builder = LogBuilder((Algorithm.SHA256,))
    builder.note(bytes(EVENT_DATA_MAX))
    log = builder.build()
    padded = replace(log, padding=b"\xff" * (LOG_MAX - len(log.encode())))
    assert len(padded.encode()) == LOG_MAX == 1 << 20
    assert parse_event_log(padded.encode()) == padded
    builder.note(bytes(EVENT_DATA_MAX + 1))
    assert code_of(builder.build().encode()) == "TOO_LARGE"
    assert (EVENTS_MAX, EVENT_DATA_MAX) == (8192, 256 * 1024)


def test_every_algorithm_and_every_pcr_at_once() -> None:
    builder = LogBuilder((Algorithm.SHA256,))
    builder.note(b"")
    log = builder.build()
    digests = tuple((each, bytes(each.size)) for each in Algorithm)
    events = tuple(Event(index, EV_NO_ACTION, digests, b"") for index in range(24))
    spec_id = replace(log.spec_id, algorithms=tuple(Algorithm))
    assert parse_event_log(EventLog(spec_id, events).encode()).events == events


def test_algorithms_are_those_of_the_registry() -> None:
    """TCG Algorithm Registry, table TPM_ALG_ID."""
    assert {each.name: (each.value, each.size) for each in Algorithm} == {
        "SHA1": (0x04, 20),
        "SHA256": (0x0B, 32),
        "SHA384": (0x0C, 48),
        "SHA512": (0x0D, 64),
        "SM3_256": (0x12, 32),
        "SHA3_256": (0x27, 32),
        "SHA3_384": (0x28, 48),
        "SHA3_512": (0x29, 64),
    }


@pytest.mark.parametrize("fill", [b"\x00", b"\xff"])
@pytest.mark.parametrize("size", [1, 3, 4, 11, 12, 500])
def test_padding_is_kept_and_nothing_hides_behind_it(fill: bytes, size: int) -> None:
    padded = BYTES + fill * size
    assert parse_event_log(padded).padding == fill * size
    assert parse_event_log(padded).events == LOG.events
    assert code_of(padded + b"\x7f") == "MALFORMED"
    assert code_of(padded + LOG.events[0].encode()) == "MALFORMED"


def test_a_log_without_events_is_one() -> None:
    assert parse_event_log(LOG.spec_id.encode()).events == ()


def test_a_digest_of_a_bank_that_is_not_there_is_no_digest() -> None:
    event = Event(0, EV_NO_ACTION, ((Algorithm.SHA256, bytes(32)),), b"")
    assert event.digest(Algorithm.SHA256) == bytes(32)
    with pytest.raises(KeyError):
        event.digest(Algorithm.SHA384)


@given(uefi_variables())
def test_parse_variable_inverts_encode(variable: UefiVariable) -> None:
    data = variable.encode()
    assert parse_variable(data) == variable
    for altered in (data[:-1], data + b"\x00", data[:31]):
        with pytest.raises(ParseError):
            parse_variable(altered)


@given(st.binary(max_size=80))
def test_a_variable_parses_canonically_or_not_at_all(data: bytes) -> None:
    try:
        variable = parse_variable(data)
    except ParseError:
        return
    assert variable.encode() == data


def test_a_variable_with_half_a_character_is_refused() -> None:
    lone_surrogate = bytes(16) + struct.pack("<QQ", 1, 0) + b"\x00\xd8"
    with pytest.raises(ParseError, match="UTF-16"):
        parse_variable(lone_surrogate)


class Counted(bytes):
    """Counts the bytes that are copied out of it."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - as of bytes
        taken = super().__getitem__(key)
        if isinstance(key, slice):
            self.copied += len(taken)
        return taken


def test_a_look_at_a_log_copies_it_once_at_most() -> None:
    """Each event began like padding, and all that followed was looked through at each of them."""
    event = struct.pack("<II", 0, 0) + bytes(4) + b"\x11" * 16 + struct.pack("<I", 0)
    old = Counted(event * (EVENTS_MAX - 1) + b"\x01" * (1 << 20))
    assert not looks_like_event_log(old)
    assert old.copied < len(old)
    new = Event(0, 0, tuple((each, bytes(each.size)) for each in LOG.spec_id.algorithms), b"\x01")
    log = Counted(replace(LOG, events=(new,) * 2000).encode())
    assert len(parse_event_log(log).events) == 2000
    assert log.copied < 4 * len(log)


@pytest.mark.parametrize("fill", [b"\x00", b"\xff", b"\x01"])
@pytest.mark.parametrize("size", [0, 1, 31, 32, 5000])
def test_an_old_log_may_end_with_padding(fill: bytes, size: int) -> None:
    event = struct.pack("<II20sI", 7, 4, b"\x11" * 20, 4) + bytes(4)
    assert looks_like_event_log(event * 3 + fill * size) is (size == 0 or fill != b"\x01")
