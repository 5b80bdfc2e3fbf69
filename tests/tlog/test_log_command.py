"""``regalia log`` and ``regalia keygen log``, as a person or a program runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run
from regalia.core.errors import LogError
from regalia.core.secret import SecretBytes
from regalia.crypto.sign import SigningKey
from regalia.tlog.log import Log
from regalia.tlog.note import parse_log_key
from regalia.wire.release import Reason, ReleaseRecord

if TYPE_CHECKING:
    from pathlib import Path

MakeRecord = Callable[..., ReleaseRecord]


@pytest.fixture
def database(tmp_path: Path, log: Log, make_record: MakeRecord) -> str:
    log.append(make_record(0))
    denied = [Reason(code="DEBUG_ENABLED", what="debug")]
    log.append(make_record(1, decision="denial", reasons=denied, product="\x1b[31mevil[red]"))
    return f"sqlite:///{tmp_path}/log.db"


def output(capsys: pytest.CaptureFixture[str], *args: str, status: int = 0) -> str:
    assert run(["log", *args]) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return captured.out + captured.err


def test_show(capsys: pytest.CaptureFixture[str], database: str, log: Log) -> None:
    text = output(capsys, "show", "--database", database, "--log-key", log.log_key)
    assert "DEBUG_ENABLED" in text
    assert "verified: log.example/regalia, 2 entries (1 releases, 1 denials)" in text
    assert "\x1b[31mevil" not in text


def test_show_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str],
    database: str,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No word is broken and no column is lost: each entry has a line for each."""
    wide = output(capsys, "show", "--database", database, "--log-key", log.log_key)
    for name, value in (("COLUMNS", "60"), ("FORCE_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    text = output(capsys, "show", "--database", database, "--log-key", log.log_key)
    words = {word for line in wide.splitlines()[1:] for word in line.split()}
    assert words <= set(text.split())
    for heading in ("#", "time", "decision", "hardware", "model", "why"):
        assert sum(line.startswith(heading) for line in text.splitlines()) == 2
    assert "\x1b[31mevil" not in text


def test_show_says_how_many_devices(
    capsys: pytest.CaptureFixture[str], database: str, log: Log, make_record: MakeRecord
) -> None:
    log.append(make_record(2, devices=["nvidia-gpu:41", "nvidia-gpu:42"]))
    args = ["--database", database, "--log-key", log.log_key]
    for command in ("show", "verify"):
        assert "simulated Genoa, 2 devices" in output(capsys, command, *args)


def test_show_json(capsys: pytest.CaptureFixture[str], database: str, log: Log) -> None:
    args = ["show", "--database", database, "--log-key", log.log_key, "--last", "1", "--json"]
    body = json.loads(output(capsys, *args))
    assert (body["ok"], body["size"], len(body["entries"])) == (True, 2, 1)
    assert body["entries"][0]["record"]["reasons"][0]["code"] == "DEBUG_ENABLED"


def test_verify_names_releases_and_remembers(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    database: str,
    log: Log,
    make_record: MakeRecord,
) -> None:
    key = tmp_path / "log.vkey"
    key.write_text(log.log_key + "\n")
    memory = tmp_path / "seen.checkpoint"
    args = ["verify", "--database", database, "--log-key", str(key), "--remember", str(memory)]
    assert "--first" in output(capsys, *args, status=2), "a lost file is no new one"
    text = output(capsys, *args, "--first")
    assert "release 0: " in text
    assert "release 1: " not in text
    assert memory.read_text() == log.reader.checkpoint()
    log.append(make_record(2))
    assert "exists" in output(capsys, *args, "--first", status=2)
    assert "the first 2 entries are those of the last verification" in output(capsys, *args)


def test_a_log_that_forgot_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, database: str, log: Log, origin: str
) -> None:
    memory = tmp_path / "seen.checkpoint"
    args = ["verify", "--log-key", log.log_key, "--remember", str(memory), "--json"]
    output(capsys, *args, "--database", database, "--first")
    before = memory.read_text()
    other = f"sqlite:///{tmp_path}/other.db"
    from regalia.tlog.database import open_engine  # noqa: PLC0415

    engine = open_engine(other)
    Log(engine, origin=origin, key=log._signer)
    engine.dispose()
    body = json.loads(output(capsys, *args, "--database", other, status=10))
    assert body["error"]["code"] == "LOG_FORKED"
    assert memory.read_text() == before


@pytest.mark.parametrize("command", [["show"], ["verify"], ["prove", "0"]])
def test_a_database_that_is_not_there_is_not_made(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, log: Log
) -> None:
    args = ["--database", f"sqlite:///{tmp_path}/gone.db", "--log-key", log.log_key]
    assert "FILE_MISSING" in output(capsys, *command, *args, status=9)
    assert not (tmp_path / "gone.db").exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:crown@host/regalia",
        "postgresql+psycopg://host/regalia?password=crown",
    ],
)
@pytest.mark.parametrize("command", [["show"], ["verify"], ["prove", "0"]])
def test_a_password_does_not_belong_on_the_command_line(
    command: list[str], url: str, capsys: pytest.CaptureFixture[str], log: Log
) -> None:
    text = output(capsys, *command, "--database", url, "--log-key", log.log_key, status=2)
    assert "BAD_USAGE" in text
    assert "passfile" in text
    assert "crown" not in text


