"""``regalia attest collect``: evidence of every source, or a refusal that says what is missing."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.attest.collect import SOURCES
from regalia.cli.main import run
from regalia.host.plugins import EVIDENCE_SOURCES, announced
from regalia.inspect.recognize import recognize
from regalia.tees.intel.source import TdxSource
from regalia.tees.nitro.source import Nsm
from regalia.tees.nvidia.source import GpuSource
from regalia.tees.snp.evidence.certificate_table import ARK, ASK, VCEK, encode_certificate_table
from regalia.tees.snp.source import SnpSource
from regalia.wire.evidence import DeviceKind, parse_evidence
from regalia_testing.accepted_evidence import NOW
from regalia_testing.attest_files import WHEN
from regalia_testing.tees.intel.quotes import Workload
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.testbed import MEASUREMENT
from regalia_testing.tsm import FakeTsm

if TYPE_CHECKING:
    from pathlib import Path

ABSENT = {
    "snp": ("TSM_UNREACHABLE", ()),
    "tdx": ("TSM_UNREACHABLE", ()),
    "nitro": ("NSM_UNREACHABLE", ("device=/nonexistent",)),
    "tpm": ("TPM_UNREACHABLE", ("tcti=device:/nonexistent",)),
    "az-snp": ("TPM_UNREACHABLE", ("tcti=device:/nonexistent",)),
    "az-tdx": ("TPM_UNREACHABLE", ("tcti=device:/nonexistent",)),
    "nvidia": ("NVML_UNREACHABLE", ()),
}
SIZE = {"snp": 64, "tdx": 64, "nitro": 32, "tpm": 32, "az-snp": 32, "az-tdx": 32, "nvidia": 32}


def command(name: str, out: Path, *more: str) -> list[str]:
    return ["attest", "collect", "--source", name, "--out", str(out), *more]


def answer(words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*words, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_every_evidence_source_can_be_collected_from() -> None:
    assert set(ABSENT) == set(SOURCES)
    ours = {
        point.name
        for point in announced(EVIDENCE_SOURCES)
        if point.value.startswith("regalia.")  # the simulated ones are of another distribution
    }
    assert ours == {each.plugin for each in SOURCES.values() if each.group == EVIDENCE_SOURCES}


@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_is_not_there(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.tees.nvidia.source.LIBRARY", "libabsent.so")
    code, options = ABSENT[name]
    more = [part for each in options for part in ("--option", each)]
    assert run(command(name, tmp_path / "out", *more)) == 8
    said = capsys.readouterr()
    assert f"refused [{code}]" in said.err
    assert "What to do: " in said.err
    assert "Traceback" not in said.err + said.out
    error = answer(command(name, tmp_path / "out", *more), 8, capsys)["error"]
    assert error["code"] == code
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ABSENT)
@pytest.mark.parametrize("challenge", ["zz", "00" * 2000, "abc"])
def test_a_challenge_that_does_not_fit(
    name: str, challenge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told before the device is asked."""
    words = command(name, tmp_path / "out", "--challenge", challenge)
    error = answer(words, 2, capsys)["error"]
    assert error["code"] == "BAD_USAGE"
    assert error["what"].startswith("--challenge")


