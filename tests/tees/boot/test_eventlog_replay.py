"""A log is believed only if it leads to the registers that the hardware signed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import AttestationError
from regalia.tees.boot.evidence import (
    VerifiedLog,
    replay_pcrs,
    replay_rtmrs,
    require_known,
    require_pcrs,
    require_rtmrs,
)
from regalia.tees.boot.evidence.digests import hash_of
from regalia.tees.boot.evidence.kinds import EventKind
from regalia.tees.boot.evidence.log import Algorithm, Event, EventLog
from regalia_testing.tees.boot.eventlog import RTMR3_INDEX, LogBuilder, SimulatedBoot

if TYPE_CHECKING:
    from collections.abc import Callable

BANK = Algorithm.SHA256
BOOT = SimulatedBoot(locality=3, runtime_events=("domain operation content",))
LOG = BOOT.pcr_log()
PCRS = replay_pcrs(LOG, BANK)
CCEL = BOOT.ccel()
RTMRS = replay_rtmrs(CCEL)


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(AttestationError) as refusal:
        action()
    return refusal.value.code.name


def verify_pcrs(events: tuple[Event, ...]) -> VerifiedLog:
    return require_pcrs(replace(LOG, events=events), PCRS, algorithm=BANK)


def verify_ccel(events: tuple[Event, ...]) -> VerifiedLog:
    return require_rtmrs(replace(CCEL, events=events), RTMRS)


def extended(value: bytes, *contents: bytes) -> bytes:
    for content in contents:
        value = hash_of(BANK, value + hash_of(BANK, content))
    return value


def test_a_register_is_extended_by_each_digest_in_order() -> None:
    builder = LogBuilder((BANK,))
    builder.measure(8, EventKind.EV_IPL, b"one")
    builder.measure(9, EventKind.EV_IPL, b"other")
    builder.measure(8, EventKind.EV_IPL, b"two")
    values = replay_pcrs(builder.build(), BANK)
    assert values[8] == extended(bytes(32), b"one", b"two")
    assert values[9] == extended(bytes(32), b"other")
    assert values[10] == bytes(32)
    assert set(values) == {*range(17), 23}


def test_a_log_that_leads_to_the_quote_is_verified() -> None:
    log = verify_pcrs(LOG.events)
    assert dict(log.registers) == PCRS
    assert [event.number for event in log.events] == list(range(len(LOG.events)))
    assert {event.register for event in verify_ccel(CCEL.events).events} == {0, 1, 2, 3}


@pytest.mark.parametrize("algorithm", [Algorithm.SHA256, Algorithm.SHA384, Algorithm.SHA512])
def test_each_bank_stands_for_itself(algorithm: Algorithm) -> None:
    log = BOOT.pcr_log((Algorithm.SHA1, algorithm))
    quoted = replay_pcrs(log, algorithm)
    assert require_pcrs(log, quoted, algorithm=algorithm).algorithm is algorithm
    altered = replace(
        log,
        events=tuple(
            replace(event, digests=((Algorithm.SHA1, bytes(20)), event.digests[1]))
            for event in log.events
        ),
    )
    assert require_pcrs(altered, quoted, algorithm=algorithm).registers == quoted


def test_sha_1_proves_nothing() -> None:
    log = BOOT.pcr_log((Algorithm.SHA1, Algorithm.SHA256))
    quoted = replay_pcrs(log, Algorithm.SHA1)
    refused = code_of(lambda: require_pcrs(log, quoted, algorithm=Algorithm.SHA1))
    assert refused == "EVENTLOG_SHA1_ONLY"


def test_a_bank_that_the_log_lacks_or_nobody_can_compute() -> None:
    assert code_of(lambda: replay_pcrs(LOG, Algorithm.SHA512)) == "EVENTLOG_MISMATCH"
    digests = ((Algorithm.SM3_256, bytes(32)),)
    spec_id = replace(LOG.spec_id, algorithms=(Algorithm.SM3_256,))
    log = EventLog(spec_id, (Event(8, EventKind.EV_IPL, digests, b""),))
    with pytest.raises(ValueError, match="SM3_256"):
        replay_pcrs(log, Algorithm.SM3_256)


# But for the locality, for which see below.
MEASURED = [at for at, event in enumerate(LOG.events) if event.kind != EventKind.EV_NO_ACTION]


@pytest.mark.parametrize("number", MEASURED)
def test_an_event_dropped_or_doubled(number: int) -> None:
    events = LOG.events
    dropped = events[:number] + events[number + 1 :]
    doubled = (*events[: number + 1], *events[number:])
    assert code_of(lambda: verify_pcrs(dropped)) == "EVENTLOG_MISMATCH"
    assert code_of(lambda: verify_pcrs(doubled)) == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize("number", range(len(CCEL.events)))
def test_an_event_of_a_td_dropped_or_doubled(number: int) -> None:
    events = CCEL.events
    dropped = events[:number] + events[number + 1 :]
    doubled = (*events[: number + 1], *events[number:])
    assert code_of(lambda: verify_ccel(dropped)) == "EVENTLOG_MISMATCH"
    assert code_of(lambda: verify_ccel(doubled)) == "EVENTLOG_MISMATCH"


@given(st.permutations(range(len(CCEL.events))))
def test_events_of_one_register_in_another_order(order: list[int]) -> None:
    events = tuple(CCEL.events[number] for number in order)

    def per_register(which: tuple[Event, ...]) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        for event in which:
            found.setdefault(event.register, []).append(event.digest(Algorithm.SHA384))
        return found

    if per_register(events) == per_register(CCEL.events):
        # Only events of different registers changed places.
        assert verify_ccel(events).registers == RTMRS
    else:
        assert code_of(lambda: verify_ccel(events)) == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize("number", range(len(CCEL.events) - 1))
def test_two_neighbors_swapped(number: int) -> None:
    events = list(CCEL.events)
    events[number], events[number + 1] = events[number + 1], events[number]
    first, second = CCEL.events[number : number + 2]
    matters = first.register == second.register and first.digests != second.digests
    if matters:
        assert code_of(lambda: verify_ccel(tuple(events))) == "EVENTLOG_MISMATCH"
    else:
        assert verify_ccel(tuple(events)).registers == RTMRS


@pytest.mark.parametrize("number", range(len(CCEL.events)))
@pytest.mark.parametrize("byte", [0, 47])
def test_a_digest_altered(number: int, byte: int) -> None:
    event = CCEL.events[number]
    digest = bytearray(event.digest(Algorithm.SHA384))
    digest[byte] ^= 1
    altered = replace(event, digests=((Algorithm.SHA384, bytes(digest)),))
    events = (*CCEL.events[:number], altered, *CCEL.events[number + 1 :])
    assert code_of(lambda: verify_ccel(events)) == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize(
    ("number", "register"),
    [(at, to) for at in (0, 5, 20) for to in (1, 2, 3, 4) if CCEL.events[at].register != to],
)
def test_an_event_moved_to_another_register(number: int, register: int) -> None:
    moved = replace(CCEL.events[number], register=register)
    events = (*CCEL.events[:number], moved, *CCEL.events[number + 1 :])
    assert code_of(lambda: verify_ccel(events)) == "EVENTLOG_MISMATCH"


def test_an_event_renamed_to_one_that_is_not_measured() -> None:
    renamed = replace(CCEL.events[-1], kind=EventKind.EV_NO_ACTION)
    events = (*CCEL.events[:-1], renamed)
    assert code_of(lambda: verify_ccel(events)) == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize("index", [0, 5, 16])
def test_a_td_has_four_registers(index: int) -> None:
    stray = replace(CCEL.events[-1], register=index)
    assert code_of(lambda: verify_ccel((*CCEL.events, stray))) == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize("index", [17, 22])
def test_a_static_boot_extends_no_register_of_a_dynamic_launch(index: int) -> None:
    stray = replace(LOG.events[-1], register=index)
    assert code_of(lambda: verify_pcrs((*LOG.events, stray))) == "EVENTLOG_MISMATCH"
    quoted = {index: b"\xff" * 32}
    assert code_of(lambda: require_pcrs(LOG, quoted, algorithm=BANK)) == "EVENTLOG_MISMATCH"


def test_a_log_of_a_td_has_sha_384_alone() -> None:
    for algorithms in ((Algorithm.SHA256,), (Algorithm.SHA256, Algorithm.SHA384)):
        log = BOOT.pcr_log(algorithms)
        with pytest.raises(AttestationError, match="SHA-384"):
            replay_rtmrs(log)


def test_no_register_no_log() -> None:
    assert code_of(lambda: require_pcrs(LOG, {}, algorithm=BANK)) == "EVENTLOG_MISMATCH"
    assert code_of(lambda: require_rtmrs(CCEL, {})) == "EVENTLOG_MISMATCH"


def test_the_refusal_names_register_seen_and_wanted() -> None:
    wanted = {**RTMRS, 2: b"\x01" * 48}
    with pytest.raises(AttestationError) as refusal:
        require_rtmrs(CCEL, wanted)
    for part in ("RTMR2", RTMRS[2].hex(), wanted[2].hex()):
        assert part in refusal.value.what


def test_events_of_registers_that_nobody_signed_are_left_out() -> None:
    log = require_pcrs(LOG, {7: PCRS[7]}, algorithm=BANK)
    assert {event.register for event in log.events} == {7}
    assert dict(log.registers) == {7: PCRS[7]}
    log = require_rtmrs(CCEL, {3: RTMRS[3]})
    assert {event.register for event in log.events} == {3}
    assert CCEL.events[-1].register == RTMR3_INDEX


@pytest.mark.parametrize(("locality", "last"), [(0, 0), (3, 3), (4, 4)])
def test_pcr_0_starts_at_the_locality(locality: int, last: int) -> None:
    builder = LogBuilder((BANK,))
    builder.note(b"StartupLocality\x00" + bytes([locality]))
    builder.measure(0, EventKind.EV_POST_CODE, b"code")
    builder.measure(1, EventKind.EV_POST_CODE, b"code")
    values = replay_pcrs(builder.build(), BANK)
    assert values[0] == extended(bytes(31) + bytes([last]), b"code")
    assert values[1] == extended(bytes(32), b"code")


def test_an_hcrtm_without_a_locality_means_4() -> None:
    builder = LogBuilder((BANK,))
    builder.measure(0, EventKind.EV_EFI_HCRTM_EVENT, b"HCRTM", b"the code")
    values = replay_pcrs(builder.build(), BANK)
    assert values[0] == extended(bytes(31) + b"\x04", b"the code")


def test_a_locality_dropped_altered_or_late_leads_elsewhere() -> None:
    locality, *rest = LOG.events
    assert locality.kind == EventKind.EV_NO_ACTION
    without = tuple(rest)
    late = (*rest, locality)
    altered = (replace(locality, data=b"StartupLocality\x00\x04"), *rest)
    elsewhere = (replace(locality, register=1), *rest)
    for events in (without, late, altered, elsewhere):
        with pytest.raises(AttestationError, match="PCR 0"):
            verify_pcrs(events)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x05", b"\x03\x00"])
def test_a_locality_that_no_firmware_has(data: bytes) -> None:
    locality, *rest = LOG.events
    odd = replace(locality, data=b"StartupLocality\x00" + data)
    assert code_of(lambda: verify_pcrs((odd, *rest))) == "EVENTLOG_MISMATCH"
    twice = (locality, *LOG.events)
    assert code_of(lambda: verify_pcrs(twice)) == "EVENTLOG_MISMATCH"


def test_other_notes_change_nothing_and_are_not_vouched_for() -> None:
    note = Event(0, EventKind.EV_NO_ACTION, LOG.events[0].digests, b"SP800-155 Event3 lies")
    log = verify_pcrs((*LOG.events, note))
    assert log.events[-1].proven == b""
    assert log.events[-1].digest == b""
    assert log.events[-1].standing == "unmeasured"


def test_unknown_events_are_refused_where_asked() -> None:
    boot = replace(BOOT, unknown=b"something new")
    log = require_rtmrs(boot.ccel(), replay_rtmrs(boot.ccel()))
    assert code_of(lambda: require_known(log)) == "EVENTLOG_UNKNOWN_EVENT"
    require_known(verify_ccel(CCEL.events))


def test_only_the_verifier_makes_verified_logs() -> None:
    with pytest.raises(TypeError):
        VerifiedLog(BANK, {}, (), False, object())  # noqa: FBT003 - positional as declared
    log = verify_ccel(CCEL.events)
    with pytest.raises(ValueError, match="mint"):
        replace(log, events=())  # type: ignore[call-arg] # mypy sees it too
