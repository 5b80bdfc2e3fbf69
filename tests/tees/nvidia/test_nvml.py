"""The GPU collector against a double of NVIDIA's library, compiled, at its C ABI."""

from __future__ import annotations

import base64
import ctypes
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import LocalError, ParseError, UnavailableError
from regalia.tees.nvidia.source import (
    GpuAttestationReport,
    GpuCertificate,
    GpuSource,
    open_source,
)
from regalia.wire.evidence import DeviceKind
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator

if TYPE_CHECKING:
    from regalia.wire.evidence import DeviceEvidence

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NONCE = bytes(range(32))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    built = tmp_path_factory.mktemp("nvml") / "libfake-nvidia-ml.so"
    source = Path(__file__).with_name("fake_nvml.c")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(built), str(source)]
    subprocess.run(command, check=True)
    return str(built)


@pytest.fixture(scope="session")
def device() -> DeviceEvidence:
    (evidence,) = NvidiaSimulator.make(gpus=1, now=NOW).evidence(NONCE)
    return evidence


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: DeviceEvidence) -> Path:
    pem = "".join(
        "-----BEGIN CERTIFICATE-----\n"
        + base64.encodebytes(der).decode()
        + "-----END CERTIFICATE-----\n"
        for der in device.endorsements
    )
    (tmp_path / "chain.pem").write_text(pem)
    (tmp_path / "report.bin").write_bytes(device.report)
    (tmp_path / "nonce.bin").write_bytes(NONCE)
    monkeypatch.setenv("FAKE_NVML", str(tmp_path))
    return tmp_path


def test_sizes_of_the_structures() -> None:
    """As nvml.h has them: three or two integers and the buffers, without padding."""
    assert ctypes.sizeof(GpuCertificate) == 8 + 0x1000 + 0x1400
    assert ctypes.sizeof(GpuAttestationReport) == 12 + 0x20 + 0x2000 + 0x1000


@pytest.mark.usefixtures("folder")
def test_reports_of_every_gpu(library: str, device: DeviceEvidence) -> None:
    found = GpuSource(library).collect(NONCE)
    assert found == (device, device)
    assert {each.kind for each in found} == {DeviceKind.NVIDIA_GPU}
    assert GpuSource(library).collect(NONCE) == found  # initialized and shut down each time


@pytest.mark.usefixtures("folder")
def test_the_nonce_reaches_the_gpu(library: str) -> None:
    with pytest.raises(LocalError) as refusal:
        GpuSource(library).collect(bytes(32))
    assert refusal.value.code.name == "NVML_FAILED"
    for size in (31, 33):
        with pytest.raises(ParseError):
            GpuSource(library).collect(bytes(size))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("init", "nvmlInit_v2: 9"),
        ("many", "65 GPUs"),
        ("not_confidential", "3 (Not Supported)"),
        ("second", "3 (Not Supported)"),
        ("report_size", "a report of 8193 bytes"),
        ("chain_size", "a chain of 0 bytes"),
        ("chain", "cannot be read"),
    ],
)
def test_a_library_or_gpu_that_fails(library: str, folder: Path, wrong: str, says: str) -> None:
    """Not one GPU is left out in silence."""
    (folder / "wrong").write_text(wrong)
    with pytest.raises(LocalError) as refusal:
        GpuSource(library).collect(NONCE)
    assert refusal.value.code.name == "NVML_FAILED"
    assert says in refusal.value.what


def test_no_gpu(library: str, folder: Path) -> None:
    (folder / "wrong").write_text("none")
    assert GpuSource(library).collect(NONCE) == ()


def test_a_library_that_is_too_old(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    source, built = tmp_path / "old.c", tmp_path / "old.so"
    source.write_text("int nvmlInit_v2(void) { return 0; } int nvmlShutdown(void) { return 0; }")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(built), str(source)], check=True)
    with pytest.raises(LocalError) as refusal:
        GpuSource(str(built)).collect(NONCE)
    assert "too old" in refusal.value.what


def test_without_the_library() -> None:
    with pytest.raises(UnavailableError) as refusal:
        GpuSource("libregalia-absent.so.1").collect(NONCE)
    assert refusal.value.code.name == "NVML_UNREACHABLE"


def test_opening_the_source_loads_no_library() -> None:
    source = open_source()
    assert source == GpuSource("libnvidia-ml.so.1")
    assert not source.simulated