@pytest.mark.parametrize(
    "options", [["device"], ["=x"], ["device=a", "device=b"]], ids=["no value", "no name", "twice"]
)
def test_options_that_are_none(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [part for each in options for part in ("--option", each)]
    error = answer(command("nitro", tmp_path / "out", *more), 2, capsys)["error"]
    assert error["code"] == "BAD_USAGE"
    assert "want NAME=VALUE" in error["what"]


@pytest.mark.parametrize("name", [name for name in ABSENT if not name.startswith("az-")])
def test_an_option_that_the_source_does_not_have(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(name, tmp_path / "out", "--option", "wrong=1")
    assert answer(words, 2, capsys)["error"]["code"] == "BAD_CONFIG"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    assert answer(command("snp", tmp_path / "out"), 9, capsys)["error"]["code"] == "FILE_EXISTS"
    assert (tmp_path / "out").read_text() == "mine"


def test_an_extra_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("regalia.tees.tpm.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    error = answer(command("tpm", tmp_path / "out"), 2, capsys)["error"]
    assert error["code"] == "EXTRA_MISSING"


# -- what comes of it --------------------------------------------------------------------------


@dataclass(frozen=True)
class Collected:
    """A file of evidence, and what was said of it."""

    path: Path
    said: dict[str, Any]

    def verified(self, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
        """What `attest verify` makes of it, with the challenge that was printed."""
        words = ["attest", "verify", str(self.path), "--policy", "baseline", "--now", WHEN]
        return answer([*words, "--challenge", self.said["challenge"], *more], 11, capsys)


def collected(name: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Collected:
    path = folder / f"{name}.evidence"
    return Collected(path, answer(command(name, path, *more), 0, capsys))


def test_snp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = SnpSimulator.create(tmp_path / "snp", now=NOW)
    leaf, ask, ark = platform.endorsements()
    table = encode_certificate_table({ARK: ark, VCEK: leaf, ASK: ask})

    def report(data: bytes, _: int) -> bytes:
        return platform.report(data, measurement=MEASUREMENT, host_data=bytes(32))

    double = FakeTsm("sev_guest", report, table)
    monkeypatch.setattr("regalia.tees.snp.source.SnpSource", lambda: SnpSource(None, double))
    made = collected("snp", tmp_path, capsys)
    assert made.said["tee"] == "sev-snp"
    assert made.said["certificates"] == 3
    assert len(made.said["challenge"]) == 2 * SIZE["snp"]
    collateral = str(platform.collateral_directory)
    trust = ("--collateral", collateral, "--dangerous-simulated-anchor", f"{collateral}/ark.der")
    found = made.verified(capsys, *trust)
    assert (found["fresh"], found["codes"]) == (True, [])
    assert run(command("snp", tmp_path / "people", "--challenge", "07" * 64)) == 0
    said = capsys.readouterr().out
    assert "holds evidence, unverified" in said
    assert "07" * 64 in said


def test_tdx(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = IntelSimulator.create(tmp_path / "tdx", now=NOW)

    def quote(data: bytes, _: int) -> bytes:
        return platform.td_quote(Workload(data, MEASUREMENT, bytes(48)))

    double = FakeTsm("tdx_guest", quote, None)
    monkeypatch.setattr("regalia.tees.intel.source.TdxSource", lambda log: TdxSource(log, double))
    made = collected("tdx", tmp_path, capsys, "--option", "event_log=")
    assert (made.said["tee"], made.said["event_log_bytes"]) == ("tdx", 0)
    collateral = str(platform.collateral_directory)
    trust = ("--collateral", collateral, "--dangerous-simulated-anchor", f"{collateral}/root.der")
    assert made.verified(capsys, *trust)["fresh"] is True


def test_nitro(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No register is extended or locked for it."""
    asked: list[bytes] = []

    def attest(_: Nsm, nonce: bytes) -> bytes:
        asked.append(nonce)
        return b"a document"

    monkeypatch.setattr(Nsm, "attest", attest)
    made = collected("nitro", tmp_path, capsys, "--option", "device=/dev/null")
    assert asked == [bytes.fromhex(made.said["challenge"])]
    assert len(asked[0]) == SIZE["nitro"]
    assert parse_evidence(made.path.read_bytes()).report == b"a document"


def test_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = NvidiaSimulator.make(2, now=NOW)
    monkeypatch.setattr(GpuSource, "collect", lambda _, nonce: machine.evidence(nonce))
    made = collected("nvidia", tmp_path, capsys)
    assert made.said["devices"] == 2
    found = recognize(made.path.read_bytes())
    assert [device.kind for device in found.devices] == [DeviceKind.NVIDIA_GPU] * 2
    nonce = bytes.fromhex(made.said["challenge"])
    assert found.devices == tuple(
        replace(device, report=seen.report)
        for device, seen in zip(machine.evidence(nonce), found.devices, strict=True)
    )
    monkeypatch.setattr(GpuSource, "collect", lambda *_: ())
    error = answer(command("nvidia", tmp_path / "none"), 9, capsys)["error"]
    assert (error["code"], error["what"]) == ("NVML_FAILED", "NVML: it finds no GPU")
