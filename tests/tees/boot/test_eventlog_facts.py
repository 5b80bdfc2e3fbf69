"""Facts hold against whoever sends the log, and say what the boot really was."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import AttestationError, RegaliaError
from regalia.tees.boot.evidence import (
    read_facts,
    replay_pcrs,
    replay_rtmrs,
    require_pcrs,
    require_rtmrs,
)
from regalia.tees.boot.evidence.digests import hash_of
from regalia.tees.boot.evidence.kinds import EventKind
from regalia.tees.boot.evidence.log import Algorithm, parse_event_log
from regalia.tees.boot.evidence.uefi import (
    EFI_GLOBAL_VARIABLE,
    EFI_IMAGE_SECURITY_DATABASE,
    UefiVariable,
)
from regalia_testing.tees.boot.eventlog import LogBuilder, SimulatedBoot
from regalia_testing.tees.boot.strategies import uefi_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.boot.evidence.log import Event, EventLog

BANK = Algorithm.SHA256
BOOT = SimulatedBoot(
    commands=("set timeout=0", "linux /vmlinuz quiet"),
    uki_sections=((".linux", b"MZ kernel"), (".cmdline", b"quiet")),
    runtime_events=("domain operation content",),
)


def pcr_facts(log: EventLog, registers: Iterable[int] | None = None) -> BootFacts:
    values = replay_pcrs(log, BANK)
    quoted = {index: values[index] for index in (values if registers is None else registers)}
    return read_facts(require_pcrs(log, quoted, algorithm=BANK))


def td_facts(log: EventLog, registers: Iterable[int] = (0, 1, 2, 3)) -> BootFacts:
    values = replay_rtmrs(log)
    return read_facts(require_rtmrs(log, {index: values[index] for index in registers}))


def of_pcrs(boot: SimulatedBoot) -> BootFacts:
    return pcr_facts(boot.pcr_log())


def of_td(boot: SimulatedBoot) -> BootFacts:
    return td_facts(boot.ccel())


BOTH = pytest.mark.parametrize("facts_of", [of_pcrs, of_td])


@BOTH
def test_a_boot_as_it_should_be(facts_of: Callable[[SimulatedBoot], BootFacts]) -> None:
    facts = facts_of(BOOT)
    bank = BANK if facts_of is of_pcrs else Algorithm.SHA384
    assert facts.secure_boot is True
    assert facts.firmware_debugger is False
    assert facts.firmware_error is False
    assert facts.pk == hashlib.sha256(b"simulated PK").digest()
    assert facts.dbx == hashlib.sha256(b"").digest()
    assert len(facts.authorities) == 2
    assert facts.boot_images == (hash_of(bank, BOOT.loader), hash_of(bank, BOOT.kernel))
    assert facts.kernel_command_lines == ("/vmlinuz quiet",)
    assert facts.loader_commands == BOOT.commands
    assert facts.load_options == (hash_of(bank, "/vmlinuz quiet\x00".encode("utf-16-le")),)
    assert facts.initrds == (hash_of(bank, BOOT.initrd),)
    assert facts.uki_sections == (
        (".linux", hash_of(bank, b"MZ kernel")),
        (".cmdline", hash_of(bank, b"quiet")),
    )
    assert facts.runtime_events == ("domain operation content",)
    assert facts.exit_boot_services is True
    assert facts.unknown_events == 0


@BOTH
@pytest.mark.parametrize("data", [b"\x01", b"\x00", b""])
def test_secure_boot(facts_of: Callable[[SimulatedBoot], BootFacts], data: bytes) -> None:
    assert facts_of(replace(BOOT, secure_boot=data)).secure_boot is (data == b"\x01")


@BOTH
def test_a_secure_boot_variable_that_is_neither(
    facts_of: Callable[[SimulatedBoot], BootFacts],
) -> None:
    assert facts_of(replace(BOOT, secure_boot=b"\x02")).secure_boot is None


@BOTH
def test_a_debugger_an_error_and_something_unknown(
    facts_of: Callable[[SimulatedBoot], BootFacts],
) -> None:
    assert facts_of(replace(BOOT, debugger=True)).firmware_debugger is True
    assert facts_of(replace(BOOT, firmware_error=True)).firmware_error is True
    assert facts_of(replace(BOOT, unknown=b"?")).unknown_events == 1


def test_option_roms_have_a_pcr_and_no_rtmr_of_their_own() -> None:
    rom = replace(BOOT, option_rom=b"a ROM")
    assert of_pcrs(BOOT).option_roms == ()
    assert of_pcrs(rom).option_roms == (hash_of(BANK, b"a ROM"),)
    assert of_td(rom).option_roms is None
    images = of_td(rom).boot_images
    assert images is not None
    assert hash_of(Algorithm.SHA384, b"a ROM") in images


def test_registers_that_nobody_signed_give_no_facts() -> None:
    facts = pcr_facts(BOOT.pcr_log(), [14])
    assert facts.secure_boot is None
    assert facts.firmware_debugger is None
    assert facts.firmware_error is None
    assert facts.pk is None
    assert facts.boot_images is None
    assert facts.option_roms is None
    assert facts.kernel_command_lines == ()
    assert facts.exit_boot_services is False
    assert td_facts(BOOT.ccel(), [3]).secure_boot is None
    assert td_facts(BOOT.ccel(), [3]).boot_images is None


# A sender who lies: types and unmeasured bytes changed, so that every register still replays.


def relabelled(log: EventLog, change: Callable[[Event], Event]) -> EventLog:
    changed = replace(log, events=tuple(change(event) for event in log.events))
    assert replay_pcrs(changed, BANK) == replay_pcrs(log, BANK)
    return changed


def hide(*contents: bytes) -> Callable[[Event], Event]:
    """Call events over these contents a loader's file, whose digest proves nothing."""
    digests = {hash_of(BANK, content) for content in contents}

    def change(event: Event) -> Event:
        if event.digest(BANK) in digests:
            return replace(event, kind=EventKind.EV_IPL, data=b"/harmless\x00")
        return event

    return change


