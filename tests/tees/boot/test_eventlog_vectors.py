"""Real event logs: they parse, lead to their quotes, and their texts are what was measured.

Where no quote came with a log, its own replay stands in for one: that shows nothing about the
machine, and everything about which of the events' data their digests cover.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import AttestationError
from regalia.tees.boot.evidence import (
    read_facts,
    replay_pcrs,
    replay_rtmrs,
    require_known,
    require_pcrs,
    require_rtmrs,
)
from regalia.tees.boot.evidence.log import Algorithm, parse_event_log
from regalia.tees.tpm.evidence.go_tpm_tools import parse_go_attestation

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.boot.evidence import VerifiedLog
    from regalia.tees.boot.evidence.log import EventLog

BANK = Algorithm.SHA256
IMA_PCR = 10  # the kernel extends it at run time, so no boot log explains it


@dataclass(frozen=True)
class Vector:
    path: str
    proven: int
    opaque: int
    unmeasured: int
    padding: int
    images: int
    command_lines: int

    @property
    def ccel(self) -> bool:
        return self.path.startswith("tdx/")


SECURE_BOOT_ON = {
    "tpm/google-eventlog-cos-101-amd-sev.bin",
    "tpm/google-eventlog-rhel8-uefi.bin",
    "tpm/google-eventlog-confidential-gke-debug-251000_eventlog.bin",
    "tpm/keylime-binary_bios_measurements-secureboot",
    "tdx/coco-CCEL_data_grub.bin",
}
LOGS = [
    Vector("tpm/google-eventlog-cos-101-amd-sev.bin", 40, 8, 0, 0, 4, 1),
    Vector("tpm/google-eventlog-rhel8-uefi.bin", 75, 7, 0, 0, 3, 1),
    Vector("tpm/google-eventlog-ubuntu-2104-no-secure-boot.bin", 92, 13, 0, 0, 2, 1),
    Vector("tpm/google-eventlog-confidential-gke-debug-251000_eventlog.bin", 41, 11, 2, 0, 3, 1),
    Vector("tpm/keylime-binary_bios_measurements-secureboot", 77, 21, 0, 0, 3, 1),
    Vector("tdx/google-cos113-ccel_data.bin", 31, 12, 0, 244043, 2, 1),
    Vector("tdx/coco-CCEL_data_grub.bin", 19, 18, 0, 50406, 5, 0),
    Vector("tdx/coco-CCEL_data_ovmf.bin", 12, 8, 0, 63416, 1, 0),
    Vector("tdx/coco-CCEL_AAEL_alibabacloud.bin", 74, 13, 0, 8, 2, 1),
]
EACH = pytest.mark.parametrize("vector", LOGS, ids=[vector.path for vector in LOGS])


def load(vectors: Path, path: str) -> EventLog:
    data = (vectors / path).read_bytes()
    log = parse_event_log(data)
    assert log.encode() == data
    return log


def verified(vector: Vector, log: EventLog) -> VerifiedLog:
    """The log, held against its own replay."""
    if vector.ccel:
        return require_rtmrs(log, replay_rtmrs(log))
    return require_pcrs(log, replay_pcrs(log, BANK), algorithm=BANK)


def facts(vectors: Path, path: str) -> BootFacts:
    vector = next(each for each in LOGS if each.path == path)
    return read_facts(verified(vector, load(vectors, path)))


@EACH
def test_every_event_has_its_standing(vectors: Path, vector: Vector) -> None:
    log = load(vectors, vector.path)
    assert len(log.padding) == vector.padding
    found = verified(vector, log)
    require_known(found)
    counts = Counter(event.standing.value for event in found.events)
    assert counts["proven"] == vector.proven
    assert counts["opaque"] == vector.opaque
    assert counts["unmeasured"] == vector.unmeasured
    assert counts.total() == len(log.events)


@EACH
def test_facts_of_every_log(vectors: Path, vector: Vector) -> None:
    found = facts(vectors, vector.path)
    assert found.secure_boot is (vector.path in SECURE_BOOT_ON)
    assert found.boot_images is not None
    assert len(found.boot_images) == vector.images
    assert len(found.kernel_command_lines) == vector.command_lines
    assert found.firmware_debugger is False
    assert found.firmware_error is False
    assert found.exit_boot_services is True
    assert found.pk is not None


@EACH
def test_no_event_can_go_or_come_twice(vectors: Path, vector: Vector) -> None:
    log = load(vectors, vector.path)
    if vector.ccel:
        values, size = replay_rtmrs(log), 48
    else:
        values, size = replay_pcrs(log, BANK), 32
    assert all(len(value) == size for value in values.values())
    for number, event in enumerate(log.events):
        for events in (
            log.events[:number] + log.events[number + 1 :],
            (*log.events[: number + 1], *log.events[number:]),
        ):
            altered = replace(log, events=events)
            replayed = replay_rtmrs(altered) if vector.ccel else replay_pcrs(altered, BANK)
            assert (replayed == values) is (event.kind == 3)  # EV_NO_ACTION


@EACH
def test_no_byte_of_any_event_can_change_what_is_proven(vectors: Path, vector: Vector) -> None:
    """One bit in every seventh byte, so that the longest variables do not take minutes."""
    log = load(vectors, vector.path)
    genuine = {(each.number, each.proven) for each in verified(vector, log).events}
    codes: list[str] = []
    for number, event in enumerate(log.events):
        # A log of this event alone: the others' digests are not at stake.
        for position in range(0, len(event.data), max(7, len(event.data) // 40)):
            data = bytearray(event.data)
            data[position] ^= 0x20
            alone = replace(log, events=(replace(event, data=bytes(data)),))
            try:
                (seen,) = verified(vector, alone).events
            except AttestationError as refusal:
                codes.append(refusal.code.name)
            else:
                assert not seen.proven or (number, seen.proven) in genuine
    assert len(codes) > vector.proven
    assert set(codes) == {"EVENTLOG_MISMATCH"}


def quoted_rtmrs(quote: bytes) -> dict[int, bytes]:
    """RTMR0 to RTMR3 of a version 4 quote: header 48 bytes, RTMRs 328 bytes into the body."""
    return {number: quote[376 + 48 * number :][:48] for number in range(4)}


def test_the_ccel_of_a_google_td_leads_to_its_quote(vectors: Path) -> None:
    quoted = quoted_rtmrs((vectors / "tdx/google-cos113-quote.bin").read_bytes())
    log = load(vectors, "tdx/google-cos113-ccel_data.bin")
    assert any(quoted[0])
    assert len(require_rtmrs(log, quoted).events) == 43
    for number in range(3):
        wrong = {**quoted, number: bytes(48)}
        with pytest.raises(AttestationError, match=f"RTMR{number}"):
            require_rtmrs(log, wrong)


@pytest.mark.parametrize("name", ["coco-CCEL_data_grub.bin", "coco-CCEL_data_ovmf.bin"])
def test_the_log_of_another_td_does_not(vectors: Path, name: str) -> None:
    quoted = quoted_rtmrs((vectors / "tdx/google-cos113-quote.bin").read_bytes())
    with pytest.raises(AttestationError) as refusal:
        require_rtmrs(load(vectors, f"tdx/{name}"), quoted)
    assert refusal.value.code.name == "EVENTLOG_MISMATCH"


@pytest.mark.parametrize("name", ["no-nonce", "nonce9009"])
def test_the_log_of_a_google_vm_leads_to_its_quotes(vectors: Path, name: str) -> None:
    """That the quotes are signed, and are over these values, is tested with the TPM verifier."""
    path = vectors / f"tpm/google-gce-cos-85-{name}.pb"
    attestation = parse_go_attestation(path.read_bytes())
    log = parse_event_log(attestation.event_log)
    banks = {
        Algorithm(bank): pcrs for quote in attestation.quotes for bank, pcrs in quote.pcrs.items()
    }
    assert set(banks) == {Algorithm.SHA1, Algorithm.SHA256, Algorithm.SHA384}
    for bank, pcrs in banks.items():
        static = {index: pcrs[index] for index in (*range(16), 23) if index != IMA_PCR}
        replayed = replay_pcrs(log, bank)
        assert {index: replayed[index] for index in static} == static
        if bank is Algorithm.SHA1:
            continue
        found = require_pcrs(log, static, algorithm=bank)
        counts = Counter(event.standing.value for event in found.events)
        assert counts == {"proven": 40, "opaque": 4}
        assert read_facts(found).secure_boot is True
        with pytest.raises(AttestationError, match="PCR 10"):
            require_pcrs(log, {IMA_PCR: pcrs[IMA_PCR]}, algorithm=bank)


def test_texts_of_real_loaders(vectors: Path) -> None:
    rhel = facts(vectors, "tpm/google-eventlog-rhel8-uefi.bin")
    assert rhel.loader_commands[0] == "set pager=1"
    assert rhel.kernel_command_lines[0].startswith("(hd0,gpt2)/boot/vmlinuz-4.18.0")
    cos = facts(vectors, "tdx/google-cos113-ccel_data.bin")
    assert cos.loader_commands[0] == "defaultA=2"
    assert cos.kernel_command_lines[0].startswith("/syslinux/vmlinuz.A init=")
    alibaba = facts(vectors, "tdx/coco-CCEL_AAEL_alibabacloud.bin")
    assert alibaba.runtime_events[0] == "coco.com some-operation some-content"
    ubuntu = facts(vectors, "tdx/coco-CCEL_data_grub.bin")
    assert len(ubuntu.load_options) == len(ubuntu.initrds) == 1
    keylime = facts(vectors, "tpm/keylime-binary_bios_measurements-secureboot")
    assert keylime.option_roms is not None
    assert len(keylime.option_roms) == 1
