"""Bad input at every command: one clear message with a code and what to do, the documented exit
status, no traceback, and nothing lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Iterator

REGALIA = [sys.executable, "-m", "regalia"]
PHRASE = ("--passphrase-file", "phrase")


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a small model, and its sealed form."""
    folder = tmp_path_factory.mktemp("owner")
    with contextlib.chdir(folder):
        for name in ("phrase", "wrong-phrase"):
            Path(name).write_text(secrets.token_hex(8))
            Path(name).chmod(0o600)
        shutil.copy("phrase", "open-phrase")
        Path("open-phrase").chmod(0o644)
        Path("model").mkdir()
        Path("model/config.json").write_text("{}")
        Path("model/weights.bin").write_bytes(secrets.token_bytes(3_000_000))
        for args in (
            ["keygen", "sign", "--out", "owner", *PHRASE],
            ["keygen", "sign", "--out", "other", *PHRASE],
            ["keygen", "kek", "--key", "dev-file:keys.json#kek", *PHRASE],
            ["keygen", "kek", "--key", "dev-file:other.json#kek", *PHRASE],
            ["keygen", "log", "--origin", "log.invalid", "--out", "log", *PHRASE],
            seal_args("sealed"),
            seal_args("unsigned")[:-4],
        ):
            assert run(args) == 0, args
        shutil.copytree("sealed", "damaged")
        with Path("damaged/shard-00000.seal").open("r+b") as file:
            file.seek(500_000)
            file.write(b"????")
        shutil.copytree("sealed", "garbled")
        Path("garbled/manifest.json").write_text("{]")
        Path("model-with-link").mkdir()
        Path("model-with-link/a").symlink_to("/etc/hostname")
        Path("empty.toml").write_text("")
        Path("odd.toml").write_text("listn = 1\n")
        Path("policy.json").write_text('{"format": "regalia/client-policy/v1"}')
    return folder


def seal_args(out: str, *, key: str = "dev-file:keys.json#kek", model: str = "model") -> list[str]:
    return [
        *("seal", model, "--out", out, "--key", key, *PHRASE, "--version", "1"),
        *("--sign", "owner.key", "--sign-passphrase-file", "phrase"),
    ]


def open_args(out: str, *, key: str = "dev-file:keys.json#kek") -> list[str]:
    return [
        *("open", "sealed", "--out", out, "--key", key, *PHRASE),
        *("--yes", "--signer", "owner.pub"),
    ]


