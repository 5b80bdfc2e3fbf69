"""Attacks on what booted: logs whose text lies, tables that the host supplies, other workloads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.config_binding import expected_slot
from regalia.tees.boot.evidence import replay_pcrs, replay_rtmrs
from regalia.tees.boot.evidence.log import Algorithm, parse_event_log
from regalia.tees.tpm.claims import TpmClaims
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia_testing.relying_party import MEASUREMENT, REPORT_DATA, RUNTIME_CONFIG
from regalia_testing.tees.boot.eventlog import SimulatedBoot
from regalia_testing.tees.intel.quotes import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.tees.boot.evidence.log import Event, EventLog
    from regalia.wire.evidence import Evidence
    from regalia_testing.relying_party import RelyingParty
    from regalia_testing.tees.intel.simulator import IntelSimulator

    Alter = Callable[[Event], Event]

ACPI = b"ACPI DATA"


def altered(log: EventLog, alter: Alter) -> EventLog:
    return replace(log, events=tuple(alter(event) for event in log.events))


def other_tables(event: Event) -> Event:
    """The host's ACPI tables are others; firmware measured what it was given."""
    if event.data != ACPI:
        return event
    changed = tuple((each, bytes(len(digest))) for each, digest in event.digests)
    return replace(event, digests=changed)


def td_evidence(intel: IntelSimulator, log: EventLog, sent: EventLog | None = None) -> Evidence:
    """A TD that booted as ``log`` says, with ``sent`` beside it."""
    rtmrs = replay_rtmrs(log)
    healthy = intel.tdx_evidence(
        REPORT_DATA, measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG
    )
    config = expected_slot(healthy.tee, RUNTIME_CONFIG)
    workload = Workload(REPORT_DATA, MEASUREMENT, config, (rtmrs[0], rtmrs[1], rtmrs[2], rtmrs[3]))
    beside = (log if sent is None else sent).encode()
    return replace(healthy, report=intel.td_quote(workload), event_log=beside)


# -- event logs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lie"),
    [
        (b"kernel_cmdline: /vmlinuz quiet", b"kernel_cmdline: /vmlinuz debug"),
        (b"grub_cmd: set timeout=0", b"grub_cmd: set timeout=9"),
        ("SecureBoot".encode("utf-16-le"), "SecureBoxt".encode("utf-16-le")),
        (b"UEFI Debug Mode", b"UEFI Hello Mode"),
    ],
    ids=["command line", "boot loader's command", "variable's name", "debugger"],
)
def test_event_log_text_spoof(tpm: RelyingParty, text: bytes, lie: bytes) -> None:
    """Digests replay and the text lies: digests are computed again from the text."""
    evidence = tpm.make(boot=SimulatedBoot(debugger=b"Debug" in text))
    tpm.claims(evidence)  # it verifies, whatever the policy says of it
    log = parse_event_log(evidence.event_log)
    spoofed = altered(log, lambda event: replace(event, data=event.data.replace(text, lie)))
    assert spoofed != log
    assert tpm.codes(replace(evidence, event_log=spoofed.encode())) == ["EVENTLOG_MISMATCH"]


def test_event_log_text_spoof_of_a_td_and_below_a_paravisor(
    tdx: RelyingParty, azure_vm: RelyingParty
) -> None:
    text, lie = b"kernel_cmdline: /vmlinuz quiet", b"kernel_cmdline: /vmlinuz debug"
    for relying_party in (tdx, azure_vm):
        evidence = relying_party.make()
        assert relying_party.codes(evidence) == []
        log = parse_event_log(evidence.event_log)
        spoofed = altered(log, lambda event: replace(event, data=event.data.replace(text, lie)))
        assert spoofed != log
        assert relying_party.codes(replace(evidence, event_log=spoofed.encode())) == [
            "EVENTLOG_MISMATCH"
        ]


def test_event_log_text_that_no_digest_covers_is_not_believed(tpm: RelyingParty) -> None:
    """GRUB measures a file and writes its path beside it: anybody can write another path."""
    evidence = tpm.make()
    log = parse_event_log(evidence.event_log)
    spoofed = altered(
        log, lambda event: replace(event, data=event.data.replace(b"/vmlinuz\x00", b"/trusted\x00"))
    )
    assert spoofed != log
    honest = tpm.claims(evidence)
    lied = tpm.claims(replace(evidence, event_log=spoofed.encode()))
    assert isinstance(honest, TpmClaims)
    assert isinstance(lied, TpmClaims)
    assert lied.boot == honest.boot
    assert "trusted" not in repr(lied.boot)


def test_event_log_of_another_boot(
    tpm: RelyingParty, tdx: RelyingParty, azure_vm: RelyingParty, intel: IntelSimulator
) -> None:
    other = SimulatedBoot(kernel_command_line="/vmlinuz init=/bin/sh")
    sent = replace(tpm.make(), event_log=other.pcr_log().encode())
    assert tpm.codes(sent) == ["EVENTLOG_MISMATCH"]
    td = td_evidence(intel, SimulatedBoot().ccel(), other.ccel())
    assert tdx.codes(td) == ["EVENTLOG_MISMATCH"]
    assert azure_vm.against(wrong_event_log=True) == ["EVENTLOG_MISMATCH"]
    for relying_party in (tpm, tdx, azure_vm):
        assert relying_party.against() == []


