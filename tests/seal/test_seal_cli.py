"""The four commands around sealed models, as a person types them."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click
import pytest

from regalia.cli.main import COMMANDS, cli, run
from regalia.core.errors import CoreCode, LocalError
from regalia.core.secret import SecretBytes
from regalia.crypto.dsse import parse_envelope, sign
from regalia.crypto.sign import SigningKey
from regalia.keys.devfile import create_store
from regalia.seal.format.manifest import PAYLOAD_TYPE, parse_manifest
from regalia.seal.output import SealedOutput
from regalia.seal.writer import SealOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from regalia.seal.format.manifest import Manifest
    from regalia.seal.format.sealed import Chunk


@dataclass
class SealTestbed:
    """Keys, a model and its sealing."""

    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def key(self) -> str:
        return f"dev-file:{self.path('keys.json')}#crown"

    def seal(self, out: str, *more: str, version: int = 4) -> list[str]:
        return [
            *("seal", self.path("model"), "--out", self.path(out), "--key", self.key),
            *("--version", str(version), "--passphrase-file", self.path("passphrase"), *more),
        ]

    def open(self, sealed: str, out: str, *more: str) -> list[str]:
        return [
            *("open", self.path(sealed), "--out", self.path(out), "--key", self.key),
            *("--passphrase-file", self.path("passphrase"), *more),
        ]


@pytest.fixture(scope="session")
def testbed_files(tmp_path_factory: pytest.TempPathFactory) -> SealTestbed:
    folder = tmp_path_factory.mktemp("cli")
    testbed = SealTestbed(folder)
    (folder / "model" / "sub").mkdir(parents=True)
    (folder / "model" / "config.json").write_bytes(b'{"secret_architecture": 1}')
    (folder / "model" / "sub" / "weights.bin").write_bytes(os.urandom(2_500_000))
    (folder / "passphrase").touch(mode=0o600)
    (folder / "passphrase").write_text("correct horse\n")
    with (
        SecretBytes(bytearray(b"correct horse")) as passphrase,
        create_store(folder / "keys.json", passphrase) as store,
    ):
        store.add_kek("crown")
        store.add_kek("other")
    for name in ("owner", "mallory"):
        key = SigningKey.generate_ed25519()
        (folder / f"{name}.key").touch(mode=0o600)
        (folder / f"{name}.key").write_bytes(key.to_pem(None))
        (folder / f"{name}.pub").write_bytes(key.verify_key.to_pem())
    assert run([*testbed.seal("sealed", "--sign", testbed.path("owner.key"), "--json")]) == 0
    assert run([*testbed.seal("unsigned", "--json")]) == 0
    return testbed


@pytest.fixture
def testbed(testbed_files: SealTestbed, tmp_path: Path) -> SealTestbed:
    """Everything of ``testbed_files`` by symbolic link, and sealed models of one's own."""
    for item in testbed_files.folder.iterdir():
        if item.name in {"sealed", "unsigned"}:
            shutil.copytree(item, tmp_path / item.name)
        else:
            (tmp_path / item.name).symlink_to(item)
    return replace(testbed_files, folder=tmp_path)


Outcome = tuple[int, "Any", str]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[[list[str]], Outcome]:
    """Run a command; returns (exit status, JSON or text of standard output, standard error)."""

    def run_command(args: list[str]) -> Outcome:
        capfd.readouterr()
        status = run(args)
        out, err = capfd.readouterr()
        return status, json.loads(out) if "--json" in args else out, err

    return run_command


def test_help_lines_agree() -> None:
    for name in ("seal", "inspect", "verify", "open"):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.get_short_help_str(200) == COMMANDS[name][2]


def test_what_is_sealed_already_is_not_sealed_again(
    testbed: SealTestbed, call: Callable[[list[str]], Outcome]
) -> None:
    args = testbed.seal("again")
    args[1] = testbed.path("sealed")
    status, _, err = call(args)
    assert status == 9
    assert "refused [ALREADY_SEALED]" in err
    assert not (testbed.folder / "again").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "weights.bin"])
def test_a_model_without_weights_is_warned_of(
    name: str, testbed: SealTestbed, call: Callable[[list[str]], Outcome]
) -> None:
    (testbed.folder / "bare").mkdir()
    (testbed.folder / "bare" / name).write_bytes(bytes(100))
    args = testbed.seal("of-bare")
    args[1] = testbed.path("bare")
    status, _, err = call(args)
    assert status == 0
    assert ("no weights: no file in" in err) == (name == "weights.bin")