def secure_boot_variable(data: bytes) -> bytes:
    return UefiVariable(EFI_GLOBAL_VARIABLE, "SecureBoot", data).encode()


def test_secure_boot_cannot_be_claimed_after_the_separator() -> None:
    """The system of a machine without Secure Boot extends PCR 7 as if it had it."""
    log = replace(BOOT, secure_boot=b"\x00").pcr_log((BANK,))
    later = LogBuilder((BANK,))
    for data in (secure_boot_variable(b"\x01"),):
        later.measure(7, EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG, data)
    later.measure(7, EventKind.EV_SEPARATOR, bytes(4))
    log = replace(log, events=(*log.events, *later.build().events))
    assert pcr_facts(log).secure_boot is False
    # It hides the true variable, then the true separator too.
    hidden = relabelled(log, hide(secure_boot_variable(b"\x00")))
    assert pcr_facts(hidden).secure_boot is False
    hidden = relabelled(log, hide(secure_boot_variable(b"\x00"), bytes(4)))
    assert pcr_facts(hidden).secure_boot is False


def test_secure_boot_said_twice_is_not_said() -> None:
    builder = LogBuilder((BANK,))
    for data in (b"\x00", b"\x01"):
        variable = secure_boot_variable(data)
        builder.measure(7, EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG, variable)
    builder.measure(7, EventKind.EV_SEPARATOR, bytes(4))
    assert pcr_facts(builder.build()).secure_boot is None


def test_without_a_separator_the_firmware_has_not_said_anything() -> None:
    builder = LogBuilder((BANK,))
    variable = secure_boot_variable(b"\x01")
    builder.measure(7, EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG, variable)
    assert pcr_facts(builder.build()).secure_boot is None
    builder.measure(7, EventKind.EV_SEPARATOR, bytes(4))
    assert pcr_facts(builder.build()).secure_boot is True


