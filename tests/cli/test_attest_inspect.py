"""``regalia attest inspect`` for people: one page, versions as such, and bytes by their ends."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from regalia.cli.attest.compact import _moment
from regalia.cli.main import run
from regalia_testing.attest_files import KINDS, make
from tests.cli.test_attest_vectors import ROWS

if TYPE_CHECKING:
    from pathlib import Path

SCREEN = 60  # lines
BOTH = 75  # of Azure, where a page has a platform and a TPM
EVERY = sorted({row.evidence for row in ROWS})


def shown(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    capsys.readouterr()
    assert run(["attest", "inspect", str(path), *more]) == 0
    return capsys.readouterr().out


def require_a_page(text: str) -> None:
    lines = text.splitlines()
    assert len(lines) <= (BOTH if "HCL report" in lines else SCREEN)
    assert all(len(line) <= 100 for line in lines[1:])
    assert re.search("[0-9a-f]{33}", "\n".join(lines[1:])) is None
    assert "--raw" in lines[-1]


@pytest.mark.parametrize("evidence", EVERY)
def test_a_page_fits_one_screen(
    vectors: Path, evidence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = vectors / evidence
    devices = shown(path, capsys, "--json").count('"measurements"')
    text = shown(path, capsys)
    if text.count("\ndevice ") <= 4 and devices <= 4:
        require_a_page(text)
    raw = shown(path, capsys, "--raw")
    assert "UNTRUSTED" in text
    assert "UNTRUSTED" in raw
    assert len(raw.splitlines()) >= len(text.splitlines()) - 4


@pytest.mark.parametrize("tee", KINDS)
def test_simulated_evidence(tee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evidence.json"
    (tmp_path / tee).mkdir()
    path.write_bytes(make(tmp_path / tee, tee)["healthy"].encode())
    require_a_page(shown(path, capsys))


def test_versions_are_versions(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genoa = shown(vectors / "snp/genoa/ms-report.bin", capsys)
    assert "reported_tcb        bootloader 10, tee 0, snp 23, microcode 84" in genoa
    assert "current_firmware    1.55 build 40" in genoa
    assert "PLATFORM_INFO  SMT_EN, TSME_EN, ECC_EN, ALIAS_CHECK_COMPLETE" in genoa
    assert "(48 bytes)" in genoa
    turin = shown(vectors / "snp/turin/ms-report.bin", capsys)
    assert "reported_tcb        fmc " in turin
    gpu = shown(vectors / "nvidia/sdk/hopperAttestationReport.txt", capsys)
    assert re.search("driver +535.86.09", gpu)
    assert re.search("vbios +96.00.5E.00.01", gpu)
    tdx = shown(vectors / "tdx/dcapqvl-tdx_quote.bin", capsys)
    assert re.search("tee_tcb_svn +6.1.3", tdx)
    nitro = shown(vectors / "nitro/evervault-valid.cbor", capsys)
    assert re.search("timestamp +2022-10-13T08:58:02Z", nitro)
    assert "6 of 16 are not zero: 0 f4d48b81a460, 1 " in nitro


def test_raw_has_every_byte(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = vectors / "snp/genoa/ms-report.bin"
    parts = json.loads(shown(path, capsys, "--json"))["parts"]
    raw = "".join(shown(path, capsys, "--raw").split())
    for value in parts["ATTESTATION_REPORT"].values():
        assert str(value) in raw


def test_a_moment_that_is_none() -> None:
    assert _moment(10**30) == f"{10**30} ms"
