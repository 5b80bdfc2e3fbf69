"""What the settings name is loaded, asked in order, and refused if any part of it is simulated."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from regalia.core.errors import CoreCode, UsageError
from regalia.host import plugins
from regalia.runtime.attester import open_source
from regalia.runtime.config import EvidenceSection
from regalia.wire.evidence import DeviceEvidence, DeviceKind, Evidence, Tee

NONCE = bytes(range(32))


@dataclass(frozen=True)
class Cpu:
    options: dict[str, object]
    simulated: bool = False

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        return Evidence(Tee.SEV_SNP, report_data, (), runtime_config)

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        return (DeviceEvidence(DeviceKind.NVIDIA_SWITCH, b"cpu" + nonce, ()),)


@dataclass(frozen=True)
class Gpus:
    name: bytes
    simulated: bool = False

    def collect(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        return (DeviceEvidence(DeviceKind.NVIDIA_GPU, self.name + nonce, ()),)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        (plugins.EVIDENCE_SOURCES, "cpu"): Cpu,
        (plugins.EVIDENCE_SOURCES, "simulated-cpu"): lambda options: Cpu(options, simulated=True),
        (plugins.DEVICE_SOURCES, "one"): lambda: Gpus(b"one"),
        (plugins.DEVICE_SOURCES, "two"): lambda: Gpus(b"two"),
        (plugins.DEVICE_SOURCES, "simulated-gpu"): lambda: Gpus(b"sim", simulated=True),
    }

    def load(group: str, name: str) -> object:
        if (group, name) not in known:
            raise UsageError(CoreCode.PLUGIN_UNKNOWN, name)
        return known[group, name]

    monkeypatch.setattr(plugins, "load", load)


def section(*devices: str, source: str = "cpu") -> EvidenceSection:
    return EvidenceSection(source=source, options={"a": 1}, devices=devices)


def test_devices_are_asked_in_the_order_of_the_settings() -> None:
    source = open_source(section("two", "one"), dangerous_simulated_tee=False)
    assert [each.report for each in source.collect_devices(NONCE)] == [
        b"cpu" + NONCE,
        b"two" + NONCE,
        b"one" + NONCE,
    ]
    assert source.collect(b"data", b"config") == Evidence(Tee.SEV_SNP, b"data", (), b"config")


def test_without_devices_only_the_cpu_is_asked() -> None:
    source = open_source(section(), dangerous_simulated_tee=False)
    assert [each.report for each in source.collect_devices(NONCE)] == [b"cpu" + NONCE]


@pytest.mark.parametrize(
    "named",
    [section(source="simulated-cpu"), section("one", "simulated-gpu")],
    ids=["the CPU", "a device"],
)
def test_one_simulated_part_makes_the_machine_simulated(named: EvidenceSection) -> None:
    with pytest.raises(UsageError) as refusal:
        open_source(named, dangerous_simulated_tee=False)
    assert refusal.value.code is CoreCode.DANGEROUS_NOT_ALLOWED
    assert open_source(named, dangerous_simulated_tee=True).simulated


@pytest.mark.parametrize("named", [section("cpu"), section(source="one")])
def test_a_source_of_the_other_group_is_unknown(named: EvidenceSection) -> None:
    with pytest.raises(UsageError) as refusal:
        open_source(named, dangerous_simulated_tee=True)
    assert refusal.value.code is CoreCode.PLUGIN_UNKNOWN
