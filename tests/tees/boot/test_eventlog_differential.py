"""tpm2_eventlog, written by others, replays every log to the same registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.tees.boot.evidence import replay_pcrs
from regalia.tees.boot.evidence.log import EV_NO_ACTION, Algorithm, parse_event_log
from regalia_testing.tees.boot.eventlog import SimulatedBoot

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.tees.boot.evidence.log import EventLog

TOOL = "tpm2_eventlog"
LOGS = [
    "google-eventlog-cos-101-amd-sev.bin",
    "google-eventlog-rhel8-uefi.bin",
    "google-eventlog-ubuntu-2104-no-secure-boot.bin",
    "google-eventlog-confidential-gke-debug-251000_eventlog.bin",
    "keylime-binary_bios_measurements-secureboot",
]
BANK = re.compile(r"  (sha\d+):")
VALUE = re.compile(r"    (\d+) *: 0x([0-9a-f]+)")


@pytest.fixture(scope="session")
def tool() -> str:
    found = shutil.which(TOOL)
    if found is None:
        pytest.skip(f"{TOOL} is absent: install tpm2-tools to compare with it")
    return found


def replayed_by(tool: str, path: Path) -> dict[Algorithm, dict[int, bytes]]:
    """The values at the end of the tool's YAML, of the PCRs that the log extends."""
    done = subprocess.run([tool, str(path)], capture_output=True, text=True, check=True, timeout=60)
    banks: dict[Algorithm, dict[int, bytes]] = {}
    current: dict[int, bytes] = {}
    for line in done.stdout.partition("\npcrs:\n")[2].splitlines():
        if bank := BANK.fullmatch(line):
            current = banks.setdefault(Algorithm[bank[1].upper()], {})
        elif value := VALUE.fullmatch(line):
            current[int(value[1])] = bytes.fromhex(value[2])
    return banks


def compare(tool: str, path: Path, log: EventLog) -> None:
    """The tool extends PCRs by EV_NO_ACTION events too until 5.6 (tpm2-tools issue 3224), so it
    gets the log without them; what they mean for PCR 0 is tested elsewhere."""
    measured = tuple(event for event in log.events if event.kind != EV_NO_ACTION)
    path.write_bytes(replace(log, events=measured).encode())
    theirs = replayed_by(tool, path)
    assert set(theirs) == set(log.spec_id.algorithms)
    extended = {event.register for event in measured}
    for bank, values in theirs.items():
        ours = replay_pcrs(log, bank)
        assert values == {index: ours[index] for index in extended}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGS)
def test_real_logs(tool: str, vectors: Path, tmp_path: Path, name: str) -> None:
    log = parse_event_log((vectors / "tpm" / name).read_bytes())
    compare(tool, tmp_path / "log", log)


@pytest.mark.slow
def test_simulated_logs(tool: str, tmp_path: Path) -> None:
    for boot in (
        SimulatedBoot(option_rom=b"a ROM", unknown=b"?"),
        SimulatedBoot(uki_sections=((".linux", b"MZ"),), firmware_error=True, debugger=True),
    ):
        log = boot.pcr_log((Algorithm.SHA1, Algorithm.SHA256, Algorithm.SHA384))
        compare(tool, tmp_path / "log", log)