def test_inspect(testbed: SealTestbed, call: Callable[[list[str]], Outcome]) -> None:
    status, text, _ = call(["inspect", testbed.path("sealed")])
    assert status == 0
    for word in ("model:", "seal:", "version", "4", "aes-256-gcm", "not checked", "shard-00000"):
        assert word in text
    for secret in ("config", "weights", "secret_architecture", "sub"):
        assert secret not in text
    status, body, _ = call(["inspect", testbed.path("sealed"), "--json"])
    assert status == 0
    assert body["verified"] is False
    assert body["version"] == 4
    assert body["kek"] == "crown"
    assert set(body["files"]) == {"index.seal", "shard-00000.seal"}
    # What sha256sum prints.
    digest = hashlib.sha256(
        (testbed.folder / "sealed" / "shard-00000.seal").read_bytes()
    ).hexdigest()
    assert body["files"]["shard-00000.seal"]["digest"] == f"sha256:{digest}"


def test_verify(testbed: SealTestbed, call: Callable[[list[str]], Outcome]) -> None:
    owner = testbed.path("owner.pub")
    status, text, err = call(["verify", testbed.path("sealed"), "--signer", owner])
    assert status == 0
    assert "a key that you named" in text
    assert err == ""
    status, body, _ = call(["verify", testbed.path("sealed"), "--signer", owner, "--json"])
    assert status == 0
    assert body["verified"] is True
    assert body["signer_check"] == "named"


@pytest.mark.parametrize("words", [[], ["--signer", "any"]])
def test_verify_any_signer_is_loud(
    testbed: SealTestbed, call: Callable[[list[str]], Outcome], words: list[str]
) -> None:
    status, text, err = call(["verify", testbed.path("sealed"), *words])
    assert status == 0
    assert "NOT compared with a key that you trust" in text
    assert "signer: any" in err
    status, body, _ = call(["verify", testbed.path("sealed"), *words, "--json"])
    assert body["signer_check"] == "any"


@pytest.mark.parametrize(
    ("defect", "more", "code", "exit_status"),
    [
        ("", ["--signer", "mallory.pub"], "SIGNER_UNKNOWN", 4),
        ("", ["--signer", "any", "--signer", "owner.pub"], "BAD_USAGE", 2),
        ("", ["--signer", "nothing.pub"], "FILE_MISSING", 9),
        ("", ["--signer", "owner.key"], "PUBLIC_KEY_MALFORMED", 3),
        ("", ["--minimum-version", "5"], "VERSION_ROLLBACK", 4),
        ("flip", [], "CIPHERTEXT_CHANGED", 4),
        ("cut", [], "SIZE_CHANGED", 4),
        ("gone", [], "FILE_MISSING", 9),
        ("extra", [], "UNEXPECTED_FILE", 4),
        ("no_manifest", [], "FILE_MISSING", 9),
        ("manifest_text", [], "MALFORMED", 3),
    ],
)
def test_verify_refuses(  # noqa: PLR0917 - one argument for each part of the table
    testbed: SealTestbed,
    call: Callable[[list[str]], Outcome],
    defect: str,
    more: list[str],
    code: str,
    exit_status: int,
) -> None:
    shard = testbed.folder / "sealed" / "shard-00000.seal"
    manifest = testbed.folder / "sealed" / "manifest.json"
    data = bytearray(shard.read_bytes())
    match defect:
        case "flip":
            data[1_500_000] ^= 1
            shard.write_bytes(data)
        case "cut":
            shard.write_bytes(data[:-1])
        case "gone":
            shard.unlink()
        case "extra":
            (shard.parent / "model.safetensors").write_bytes(b"oops")
        case "no_manifest":
            manifest.unlink()
        case "manifest_text":
            manifest.write_bytes(manifest.read_bytes() + b"\n")
    words = [testbed.path(w) if w.endswith((".pub", ".key")) else w for w in more]
    status, body, _ = call(["verify", testbed.path("sealed"), *words, "--json"])
    assert status == exit_status
    assert body["ok"] is False
    assert body["error"]["code"] == code
    status, text, err = call(["verify", testbed.path("sealed"), *words])
    assert status == exit_status
    assert text == ""
    assert f"[{code}]" in err
    assert "Traceback" not in err


def test_verify_missing_directory(
    testbed: SealTestbed, call: Callable[[list[str]], Outcome]
) -> None:
    status, body, _ = call(["verify", testbed.path("nothing"), "--json"])
    assert (status, body["error"]["code"]) == (9, "FILE_MISSING")