@pytest.mark.parametrize("register", [0, 1, 8])
def test_a_variable_of_another_register_is_no_secure_boot(register: int) -> None:
    builder = LogBuilder((BANK,))
    variable = secure_boot_variable(b"\x01")
    builder.measure(register, EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG, variable)
    builder.measure(register, EventKind.EV_SEPARATOR, bytes(4))
    builder.measure(7, EventKind.EV_SEPARATOR, bytes(4))
    assert pcr_facts(builder.build()).secure_boot is None


def test_keys_are_hidden_or_true() -> None:
    db = UefiVariable(EFI_IMAGE_SECURITY_DATABASE, "db", BOOT.db).encode()
    assert pcr_facts(BOOT.pcr_log()).db == hashlib.sha256(BOOT.db).digest()
    assert pcr_facts(relabelled(BOOT.pcr_log(), hide(db))).db is None
    builder = LogBuilder((BANK,))
    for data in (b"one", b"another"):
        variable = UefiVariable(EFI_IMAGE_SECURITY_DATABASE, "db", data).encode()
        builder.measure(7, EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG, variable)
    builder.measure(7, EventKind.EV_SEPARATOR, bytes(4))
    assert pcr_facts(builder.build()).db is None  # twice is not once
    wrong = UefiVariable(EFI_GLOBAL_VARIABLE, "db", b"of another namespace").encode()
    builder = LogBuilder((BANK,))
    builder.measure(7, EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG, wrong)
    builder.measure(7, EventKind.EV_SEPARATOR, bytes(4))
    assert pcr_facts(builder.build()).db is None


@pytest.mark.parametrize("name", ["DeployedMode", "AuditMode"])
def test_modes_of_secure_boot(name: str) -> None:
    builder = LogBuilder((BANK,))
    variable = UefiVariable(EFI_GLOBAL_VARIABLE, name, b"\x01").encode()
    builder.measure(7, EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG, variable)
    builder.measure(7, EventKind.EV_SEPARATOR, bytes(4))
    facts = pcr_facts(builder.build())
    assert facts.deployed_mode is (True if name == "DeployedMode" else None)
    assert facts.audit_mode is (True if name == "AuditMode" else None)
    assert facts.secure_boot is None


def test_a_debugger_cannot_be_hidden_by_another_name() -> None:
    log = relabelled(replace(BOOT, debugger=True).pcr_log(), hide(b"UEFI Debug Mode"))
    assert pcr_facts(log).firmware_debugger is True


def test_an_error_cannot_be_hidden_by_another_name() -> None:
    log = relabelled(replace(BOOT, firmware_error=True).pcr_log(), hide(b"\x01\x00\x00\x00"))
    assert pcr_facts(log).firmware_error is True


def test_an_error_cannot_be_called_a_boot_variable() -> None:
    """An event's type is not measured. Boot variables are measured into one register only."""
    log = replace(BOOT, firmware_error=True).pcr_log()
    for word in (b"\x01\x00\x00\x00", b"\x2a\x00\x00\x00"):
        events = tuple(
            replace(event, kind=EventKind.EV_EFI_VARIABLE_BOOT, data=word)
            if event.kind == EventKind.EV_SEPARATOR
            else event
            for event in log.events
        )
        try:
            facts = pcr_facts(replace(log, events=events))
        except RegaliaError:
            continue  # its data does not fit its digest
        assert facts.firmware_error is True


@pytest.mark.parametrize("register", range(16))
def test_an_error_in_any_register_of_the_firmware(register: int) -> None:
    builder = LogBuilder((BANK,))
    builder.measure(register, EventKind.EV_SEPARATOR, bytes(4), b"\x01\x00\x00\x00")
    log = builder.build()
    assert pcr_facts(log, [register]).firmware_error is (True if register < 8 else None)
    assert pcr_facts(log, [0, register]).firmware_error is (register < 8)