def test_prove_and_verify_offline(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, database: str, log: Log
) -> None:
    proof = tmp_path / "proof.json"
    args = ["--database", database, "--log-key", log.log_key]
    output(capsys, "prove", "0", *args, "--out", str(proof))
    text = output(capsys, "verify", "--proof", str(proof), "--log-key", log.log_key)
    assert "entry 0 is in the log" in text
    body = json.loads(
        output(capsys, "verify", "--proof", str(proof), "--log-key", log.log_key, "--json")
    )
    assert body["index"] == 0
    changed = proof.read_text().replace('"index":0', '"index":1')
    proof.write_text(changed)
    text = output(capsys, "verify", "--proof", str(proof), "--log-key", log.log_key, status=10)
    assert "PROOF_INVALID" in text
    assert "NO_SUCH_ENTRY" in output(capsys, "prove", "7", *args, status=10)


@pytest.mark.parametrize(
    ("args", "status", "want"),
    [
        (["show"], 2, "--log-key"),
        (["show", "--log-key", "KEY"], 2, "either --url or --database"),
        (["show", "--log-key", "KEY", "--url", "http://a", "--database", "b"], 2, "either"),
        (["show", "--log-key", "KEY", "--database", "nonsense"], 2, "BAD_CONFIG"),
        (["show", "--log-key", "KEY", "--database", "sqlite:////none/x.db"], 9, "FILE_MISSING"),
        (["show", "--log-key", "KEY", "--url", "ftp://a"], 2, "BAD_USAGE"),
        (["show", "--log-key", "KEY", "--url", "http://127.0.0.1:1"], 8, "PEER_UNREACHABLE"),
        (["show", "--log-key", "a+b+c", "--url", "http://a"], 10, "LOG_KEY_MALFORMED"),
        (["show", "--log-key", "/none/log.vkey", "--url", "http://a"], 9, "FILE_MISSING"),
        (["verify", "--log-key", "KEY", "--proof", "/none", "--url", "a"], 2, "BAD_USAGE"),
        (["verify", "--log-key", "KEY", "--proof", "/none"], 9, "FILE_MISSING"),
        (["prove", "x", "--log-key", "KEY", "--database", "b"], 2, "INDEX"),
    ],
)
def test_bad_input(
    capsys: pytest.CaptureFixture[str], log: Log, args: list[str], status: int, want: str
) -> None:
    args = [log.log_key if arg == "KEY" else arg for arg in args]
    assert want in output(capsys, *args, status=status)


# -- keygen ---------------------------------------------------------------------------------------


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    return file


def test_keygen_log(capsys: pytest.CaptureFixture[str], tmp_path: Path, passphrase: Path) -> None:
    out = tmp_path / "log"
    args = ["keygen", "log", "--origin", "log.example", "--out", str(out)]
    assert run([*args, "--passphrase-file", str(passphrase), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    text = (tmp_path / "log.vkey").read_text()
    assert text == body["log_key"] + "\n"
    private = tmp_path / "log.key"
    assert private.stat().st_mode & 0o777 == 0o600
    key = SigningKey.from_pem(private.read_bytes(), SecretBytes(bytearray(b"correct horse")))
    assert parse_log_key(text.strip()).verify_key == key.verify_key
    assert run([*args, "--passphrase-file", str(passphrase)]) == 9  # nothing is overwritten
    assert "FILE_EXISTS" in capsys.readouterr().err


def test_keygen_log_with_a_bad_origin_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    args = ["keygen", "log", "--origin", "a b", "--out", str(tmp_path / "log")]
    assert run([*args, "--dangerous-no-passphrase"]) == LogError.exit_status
    assert "LOG_KEY_MALFORMED" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
