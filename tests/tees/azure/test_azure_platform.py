"""Simulated Azure VMs: kept on disk, plain about what they are, and plug-ins like any other."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.config_binding import expected_slot
from regalia.core.errors import LocalError, ParseError, UsageError
from regalia.wire.evidence import parse_evidence
from regalia_testing.folder import MARKER
from regalia_testing.sources import open_azure_snp, open_azure_tdx
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.azure.testbed import REPORT_DATA, RUNTIME_CONFIG, AzureTestbed

if TYPE_CHECKING:
    from pathlib import Path


def test_open_is_create(azure: AzureTestbed) -> None:
    again = AzureSimulator.open(azure.platform.directory)
    assert again.tee is azure.platform.tee
    testbed = AzureTestbed(again, azure.now)
    claims = azure.verify(testbed.evidence())
    assert claims.vm.vm_unique_id == azure.platform.guest.vm_unique_id


def test_what_lies_in_the_directory(azure: AzureTestbed) -> None:
    folder = azure.platform.directory
    assert "protected from nobody" in (folder / MARKER).read_text()
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "ak.key").stat().st_mode & 0o777 == 0o600
    assert any(azure.platform.collateral_directory.iterdir())


def test_no_directory_is_overwritten(azure: AzureTestbed, tmp_path: Path) -> None:
    with pytest.raises(LocalError) as refusal:
        AzureSimulator.create(azure.platform.directory)
    assert refusal.value.code.name == "FILE_EXISTS"
    with pytest.raises(LocalError):
        AzureSimulator.open(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "data"), [("platform.json", b"{}"), ("platform.json", b""), ("ak.key", b"not a key")]
)
def test_a_damaged_directory(azure: AzureTestbed, tmp_path: Path, name: str, data: bytes) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(azure.platform.directory, copy)
    (copy / name).write_bytes(data)
    with pytest.raises(ParseError):
        AzureSimulator.open(copy)


def test_the_sources(azure: AzureTestbed) -> None:
    mine, other = open_azure_snp, open_azure_tdx
    if azure.platform.intel is not None:
        mine, other = other, mine
    options: dict[str, object] = {"platform": str(azure.platform.directory)}
    source = mine(options)
    assert source.simulated
    assert source.collect_devices(bytes(32)) == ()
    evidence = parse_evidence(source.collect(REPORT_DATA, RUNTIME_CONFIG).encode())
    claims = azure.verify(evidence)
    assert claims.config_binding == expected_slot(claims.tee, RUNTIME_CONFIG)
    with pytest.raises(UsageError):
        other(options)
    broken = mine({**options, "defects": {"console_enabled": True}})
    assert azure.verify(broken.collect(REPORT_DATA, RUNTIME_CONFIG)).vm.console_enabled


@pytest.mark.parametrize("options", [{}, {"platform": "x", "defects": {"vmpl": "1"}}], ids=str)
def test_unusable_options(options: dict[str, object]) -> None:
    for opener in (open_azure_snp, open_azure_tdx):
        with pytest.raises(UsageError) as refusal:
            opener(options)
        assert refusal.value.code.name == "BAD_CONFIG"