@pytest.mark.parametrize(("pcr", "rtmr"), [(1, 0), (4, 1), (8, 2)])
def test_an_error_in_any_rtmr_of_the_firmware(pcr: int, rtmr: int) -> None:
    builder = LogBuilder((Algorithm.SHA384,), ccel=True)
    builder.measure(pcr, EventKind.EV_SEPARATOR, bytes(4), b"\x01\x00\x00\x00")
    log = builder.build()
    assert td_facts(log, [rtmr]).firmware_error is (True if rtmr < 2 else None)
    assert td_facts(log, [0, rtmr]).firmware_error is (rtmr < 2)


@pytest.mark.parametrize("register", range(16))
def test_registers_of_loaders(register: int) -> None:
    """PCR 10 is the kernel's own."""
    builder = LogBuilder((BANK,))
    builder.measure(register, EventKind.EV_IPL, b"text")
    builder.measure(register, EventKind.EV_IPL, b"/file\x00", b"content")
    facts = pcr_facts(builder.build())
    is_loaders = register in (8, 9, 11, 12, 13, 14, 15)
    assert facts.loader_texts == (("text",) if is_loaders else ())
    assert facts.loader_digests == ((hash_of(BANK, b"content"),) if is_loaders else ())
    assert (facts.boot_images == (hash_of(BANK, b"content"),)) is (register == 4)
    assert (facts.option_roms != ()) is (register == 2)


def test_a_boot_order_is_no_error() -> None:
    order = UefiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", b"\x01\x00\x00\x00")
    builder = LogBuilder((BANK,))
    builder.measure(1, EventKind.EV_EFI_VARIABLE_BOOT, order.encode(), order.data)
    assert pcr_facts(builder.build()).firmware_error is False


def test_an_image_cannot_be_hidden_by_another_name() -> None:
    boot = replace(BOOT, kernel=b"MZ an unwanted kernel", option_rom=b"a ROM")
    wanted = of_pcrs(boot)
    log = relabelled(boot.pcr_log(), hide(boot.kernel, boot.option_rom))
    assert pcr_facts(log).boot_images == wanted.boot_images
    assert pcr_facts(log).option_roms == wanted.option_roms

    def disclose(event: Event) -> Event:  # what the digest is over, as the data of some event
        if event.digest(BANK) == hash_of(BANK, boot.kernel):
            return replace(event, kind=EventKind.EV_IPL, data=boot.kernel)
        return event

    assert pcr_facts(relabelled(boot.pcr_log(), disclose)).boot_images == wanted.boot_images


def test_a_command_line_may_lose_its_label_but_not_its_place() -> None:
    """Why policies pin texts and digests of the loader, not command lines alone."""
    boot = replace(BOOT, kernel_command_line="/vmlinuz evil", commands=("/vmlinuz good",))

    def swap(event: Event) -> Event:
        if event.data == b"grub_cmd: /vmlinuz good\x00":
            return replace(event, data=b"kernel_cmdline: /vmlinuz good\x00")
        if event.data == b"kernel_cmdline: /vmlinuz evil\x00":
            return replace(event, data=b"grub_cmd: /vmlinuz evil\x00")
        return event

    honest, lying = of_pcrs(boot), pcr_facts(relabelled(boot.pcr_log(), swap))
    assert lying.kernel_command_lines == ("/vmlinuz good",)
    assert lying.loader_texts == honest.loader_texts
    assert lying.loader_digests == honest.loader_digests
    hidden = pcr_facts(relabelled(boot.pcr_log(), hide(b"/vmlinuz evil")))
    assert "/vmlinuz evil" not in hidden.loader_texts
    assert hash_of(BANK, b"/vmlinuz evil") in hidden.loader_digests