def test_event_of_unknown_type(tdx: RelyingParty, intel: IntelSimulator) -> None:
    """It replays; what it means nobody knows."""
    log = SimulatedBoot(unknown=b"what is this").ccel()
    wide = tdx.but("platform.tdx.rtmrs.rtmr2", "any")
    codes = wide.codes(td_evidence(intel, log))
    assert "EVENT_LOG_INSUFFICIENT" in codes


def test_event_log_that_is_left_out(tdx: RelyingParty) -> None:
    assert tdx.codes(replace(tdx.make(), event_log=b"")) == ["EVENT_LOG_INSUFFICIENT"]


# -- tables that the host supplies -----------------------------------------------------------


def test_malicious_acpi_tables_in_a_td(tdx: RelyingParty, intel: IntelSimulator) -> None:
    """AML runs in the guest's kernel. Firmware measures the tables into RTMR0."""
    log = SimulatedBoot().ccel()
    assert ACPI in {event.data for event in log.events}
    assert tdx.codes(td_evidence(intel, log)) == []
    attacked = altered(log, other_tables)
    assert attacked != log
    assert tdx.codes(td_evidence(intel, attacked)) == ["MEASUREMENT_UNKNOWN"]
    assert tdx.codes(td_evidence(intel, attacked, sent=log)) == ["EVENTLOG_MISMATCH"]


def test_malicious_acpi_tables_under_a_tpm(tpm: RelyingParty) -> None:
    """PCR1 holds them: a policy that lists it sees them, and one that does not is told nothing."""
    honest = tpm.claims(tpm.make())
    assert isinstance(honest, TpmClaims)
    listed = tpm.but("platform.tpm.pcrs", {str(i): [honest.pcrs[i].hex()] for i in (0, 1, 4)})
    attacked = altered(SimulatedBoot().pcr_log(), other_tables)
    bank = {**honest.pcrs, 1: replay_pcrs(attacked, Algorithm.SHA256)[1]}
    evidence = replace(tpm.make(pcrs={HashAlg.SHA256: bank}), event_log=attacked.encode())
    assert listed.against() == []
    assert "PCR_UNKNOWN" in listed.codes(evidence)
    unchanged = replace(evidence, event_log=SimulatedBoot().pcr_log().encode())
    assert listed.codes(unchanged) == ["EVENTLOG_MISMATCH"]


# -- another workload ------------------------------------------------------------------------


@pytest.mark.parametrize("tee", ["snp", "tdx", "sgx", "nitro", "azure_snp_vm", "azure_tdx_vm"])
def test_another_workload(request: pytest.FixtureRequest, tee: str) -> None:
    relying_party: RelyingParty = request.getfixturevalue(tee)
    assert relying_party.against() == []
    assert "MEASUREMENT_UNKNOWN" in relying_party.against(wrong_measurement=True)


def test_another_kernel_under_the_same_firmware(
    tdx: RelyingParty, nitro: RelyingParty, intel: IntelSimulator
) -> None:
    """MRTD and PCR0 alone would not show what they start."""
    other = SimulatedBoot(kernel=b"another kernel").ccel()
    assert set(tdx.codes(td_evidence(intel, other))) == {"MEASUREMENT_UNKNOWN"}
    for field in ("other_kernel", "other_application"):
        assert "MEASUREMENT_UNKNOWN" in nitro.against(**{field: True})


def test_another_kernel_under_a_tpm(tpm: RelyingParty, azure_vm: RelyingParty) -> None:
    codes = set(tpm.against(boot=SimulatedBoot(kernel=b"another kernel")))
    assert codes & {"PCR_UNKNOWN", "BOOT_STEP_UNKNOWN"}
    assert set(azure_vm.against(other_loader=True)) & {
        "MEASUREMENT_UNKNOWN",
        "PCR_UNKNOWN",
        "BOOT_STEP_UNKNOWN",
    }


def test_secure_boot_off(tpm: RelyingParty, azure_vm: RelyingParty) -> None:
    assert "SECURE_BOOT_OFF" in tpm.against(boot=SimulatedBoot(secure_boot=b"\x00"))
    assert "VM_CONFIGURATION_DENIED" in azure_vm.against(no_secure_boot=True)


@pytest.mark.parametrize(
    ("tee", "defects"),
    [
        ("snp", {"wrong_host_data": True}),
        ("tdx", {"wrong_config": True}),
        ("sgx", {"wrong_config": True}),
        ("nitro", {"wrong_config": True}),
        ("azure_snp_vm", {"wrong_config": True}),
        ("azure_tdx_vm", {"wrong_config": True}),
    ],
)
def test_a_configuration_that_the_hardware_did_not_record(
    request: pytest.FixtureRequest, tee: str, defects: dict[str, bool]
) -> None:
    """A runtime pointed at another owner, log or model."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    assert "CONFIG_MISMATCH" in relying_party.against(**defects)