def test_unsigned(testbed: SealTestbed, call: Callable[[list[str]], Outcome]) -> None:
    for words in ([], ["--signer", testbed.path("owner.pub")]):
        status, body, _ = call(["verify", testbed.path("unsigned"), *words, "--json"])
        assert (status, body["error"]["code"]) == (4, "UNSIGNED")
    status, body, err = call([*testbed.open("unsigned", "out", "--yes", "--json")])
    assert (status, body["error"]["code"]) == (4, "UNSIGNED")
    status, body, err = call(
        [*testbed.open("unsigned", "out", "--yes", "--dangerous-unsigned", "--json")]
    )
    assert status == 0
    assert body["signer"] is None
    assert "DANGEROUS" in err


def test_seal_warns_when_unsigned(
    testbed: SealTestbed, call: Callable[[list[str]], Outcome]
) -> None:
    status, text, err = call(testbed.seal("again"))
    assert status == 0
    assert "UNSIGNED" in err
    assert "nobody" in text
    assert "DEVELOPMENT" in err.upper()


def test_seal_and_open(testbed: SealTestbed, call: Callable[[list[str]], Outcome]) -> None:
    sign = ["--sign", testbed.path("owner.key")]
    status, body, _ = call([*testbed.seal("new", *sign, "--json")])
    assert status == 0
    assert body["ok"] is True
    assert body["files_sealed"] == 2
    assert body["version"] == 4
    named = ["--signer", testbed.path("owner.pub"), "--minimum-version", "4"]
    status, text, err = call([*testbed.open("new", "out", "--yes", *named)])
    assert status == 0
    assert "in clear" in err
    assert "a key that you named" in text
    out, model = testbed.folder / "out", testbed.folder / "model"
    assert (out / "config.json").read_bytes() == (model / "config.json").read_bytes()
    assert (out / "sub/weights.bin").read_bytes() == (model / "sub/weights.bin").read_bytes()
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert stat.S_IMODE((out / "sub").stat().st_mode) == 0o700
    assert stat.S_IMODE((out / "config.json").stat().st_mode) == 0o600


def test_encrypted_signing_key(testbed: SealTestbed, call: Callable[[list[str]], Outcome]) -> None:
    with SecretBytes(bytearray(b"sesame")) as secret:
        pem = SigningKey.generate_p384().to_pem(secret)
    for name, data in (("p384.key", pem), ("good", b"sesame"), ("bad", b"wrong")):
        (testbed.folder / name).touch(mode=0o600)
        (testbed.folder / name).write_bytes(data)
    sign = ["--sign", testbed.path("p384.key"), "--sign-passphrase-file"]
    status, body, _ = call([*testbed.seal("one", *sign, testbed.path("bad"), "--json")])
    assert (status, body["error"]["code"]) == (7, "SIGNING_KEY_UNUSABLE")
    status, _, _ = call([*testbed.seal("one", *sign, testbed.path("good"), "--json")])
    assert status == 0
    status, _, _ = call(["verify", testbed.path("one")])
    assert status == 0


@pytest.mark.parametrize(
    ("change", "code", "exit_status"),
    [
        ({"--key": "dev-file:{keys.json}#nothing"}, "KEK_UNKNOWN", 7),
        ({"--key": "dev-file:{nothing}#crown"}, "FILE_MISSING", 9),
        ({"--key": "crown"}, "KEY_REFERENCE_MALFORMED", 2),
        ({"--key": "punched-cards:box#crown"}, "PLUGIN_UNKNOWN", 2),
        ({"--sign": "{passphrase}"}, "SIGNING_KEY_UNUSABLE", 7),
        ({"--sign": "{owner.pub}"}, "INSECURE_MODE", 9),
        ({"--passphrase-file": "{owner.key}"}, "KEY_STORE_LOCKED", 7),
        ({"--passphrase-file": "{nothing}"}, "FILE_MISSING", 9),
        ({"--version": "0"}, "BAD_USAGE", 2),
        ({"--version": "one"}, "BAD_USAGE", 2),
        ({"--out": "{model}/sealed"}, "OUTPUT_INSIDE_MODEL", 9),
        ({"--out": "{sealed}"}, "FILE_EXISTS", 9),
        ({"--out": "{nothing}/sealed"}, "FILE_MISSING", 9),
    ],
    ids=str,
)
def test_seal_refuses(
    testbed: SealTestbed,
    call: Callable[[list[str]], Outcome],
    change: dict[str, str],
    code: str,
    exit_status: int,
) -> None:
    args = [*testbed.seal("new", "--sign", testbed.path("owner.key")), "--json"]
    for option, value in change.items():
        head, brace, tail = value.partition("{")
        name, _, rest = tail.partition("}")
        args[args.index(option) + 1] = head + testbed.path(name) + rest if brace else value
    before = sorted(path.name for path in testbed.folder.iterdir())
    status, body, err = call(args)
    assert (status, body["error"]["code"]) == (exit_status, code)
    assert "Traceback" not in err
    assert sorted(path.name for path in testbed.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "code", "exit_status"),
    [
        (["--yes", "--signer", "mallory.pub"], "SIGNER_UNKNOWN", 4),
        (["--yes", "--minimum-version", "5"], "VERSION_ROLLBACK", 4),
        (["--yes", "--key", "#other"], "KEK_MISMATCH", 7),
        ([], "BAD_USAGE", 2),  # no terminal to ask
        (["--yes", "--dangerous-unsigned", "--signer", "any"], "BAD_USAGE", 2),
        (["--yes", "--out", "sealed"], "FILE_EXISTS", 9),
    ],
    ids=str,
)
def test_open_refuses(
    testbed: SealTestbed,
    call: Callable[[list[str]], Outcome],
    more: list[str],
    code: str,
    exit_status: int,
) -> None:
    words = [testbed.path(w) if w in {"mallory.pub", "sealed"} else w for w in more]
    words = [testbed.key.replace("#crown", w) if w.startswith("#") else w for w in words]
    before = sorted(path.name for path in testbed.folder.iterdir())
    status, body, _ = call([*testbed.open("sealed", "out", *words), "--json"])
    assert (status, body["error"]["code"]) == (exit_status, code)
    assert sorted(path.name for path in testbed.folder.iterdir()) == before