def test_texts_and_digests_are_all_that_the_loader_measured() -> None:
    log = BOOT.pcr_log()
    facts = pcr_facts(log)
    measured = [event for event in log.events if event.register in (8, 9, 11, 14)]
    assert len(facts.loader_texts) + len(facts.loader_digests) == len(measured)


@pytest.mark.parametrize(
    ("measured", "texts"),
    [
        (b"quiet", ("quiet",)),
        (b"quiet\x00", ("quiet",)),
        ("quiet".encode("utf-16-le"), ("quiet",)),
        ("quiet".encode("utf-16-le") + b"\x00\x00", ("quiet",)),
        ("grün".encode(), ("grün",)),
        (b"", ()),
        (b"\x00", ()),
        (b"a\x00b", ()),
        (b"\xff\xfe\xfd", ()),
    ],
)
def test_a_text_is_text(measured: bytes, texts: tuple[str, ...]) -> None:
    builder = LogBuilder((BANK,))
    builder.measure(12, EventKind.EV_IPL, measured)
    facts = pcr_facts(builder.build())
    assert facts.loader_texts == texts
    assert len(facts.loader_digests) == 1 - len(texts)


def test_a_section_name_at_the_end_names_nothing() -> None:
    builder = LogBuilder((BANK,))
    builder.measure(11, EventKind.EV_IPL, b".linux\x00")
    assert pcr_facts(builder.build()).uki_sections == ()


def test_all_of_rtmr3_is_told() -> None:
    log = BOOT.ccel()
    assert td_facts(log).runtime_digests == ()
    other = replace(log.events[-1], data=b"not the agent's", kind=EventKind.EV_IPL)
    digest = ((Algorithm.SHA384, hash_of(Algorithm.SHA384, b"a measurement")),)
    log = replace(log, events=(*log.events, replace(other, digests=digest)))
    facts = td_facts(log)
    assert facts.runtime_events == ("domain operation content",)
    assert facts.runtime_digests == (hash_of(Algorithm.SHA384, b"a measurement"),)
    hidden = replace(log, events=(*log.events[:-2], other, log.events[-1]))
    assert td_facts(hidden).runtime_events == ()
    assert len(td_facts(hidden).runtime_digests) == 2


def test_a_runtime_event_needs_its_tag_measured() -> None:
    log = BOOT.ccel()
    last = log.events[-1]
    renamed = replace(log, events=(*log.events[:-1], replace(last, kind=EventKind.EV_IPL)))
    assert td_facts(renamed).runtime_events == ("domain operation content",)


DATA = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"MZ", bytes(4), b"LEAA\x00\x00\x00\x00", b"grub_cmd: \xff\x00", b".\x00\x00\x00"]
    ),
    uefi_variables().map(UefiVariable.encode),
)
KIND = st.one_of(st.sampled_from(EventKind), st.integers(0, 2**32 - 1))


@given(st.lists(st.tuples(st.integers(0, 15), KIND, DATA, st.one_of(st.none(), DATA)), max_size=8))
def test_no_log_breaks_the_reader(events: list[tuple[int, int, bytes, bytes | None]]) -> None:
    builder = LogBuilder((BANK,))
    for register, kind, data, covered in events:
        builder.measure(register, kind, data, covered)
    log = parse_event_log(builder.build().encode())
    try:
        values = replay_pcrs(log, BANK)
        facts = read_facts(require_pcrs(log, values, algorithm=BANK))
    except AttestationError:
        return
    measured = [each for each in log.events if each.kind != EventKind.EV_NO_ACTION]
    loader = [each for each in measured if each.register in (8, 9, 11, 12, 13, 14, 15)]
    assert len(facts.loader_texts) + len(facts.loader_digests) == len(loader)
    assert facts.boot_images is not None
    assert set(facts.boot_images) <= {each.digest(BANK) for each in measured if each.register == 4}