DEAD = "http://127.0.0.1:1"
CASES: dict[str, tuple[list[str], int, str]] = {
    "keygen, no folder": (["keygen", "sign", "--out", "no/x", *PHRASE], 9, "FILE_MISSING"),
    "keygen, exists": (["keygen", "sign", "--out", "owner", *PHRASE], 9, "FILE_EXISTS"),
    "keygen, open passphrase file": (
        ["keygen", "sign", "--out", "new", "--passphrase-file", "open-phrase"],
        9,
        "INSECURE_MODE",
    ),
    "keygen, wrong passphrase": (
        ["keygen", "kek", "--key", "dev-file:keys.json#b", "--passphrase-file", "wrong-phrase"],
        7,
        "KEY_STORE_LOCKED",
    ),
    "keygen, odd reference": (
        ["keygen", "kek", "--key", "nonsense", *PHRASE],
        2,
        "KEY_REFERENCE_MALFORMED",
    ),
    "seal, no model": (seal_args("new", model="none"), 9, "FILE_MISSING"),
    "seal, a file for a model": (seal_args("new", model="phrase"), 9, "NOT_A_DIRECTORY"),
    "seal, out exists": (seal_args("sealed"), 9, "FILE_EXISTS"),
    "seal, link in the model": (seal_args("new", model="model-with-link"), 9, "NOT_A_PLAIN_FILE"),
    "seal, no such key store": (seal_args("new", key="dev-file:none.json#kek"), 9, "FILE_MISSING"),
    "seal, no such key": (seal_args("new", key="dev-file:keys.json#none"), 7, "KEK_UNKNOWN"),
    "inspect, nothing there": (["inspect", "none"], 9, "FILE_MISSING"),
    "inspect, not a sealed model": (["inspect", "garbled"], 3, "MALFORMED"),
    "verify, damaged": (["verify", "damaged", "--signer", "owner.pub"], 4, "CIPHERTEXT_CHANGED"),
    "verify, unsigned": (["verify", "unsigned"], 4, "UNSIGNED"),
    "verify, other signer": (["verify", "sealed", "--signer", "other.pub"], 4, "SIGNER_UNKNOWN"),
    "verify, old version": (
        ["verify", "sealed", "--signer", "owner.pub", "--minimum-version", "2"],
        4,
        "VERSION_ROLLBACK",
    ),
    "open, another key": (
        open_args("new", key="dev-file:other.json#kek"),
        7,
        "KEK_MISMATCH",
    ),
    "open, out exists": (
        open_args("model"),
        9,
        "FILE_EXISTS",
    ),
    "policy show, missing": (["policy", "show", "none.json"], 9, "FILE_MISSING"),
    "policy show, malformed": (["policy", "show", "policy.json"], 3, "MALFORMED"),
    "policy explain, malformed": (["policy", "explain", "policy.json"], 3, "MALFORMED"),
    "collateral show, nothing there": (["collateral", "show", "none"], 9, "FILE_MISSING"),
    "collateral show, malformed": (["collateral", "show", "policy.json"], 3, "MALFORMED"),
    "collateral show, a signed policy": (
        ["collateral", "show", "sealed/manifest.json"],
        4,
        "WRONG_PAYLOAD_TYPE",
    ),
    "collateral check, malformed": (["collateral", "check", "model"], 3, "WRONG_FILE"),
    "collateral import, no signer": (
        ["collateral", "import", "phrase", "--into", "new", "--name", "x"],
        2,
        "BAD_USAGE",
    ),
    "collateral export, no key": (
        ["collateral", "export", "model", "--out", "new", "--next-update", "2099-01-01T00:00:00Z"],
        2,
        "BAD_USAGE",
    ),
    "collateral sign, malformed": (
        ["collateral", "sign", "phrase", "--sign", "owner.key", *PHRASE, "--out", "new"],
        3,
        "MALFORMED",
    ),
    "collateral fetch, no address": (
        ["collateral", "fetch", "--evidence", "phrase", "--into", "new"],
        3,
        "FORM_UNKNOWN",
    ),
    "store, nothing there": (["store", "serve", "none"], 9, "NOT_A_DIRECTORY"),
    "broker, no configuration": (["broker", "serve", "--config", "none.toml"], 9, "FILE_MISSING"),
    "broker, empty configuration": (["broker", "serve", "--config", "empty.toml"], 2, "BAD_CONFIG"),
    "broker, misspelt setting": (["broker", "serve", "--config", "odd.toml"], 2, "BAD_CONFIG"),
    "log, unreachable": (
        ["log", "verify", "--url", DEAD, "--log-key", "log.vkey"],
        8,
        "PEER_UNREACHABLE",
    ),
    "log, no key": (["log", "verify", "--url", DEAD, "--log-key", "none.vkey"], 9, "FILE_MISSING"),
    "serve, no configuration": (["serve", "--config", "none.toml"], 9, "FILE_MISSING"),
    "serve, misspelt setting": (["serve", "--config", "odd.toml"], 2, "BAD_CONFIG"),
    "chat, malformed policy": (
        ["chat", "--url", DEAD, "--policy", "policy.json", "--once", "hi"],
        3,
        "MALFORMED",
    ),
    "chat, no policy": (
        ["chat", "--url", DEAD, "--policy", "none", "--once", "hi"],
        9,
        "FILE_MISSING",
    ),
    "demo, folder exists": (["demo", "--dir", "model"], 9, "FILE_EXISTS"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_a_code(
    owner: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args, status, code = CASES[name]
    monkeypatch.chdir(owner)
    before = sorted(p.name for p in owner.iterdir())
    assert run([*args, "--json"]) == status, capsys.readouterr()
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    error = answer["error"]
    assert answer["ok"] is False
    assert error["why"]
    assert error["fix"]
    assert error["code"] == code
    assert run(args) == status
    said = capsys.readouterr().err
    assert error["code"] in said
    assert "What to do" in said
    assert "Traceback" not in said + captured.err
    assert sorted(p.name for p in owner.iterdir()) == before


@pytest.fixture
def taken() -> Iterator[str]:
    """An address on which somebody listens already."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_store_port_in_use(
    owner: Path, taken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(owner)
    assert run(["store", "serve", "sealed", "--listen", taken]) == 8
    assert "PORT_IN_USE" in capsys.readouterr().err


def test_a_full_disk_keeps_nothing(owner: Path, tmp_path: Path) -> None:
    limited = f"ulimit -f 1000; exec {' '.join(REGALIA)} {' '.join(seal_args(str(tmp_path / 's')))}"
    done = subprocess.run(
        ["/bin/bash", "-c", limited], cwd=owner, capture_output=True, text=True, check=False
    )
    assert done.returncode == 9, done.stderr
    assert "DISK_FULL" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_sealing_keeps_nothing(owner: Path, tmp_path: Path) -> None:
    model = tmp_path / "big"
    model.mkdir()
    with (model / "weights").open("wb") as file:
        os.truncate(file.fileno(), 4 << 30)  # sparse: seconds of sealing, no disk
    process = subprocess.Popen(
        [*REGALIA, *seal_args(str(tmp_path / "out"), model=str(model))],
        cwd=owner,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)  # until the temporary directory is there
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["big"]
