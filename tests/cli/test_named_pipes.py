"""A named pipe in the place of a file is refused by every command, and waited for by none."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run
from regalia_testing.attest_files import KINDS, make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Whoever opens a pipe waits for somebody to write to it.
pytestmark = pytest.mark.timeout(60)
KIND = KINDS["sev-snp"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipes")
    (folder / KIND.tee).mkdir()
    for name, evidence in make(folder / KIND.tee, KIND.tee).items():
        (folder / KIND.tee / f"{name}.json").write_bytes(evidence.encode())
    (folder / "sealed").mkdir()
    for pipe in ("pipe", "sealed/manifest.json", f"{KIND.tee}/pipe.json"):
        os.mkfifo(folder / pipe, 0o600)
    shutil.copytree(folder / KIND.tee / "collateral", folder / "collateral")
    os.mkfifo(folder / "collateral" / "list.crl")
    return folder


@pytest.fixture
def here(made: Path) -> Iterator[None]:
    with contextlib.chdir(made):
        yield


COMMANDS = {
    "evidence": ["attest", "inspect", "pipe"],
    "evidence to verify": KIND.command("pipe"),
    "folder of collateral": KIND.command("healthy", "--collateral", "collateral"),
    "endorsement": KIND.command("healthy", "--endorsement", "pipe"),
    "policy": ["policy", "explain", "pipe"],
    "key": ["verify", "sealed", "--signer", "pipe"],
    "passphrase": ["keygen", "sign", "--out", "key", "--passphrase-file", "pipe"],
    "key store": ["keygen", "kek", "--key", "dev-file:pipe#a", "--passphrase-file", "pipe"],
    "manifest": ["inspect", "sealed"],
    "manifest to verify": ["verify", "sealed", "--signer", "any"],
    "bundle": ["collateral", "show", "pipe"],
    "log's key": ["log", "verify", "--url", "http://127.0.0.1:1", "--log-key", "pipe"],
    "configuration": ["broker", "check", "--config", "pipe"],
    "image": ["measure", "eif", "pipe"],
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("args", COMMANDS.values(), ids=COMMANDS)
def test_a_pipe_is_refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 9
    assert "[NOT_A_REGULAR_FILE]" in capsys.readouterr().err
