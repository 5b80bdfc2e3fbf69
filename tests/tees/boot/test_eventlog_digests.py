"""Of an event, only what its digest covers is believed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import AttestationError
from regalia.tees.boot.evidence import (
    Standing,
    replay_pcrs,
    replay_rtmrs,
    require_pcrs,
    require_rtmrs,
)
from regalia.tees.boot.evidence.digests import appraise_event, hash_of
from regalia.tees.boot.evidence.kinds import COVERAGE, Coverage, EventKind
from regalia.tees.boot.evidence.log import Algorithm, Event, EventLog
from regalia.tees.boot.evidence.uefi import EFI_GLOBAL_VARIABLE, UefiVariable
from regalia_testing.tees.boot.eventlog import SimulatedBoot

if TYPE_CHECKING:
    from regalia.tees.boot.evidence import VerifiedLog

BANK = Algorithm.SHA256
BOOT = SimulatedBoot(
    uki_sections=((".linux", b"MZ kernel"), (".cmdline", b"quiet")),
    runtime_events=("domain operation content",),
)
CCEL = BOOT.ccel()
RTMRS = replay_rtmrs(CCEL)
VARIABLE = UefiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", b"\x01\x00").encode()
# Types whose digest must cover the data in this way, with data of that type.
STRICT = {
    EventKind.EV_SEPARATOR: bytes(4),
    EventKind.EV_ACTION: b"Calling INT 19h",
    EventKind.EV_S_CRTM_VERSION: b"version",
    EventKind.EV_OMIT_BOOT_DEVICE_EVENTS: b"BOOT ATTEMPTS OMITTED",
    EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG: VARIABLE,
    EventKind.EV_EFI_VARIABLE_BOOT: VARIABLE,
    EventKind.EV_EFI_VARIABLE_BOOT2: VARIABLE,
    EventKind.EV_EFI_GPT_EVENT: b"EFI PART",
    EventKind.EV_EFI_ACTION: b"Exit Boot Services Invocation",
    EventKind.EV_EFI_VARIABLE_AUTHORITY: VARIABLE,
}
OPAQUE = [kind for kind, coverage in COVERAGE.items() if coverage is Coverage.ELSEWHERE]
LOOSE = [
    kind
    for kind, coverage in COVERAGE.items()
    if coverage in (Coverage.MAYBE_DATA, Coverage.LOADER, Coverage.TAGGED)
]


def event(kind: int, data: bytes, covered: bytes | None = None) -> Event:
    digest = hash_of(BANK, data if covered is None else covered)
    return Event(8, kind, ((BANK, digest),), data)


def appraise(kind: int, data: bytes, covered: bytes | None = None) -> tuple[Standing, bytes]:
    return appraise_event(event(kind, data, covered), BANK, 0)


def refused(kind: int, data: bytes, covered: bytes) -> str:
    with pytest.raises(AttestationError) as refusal:
        appraise(kind, data, covered)
    return refusal.value.code.name


def test_every_type_has_a_test() -> None:
    others = {EventKind.EV_NO_ACTION}
    assert {*STRICT, *OPAQUE, *LOOSE, *others} == set(EventKind) == set(COVERAGE)


@pytest.mark.parametrize("kind", STRICT)
def test_data_that_the_digest_must_cover(kind: EventKind) -> None:
    data = STRICT[kind]
    assert appraise(kind, data) == (Standing.PROVEN, data)
    assert refused(kind, data, b"something else") == "EVENTLOG_MISMATCH"
    assert refused(kind, data, data + b"\x00") == "EVENTLOG_MISMATCH"
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1
        assert refused(kind, bytes(altered), data) == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize("kind", LOOSE)
def test_data_that_the_digest_may_cover(kind: EventKind) -> None:
    assert appraise(kind, b"data") == (Standing.PROVEN, b"data")
    assert appraise(kind, b"data", b"code elsewhere") == (Standing.OPAQUE, b"")


@pytest.mark.parametrize("kind", OPAQUE)
def test_data_that_the_digest_never_covers(kind: EventKind) -> None:
    assert appraise(kind, b"address and path", b"image") == (Standing.OPAQUE, b"")


@pytest.mark.parametrize("kind", [0, 2, 0x8000, 0x8000_0011, 0xFFFF_FFFF])
def test_unknown_types_prove_nothing(kind: int) -> None:
    assert appraise(kind, b"data") == (Standing.UNKNOWN, b"")


@pytest.mark.parametrize("data", [bytes(4), b"\xff\xff\xff\xff"])
def test_a_separator_is_one_of_two_words(data: bytes) -> None:
    assert appraise(EventKind.EV_SEPARATOR, data) == (Standing.PROVEN, data)
    assert refused(EventKind.EV_SEPARATOR, b"\x02\x00\x00\x00", data) == "EVENTLOG_MISMATCH"
    other = bytes(byte ^ 0xFF for byte in data)
    assert refused(EventKind.EV_SEPARATOR, other, data) == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize("data", [b"\x01\x00\x00\x00", b"\x2a\x00\x00\x00", b""])
def test_a_separator_with_an_error_keeps_its_code_unproven(data: bytes) -> None:
    error = b"\x01\x00\x00\x00"
    assert appraise(EventKind.EV_SEPARATOR, data, error) == (Standing.PROVEN, error)


def test_a_boot_variable_is_measured_whole_or_without_its_name() -> None:
    kind = EventKind.EV_EFI_VARIABLE_BOOT
    assert appraise(kind, VARIABLE) == (Standing.PROVEN, VARIABLE)
    assert appraise(kind, VARIABLE, b"\x01\x00") == (Standing.PROVEN, b"\x01\x00")
    assert refused(kind, b"no variable", b"\x01\x00") == "EVENTLOG_MISMATCH"
    whole = EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG
    assert refused(whole, VARIABLE, b"\x01\x00") == "EVENTLOG_MISMATCH"


def test_an_authority_may_have_one_byte_too_many() -> None:
    kind = EventKind.EV_EFI_VARIABLE_AUTHORITY
    assert appraise(kind, VARIABLE + b"\xaf", VARIABLE) == (Standing.PROVEN, VARIABLE)
    assert refused(kind, VARIABLE + b"\xaf\xaf", VARIABLE) == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize(
    "label",
    [
        b"grub_cmd: ",
        b"kernel_cmdline: ",
        b"module_cmdline: ",
        b"grub_cmd ",
        b"grub_kernel_cmdline ",
    ],
)
@pytest.mark.parametrize("end", [b"", b"\x00"])
@pytest.mark.parametrize("rest", [b"", b"\x00", b"\x00\x9f"])
def test_texts_of_grub_are_measured_without_the_label(
    label: bytes, end: bytes, rest: bytes
) -> None:
    text = b"set prefix=(hd0,gpt1)/boot/grub"
    proven = (Standing.PROVEN, text + end)
    assert appraise(EventKind.EV_IPL, label + text + rest, text + end) == proven
    other = text.replace(b"gpt1", b"gpt2")
    assert refused(EventKind.EV_IPL, label + other + rest, text + end) == "EVENTLOG_MISMATCH"


def test_sections_of_a_unified_kernel_are_named_in_utf_16_and_measured_in_ascii() -> None:
    label = ".linux".encode("utf-16-le") + b"\x00\x00"
    assert appraise(EventKind.EV_IPL, label, b".linux\x00") == (Standing.PROVEN, b".linux\x00")
    assert appraise(EventKind.EV_IPL, label, b"MZ the kernel") == (Standing.OPAQUE, b"")
    assert appraise(EventKind.EV_IPL, label, b".initrd\x00") == (Standing.OPAQUE, b"")
    for name in (".linux", "linux\x00"):  # no NUL at its end; no dot at its start
        data = name.encode("utf-16-le")
        assert appraise(EventKind.EV_IPL, data, name.encode()) == (Standing.OPAQUE, b"")


def test_an_agents_event_is_measured_whole() -> None:
    data = b"LEAA" + (3).to_bytes(4, "little") + b"a b"
    assert appraise(EventKind.EV_EVENT_TAG, data) == (Standing.PROVEN, data)
    assert refused(EventKind.EV_EVENT_TAG, data, b"a b") == "EVENTLOG_MISMATCH"
    linux = b"\xec\x22\x3b\x8f" + (3).to_bytes(4, "little") + b"a b"
    assert appraise(EventKind.EV_EVENT_TAG, linux, b"initrd") == (Standing.OPAQUE, b"")
    empty = b"LEAA" + bytes(4)
    assert appraise(EventKind.EV_EVENT_TAG, empty) == (Standing.PROVEN, empty)
    assert refused(EventKind.EV_EVENT_TAG, empty, b"x") == "EVENTLOG_MISMATCH"
    not_a_tag = b"LEAA" + (4).to_bytes(4, "little") + b"a b"
    assert appraise(EventKind.EV_EVENT_TAG, not_a_tag, b"x") == (Standing.OPAQUE, b"")


def genuine_contents(log: VerifiedLog) -> set[tuple[int, bytes]]:
    return {(each.number, each.proven) for each in log.events if each.standing == "proven"}


GENUINE = genuine_contents(require_rtmrs(CCEL, RTMRS))


@pytest.mark.parametrize("number", range(len(CCEL.events)))
def test_no_byte_of_any_data_can_change_what_is_proven(number: int) -> None:
    """Each altered log is refused, or proves nothing that the genuine one does not."""
    data = CCEL.events[number].data
    codes: list[str] = []
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 0x01
        changed = replace(CCEL.events[number], data=bytes(altered))
        events = (*CCEL.events[:number], changed, *CCEL.events[number + 1 :])
        try:
            log = require_rtmrs(EventLog(CCEL.spec_id, events), RTMRS)
        except AttestationError as refusal:
            codes.append(refusal.code.name)
        else:
            assert genuine_contents(log) <= GENUINE
    kind = CCEL.events[number].kind
    if kind in STRICT and kind != EventKind.EV_EFI_VARIABLE_BOOT:
        assert codes == ["EVENTLOG_MISMATCH"] * len(data)
    assert set(codes) <= {"EVENTLOG_MISMATCH"}


@given(st.integers(0, len(CCEL.events) - 1), st.binary(max_size=40), st.integers(0, 2**32 - 1))
def test_no_data_and_no_type_can_prove_what_was_not_measured(
    number: int, data: bytes, kind: int
) -> None:
    changed = replace(CCEL.events[number], data=data, kind=kind)
    events = (*CCEL.events[:number], changed, *CCEL.events[number + 1 :])
    try:
        log = require_rtmrs(EventLog(CCEL.spec_id, events), RTMRS)
    except AttestationError:
        return
    assert all(
        hash_of(Algorithm.SHA384, each.proven) == each.digest
        for each in log.events
        if each.standing is Standing.PROVEN
    )


@given(st.sampled_from(list(EventKind)), st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_is_proven_has_the_digest(kind: EventKind, data: bytes, covered: bytes) -> None:
    try:
        standing, proven = appraise(kind, data, covered)
    except AttestationError:
        return
    if standing is Standing.PROVEN:
        assert hash_of(BANK, proven) == hash_of(BANK, covered)
    else:
        assert proven == b""


def test_events_of_other_registers_are_not_held_against_a_log() -> None:
    log = BOOT.pcr_log((BANK,))
    stray = Event(16, EventKind.EV_EFI_ACTION, ((BANK, bytes(32)),), b"not what was measured")
    log = replace(log, events=(*log.events, stray))
    pcrs = replay_pcrs(log, BANK)
    assert require_pcrs(log, {7: pcrs[7]}, algorithm=BANK).events
    with pytest.raises(AttestationError, match="EV_EFI_ACTION"):
        require_pcrs(log, {7: pcrs[7], 16: pcrs[16]}, algorithm=BANK)