def test_open_needs_the_key(testbed: SealTestbed, call: Callable[[list[str]], Outcome]) -> None:
    args = ["open", testbed.path("sealed"), "--out", testbed.path("out"), "--yes", "--json"]
    status, body, _ = call(args)
    assert (status, body["error"]["code"]) == (2, "BAD_USAGE")


def test_wrapped_key_of_another_sealing(
    testbed: SealTestbed, call: Callable[[list[str]], Outcome]
) -> None:
    """The wrapping is bound to model id, version and seal id."""

    def read(name: str) -> Manifest:
        data = (testbed.folder / name / "manifest.json").read_bytes()
        return parse_manifest(parse_envelope(data, what="test").unverified_payload)

    mixed = replace(read("sealed"), wrapped_key=read("unsigned").wrapped_key)
    key = SigningKey.from_pem((testbed.folder / "owner.key").read_bytes(), None)
    data = sign(PAYLOAD_TYPE, mixed.encode(), (key,)).encode()
    (testbed.folder / "sealed" / "manifest.json").write_bytes(data)
    status, body, _ = call([*testbed.open("sealed", "out", "--yes", "--json")])
    assert (status, body["error"]["code"]) == (7, "KEY_UNWRAP_FAILED")


def test_an_interrupted_run_is_continued(
    testbed: SealTestbed, call: Callable[[list[str]], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default shard has 4 GiB; here they are small, and the third one cannot be written."""
    small = functools.partial(SealOptions, stride=64 * 1024, shard_chunks=4)
    monkeypatch.setattr("regalia.seal.writer.SealOptions", small)
    real, sealed = SealedOutput.write, testbed.seal("new", "--sign", testbed.path("owner.key"))

    def write(output: SealedOutput, chunk: Chunk, data: memoryview) -> None:
        if "shard-00002" in str(output._path):
            time.sleep(0.3)  # the shards before are whole by now
            raise LocalError(CoreCode.DISK_FULL, "for this test")
        real(output, chunk, data)

    with monkeypatch.context() as patch:
        patch.setattr(SealedOutput, "write", write)
        status, _, err = call(sealed)
    assert status == LocalError.exit_status
    assert "2 shards kept in .new.regalia-" in err
    assert "--restart" in err
    status, _, err = call([*sealed, "--version", "9"])
    assert "SEALING_UNFINISHED" in err
    status, body, err = call([*sealed, "--json"])
    assert status == 0
    assert body["continued_shards"] == 2
    assert "continued an interrupted run, which had sealed 2 shards" in err
    assert call(["verify", testbed.path("new"), "--signer", testbed.path("owner.pub")])[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_from_outside(testbed: SealTestbed, number: signal.Signals) -> None:
    """Ctrl-C and a service manager's stop leave nothing behind, and end with status 130."""
    big = testbed.folder / "big"
    big.mkdir()
    with (big / "w").open("wb") as file:
        file.truncate(3 << 30)
    args = testbed.seal("new", "--sign", testbed.path("owner.key"))
    args[1] = str(big)
    with subprocess.Popen(
        [sys.executable, "-m", "regalia", *args], stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 20
        while not list(testbed.folder.glob(".new.regalia-*/sealed/shard-*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not list(testbed.folder.glob(".new.*"))
    assert not (testbed.folder / "new").exists()
