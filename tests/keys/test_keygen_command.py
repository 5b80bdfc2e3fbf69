"""``regalia keygen sign`` and ``regalia keygen kek``, and where passphrases come from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import pytest

from regalia.cli import new_files
from regalia.cli.keygen import ALGORITHMS
from regalia.cli.main import run
from regalia.cli.passphrase import read_passphrase
from regalia.core.errors import CoreCode, LocalError, RegaliaError
from regalia.core.secret import SecretBytes
from regalia.crypto.sign import SigningKey, VerifyKey
from regalia.keys.devfile import open_store
from regalia.tlog.merkle import EMPTY_ROOT
from regalia.tlog.note import Checkpoint, parse_log_key, sign_checkpoint, verify_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = b"correct horse"


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.write_bytes(PASSPHRASE + b"\n")
    file.chmod(0o600)
    return file


def output(capsys: pytest.CaptureFixture[str], *args: str, status: int = 0) -> str:
    assert run(["keygen", *args]) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    assert PASSPHRASE.decode() not in captured.out + captured.err
    return captured.out + captured.err


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sign(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, passphrase: Path, algorithm: str
) -> None:
    args = ["sign", "--out", str(tmp_path / "owner"), "--algorithm", algorithm, "--json"]
    body = json.loads(output(capsys, *args, "--passphrase-file", str(passphrase)))
    pem = (tmp_path / "owner.key").read_bytes()
    assert b"ENCRYPTED" in pem
    assert (tmp_path / "owner.key").stat().st_mode & 0o777 == 0o600
    key = SigningKey.from_pem(pem, SecretBytes(bytearray(PASSPHRASE)))
    public = VerifyKey.from_pem((tmp_path / "owner.pub").read_bytes())
    assert key.verify_key == public
    assert body["fingerprint"] == str(public.fingerprint)
    public.verify(key.sign(b"m"), b"m")
    assert public.post_quantum == algorithm.startswith("ml-dsa-65")


def test_sign_without_a_passphrase_is_loud(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, passphrase: Path
) -> None:
    args = ["sign", "--out", str(tmp_path / "owner"), "--dangerous-no-passphrase"]
    both = [*args, "--passphrase-file", str(passphrase)]
    assert "BAD_USAGE" in output(capsys, *both, status=2)
    assert "DANGEROUS" in output(capsys, *args)
    SigningKey.from_pem((tmp_path / "owner.key").read_bytes(), None)


def test_nothing_is_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, passphrase: Path
) -> None:
    (tmp_path / "owner.pub").write_text("mine")
    args = ["sign", "--out", str(tmp_path / "owner"), "--passphrase-file", str(passphrase)]
    assert "FILE_EXISTS" in output(capsys, *args, status=9)
    assert not (tmp_path / "owner.key").exists()
    assert (tmp_path / "owner.pub").read_text() == "mine"


def test_kek_makes_the_store_and_adds_to_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, passphrase: Path
) -> None:
    store = tmp_path / "keys.json"
    for name in ("a", "b"):
        reference = f"dev-file:{store}#{name}"
        args = ["kek", "--key", reference, "--passphrase-file", str(passphrase)]
        assert "DEVELOPMENT KEY STORE" in output(capsys, *args)
    with open_store(store, SecretBytes(bytearray(PASSPHRASE))) as opened:
        assert opened.names() == ("a", "b")
    assert "KEK_EXISTS" in output(capsys, *args, status=7)


def test_kek_with_another_passphrase(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, passphrase: Path
) -> None:
    args = ["kek", "--passphrase-file", str(passphrase), "--key"]
    output(capsys, *args, f"dev-file:{tmp_path}/keys.json#a")
    passphrase.write_bytes(b"wrong")
    text = output(capsys, *args, f"dev-file:{tmp_path}/keys.json#b", status=7)
    assert "KEY_STORE_LOCKED" in text


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [
        ("nonsense", 2, "KEY_REFERENCE_MALFORMED"),
        ("safe:token#a", 2, "PLUGIN_UNKNOWN"),
        ("dev-file:/none/keys.json#a", 9, "FILE_MISSING"),
    ],
)
def test_kek_bad_references(
    capsys: pytest.CaptureFixture[str], passphrase: Path, reference: str, status: int, code: str
) -> None:
    args = ["kek", "--key", reference, "--passphrase-file", str(passphrase)]
    assert code in output(capsys, *args, status=status)


def refusal(path: Path | None) -> str:
    with pytest.raises(RegaliaError) as caught:
        read_passphrase(path, confirm=False)
    return caught.value.code.name


def test_passphrase_files(tmp_path: Path, passphrase: Path) -> None:
    with read_passphrase(passphrase, confirm=True) as secret:
        assert secret.view() == PASSPHRASE
    passphrase.write_bytes(b" a b \n\n")
    with read_passphrase(passphrase, confirm=True) as secret:
        assert secret.view() == b" a b \n"  # one newline only is not part of it
    passphrase.write_bytes(b"dos\r\n")
    with read_passphrase(passphrase, confirm=True) as secret:
        assert secret.view() == b"dos"
    for empty in (b"", b"\n"):
        passphrase.write_bytes(empty)
        assert refusal(passphrase) == "PASSPHRASE_EMPTY"
    passphrase.write_bytes(b"x" * 2000)
    assert refusal(passphrase) == "TOO_LARGE"
    passphrase.chmod(0o644)
    assert refusal(passphrase) == "INSECURE_MODE"
    assert refusal(tmp_path / "none") == "FILE_MISSING"


def test_passphrase_without_a_terminal() -> None:
    assert refusal(None) == "PASSPHRASE_NEEDED"


def test_passphrase_from_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def prompt(_: str, **options: object) -> str:
        asked.append(options)
        return "pässword"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(click, "prompt", prompt)
    with read_passphrase(None, confirm=True) as secret:
        assert secret.view() == "pässword".encode()
    assert asked == [{"hide_input": True, "confirmation_prompt": True, "err": True}]


def test_a_log_may_sign_with_a_pair(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, passphrase: Path
) -> None:
    args = ["log", "--origin", "log.example", "--out", str(tmp_path / "log"), "--json"]
    args += ["--algorithm", "ml-dsa-65-ed25519", "--passphrase-file", str(passphrase)]
    body = json.loads(output(capsys, *args))
    text = (tmp_path / "log.vkey").read_text().strip()
    assert body["log_key"] == text
    key = parse_log_key(text)
    assert key.verify_key.post_quantum
    private = SigningKey.from_pem(
        (tmp_path / "log.key").read_bytes(), SecretBytes(bytearray(PASSPHRASE))
    )
    note = sign_checkpoint(Checkpoint("log.example", 0, EMPTY_ROOT), private)
    assert verify_checkpoint(note, key).size == 0
    with pytest.raises(RegaliaError, match="CHECKPOINT_INVALID"):
        verify_checkpoint(note.replace("log.example\n0", "log.example\n1"), key)


@pytest.mark.parametrize("command", [["sign"], ["log", "--origin", "log.example"]])
def test_half_a_pair_is_no_pair(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    passphrase: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    """The disk is full once the private key is written: the message says nothing was kept."""
    write_new = new_files.write_new

    def full(path: Path, data: bytes, *, mode: int) -> None:
        if path.suffix != ".key":
            raise LocalError(CoreCode.DISK_FULL, f"{path}: No space left on device")
        write_new(path, data, mode=mode)

    monkeypatch.setattr(new_files, "write_new", full)
    args = [*command, "--out", str(tmp_path / "own"), "--passphrase-file", str(passphrase)]
    assert "nothing was kept" in output(capsys, *args, status=9)
    assert [path.name for path in tmp_path.iterdir()] == ["passphrase"]


@pytest.mark.parametrize(
    "command",
    [
        ["sign", "--out", "own"],
        ["log", "--origin", "log.example", "--out", "own"],
        ["kek", "--key", "dev-file:own.key#a"],
    ],
)
def test_a_file_system_without_modes_is_told(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    passphrase: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(new_files, "others_may_read", lambda path: path.name == "own.key")
    text = output(capsys, *command, "--passphrase-file", str(passphrase))
    assert "DANGEROUS: own.key may be read by others" in text
    monkeypatch.undo()
    args = ["sign", "--out", str(tmp_path / "b"), "--passphrase-file", str(passphrase)]
    assert "DANGEROUS" not in output(capsys, *args)


@pytest.mark.parametrize("command", ["sign", "kek"])
def test_the_longest_new_passphrase(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, passphrase: Path, command: str
) -> None:
    place = str(tmp_path / "own")
    made = ["--key", f"dev-file:{place}#a"] if command == "kek" else ["--out", place]
    args = [command, *made, "--passphrase-file", str(passphrase)]
    passphrase.write_bytes(b"x" * 1024)
    assert "PASSPHRASE_TOO_LONG" in output(capsys, *args, status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["passphrase"]
    passphrase.write_bytes(b"x" * 1023 + b"\n")
    output(capsys, *args)


def test_an_old_passphrase_may_be_as_long_as_it_was(passphrase: Path) -> None:
    passphrase.write_bytes(b"x" * 1024)
    with read_passphrase(passphrase, confirm=False) as secret:
        assert len(secret) == 1024


@pytest.mark.parametrize("typed", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"), "\udcff"])
def test_what_is_typed_must_be_text(
    monkeypatch: pytest.MonkeyPatch, typed: UnicodeDecodeError | str
) -> None:
    def prompt(*_: object, **__: object) -> str:
        if isinstance(typed, str):
            return typed
        raise typed

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(click, "prompt", prompt)
    with pytest.raises(RegaliaError) as caught:
        read_passphrase(None, confirm=False)
    assert caught.value.code.name == "PASSPHRASE_NOT_TEXT"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_long_typed_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(click, "prompt", lambda *_, **__: "ä" * 512)
    with pytest.raises(RegaliaError) as caught:
        read_passphrase(None, confirm=True)
    assert caught.value.code.name == "PASSPHRASE_TOO_LONG"
