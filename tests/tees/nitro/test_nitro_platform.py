"""The simulated hypervisor: kept on disk, plain about what it is, and a plug-in like any other."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.config_binding import expected_slot
from regalia.core.errors import LocalError, ParseError, UsageError
from regalia.wire.evidence import Tee, parse_evidence
from regalia_testing.folder import MARKER
from regalia_testing.sources import open_nitro
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.nitro.testbed import (
    MEASUREMENT,
    REPORT_DATA,
    RUNTIME_CONFIG,
    NitroTestbed,
)
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from pathlib import Path


def test_open_starts_another_enclave(nitro: NitroTestbed) -> None:
    again = NitroSimulator.open(nitro.platform.directory, clock=lambda: nitro.now)
    assert again.root == nitro.platform.root
    testbed = NitroTestbed(again, nitro.now)
    claims = testbed.verify(testbed.evidence(), anchors=nitro.platform.anchors())
    first = nitro.verify(nitro.evidence())
    assert claims.instance == first.instance
    assert claims.guest != first.guest


def test_what_lies_in_the_directory(nitro: NitroTestbed) -> None:
    folder = nitro.platform.directory
    assert "protected from nobody" in (folder / MARKER).read_text()
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("root", "regional", "zonal", "instance"):
        assert (folder / f"{name}.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in nitro.platform.collateral_directory.iterdir()] == ["root.der"]


def test_no_directory_is_overwritten(nitro: NitroTestbed, tmp_path: Path) -> None:
    with pytest.raises(LocalError) as refusal:
        NitroSimulator.create(nitro.platform.directory)
    assert refusal.value.code.name == "FILE_EXISTS"
    with pytest.raises(LocalError):
        NitroSimulator.open(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "data"),
    [("platform.json", b"{}"), ("platform.json", b""), ("zonal.key", b"not a key")],
)
def test_a_damaged_directory(nitro: NitroTestbed, tmp_path: Path, name: str, data: bytes) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(nitro.platform.directory, copy)
    (copy / name).write_bytes(data)
    with pytest.raises(ParseError):
        NitroSimulator.open(copy)


def test_platforms_do_not_vouch_for_each_other(nitro: NitroTestbed, tmp_path: Path) -> None:
    other = NitroSimulator.create(tmp_path / "other", clock=lambda: nitro.now)
    theirs = NitroTestbed(other, nitro.now)
    theirs.verify(theirs.evidence())
    refused("ROOT_UNTRUSTED", nitro.verify, evidence=theirs.evidence())


def test_documents_expire(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence()
    nitro.verify(evidence, now=nitro.now + timedelta(hours=3))
    refused(
        "CERT_EXPIRED",
        nitro.verify,
        evidence=evidence,
        now=nitro.now + timedelta(hours=3, seconds=1),
    )


@pytest.mark.parametrize(("data", "measurement"), [(bytes(63), bytes(48)), (bytes(64), b"")])
def test_nothing_is_padded(nitro: NitroTestbed, data: bytes, measurement: bytes) -> None:
    with pytest.raises(ParseError):
        nitro.platform.evidence(data, measurement=measurement, runtime_config=b"")


def test_the_source(nitro: NitroTestbed, tmp_path: Path) -> None:
    NitroSimulator.create(tmp_path / "platform")
    source = open_nitro({"platform": str(tmp_path / "platform")})
    assert source.simulated
    assert source.collect_devices(bytes(32)) == ()
    evidence = parse_evidence(source.collect(REPORT_DATA, RUNTIME_CONFIG).encode())
    assert evidence.tee is Tee.NITRO
    opened = NitroSimulator.open(tmp_path / "platform")
    claims = NitroTestbed(opened, opened.clock()).verify(evidence)
    assert claims.config_binding == expected_slot(Tee.NITRO, RUNTIME_CONFIG)
    assert claims.measurement != MEASUREMENT
    refused("ROOT_UNTRUSTED", nitro.verify, evidence=evidence)


def test_the_source_takes_knobs(tmp_path: Path) -> None:
    NitroSimulator.create(tmp_path / "platform")
    options = {"platform": str(tmp_path / "platform"), "defects": {"debug": True}}
    opened = NitroSimulator.open(tmp_path / "platform")
    evidence = open_nitro(options).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert NitroTestbed(opened, opened.clock()).verify(evidence).debug


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"platform": ""},
        {"platform": 5},
        {"platform": "x", "unknown": 1},
        {"platform": "x", "defects": {"unknown": True}},
        {"platform": "x", "defects": {"debug": 1}},
        {"platform": "x", "defects": ["debug"]},
    ],
    ids=str,
)
def test_unusable_options(options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refusal:
        open_nitro(options)
    assert refusal.value.code.name == "BAD_CONFIG"
