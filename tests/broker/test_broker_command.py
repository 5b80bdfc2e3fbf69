"""``regalia broker`` as its operator runs it: a real process, real sockets on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.cli.main import run
from regalia.core.codec import canonical_json
from regalia.crypto.sign import SigningKey
from regalia.keys.devfile_format import FileKeys
from regalia.policy.documents import Approvals
from regalia.wire.release import ChallengeResponse, ReleaseResponse
from tests.broker.harness import MODEL_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.broker.harness import Deployment


@contextmanager
def serving(config: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [str(Path(sys.executable).with_name("regalia")), "broker", "serve"]
    with (config.parent / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--config", str(config), "--json", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (config.parent / "stderr").read_text()
        yield process, json.loads(line)["serving"]
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def post(facts: dict[str, Any], path: str, message: object) -> bytes:
    request = urllib.request.Request(
        f"http://{facts['listen']}{path}", data=canonical_json(message), method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        data: bytes = answer.read()
        return data


def test_serve_release_and_stop(deployment: Deployment, tmp_path: Path) -> None:
    config = deployment.write_config(tmp_path / "broker")
    with serving(config) as (process, facts):
        assert facts["log_key"] == deployment.shared.log_key
        assert facts["models"] == [str(deployment.model_id)]
        status = Path(f"/proc/{process.pid}/limits").read_text()
        assert "Max core file size        0                    0" in status
        challenge = post(facts, "/v1/challenge", {"model_id": str(deployment.model_id)})
        asked = msgspec.json.decode(challenge, type=ChallengeResponse)
        answer = post(facts, "/v1/release", deployment.request(asked))
        response = msgspec.json.decode(answer, type=ReleaseResponse)
        assert response.lease_s == 600
        assert (
            run(
                [
                    "log",
                    "verify",
                    "--url",
                    f"http://{facts['listen']}",
                    "--log-key",
                    deployment.shared.log_key,
                ]
            )
            == 0
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    log = (config.parent / "stderr").read_text()
    assert "DANGEROUS: attest.dangerous_simulated_anchor is set" in log
    assert "DEVELOPMENT KEY STORE" in log
    assert "DANGEROUS: policy 'test' releases to simulated hardware" in log
    events = [json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")]
    assert events.count("dangerous.setting") == 4
    assert [events[4], events[-1]] == ["service.started", "service.stopped"]
    assert "broker.release.granted" in events
    assert "Traceback" not in log
    # What it leaves on disk holds neither the model key nor the passphrase it was given.
    for path in config.parent.iterdir():
        assert MODEL_KEY not in path.read_bytes()
        if path.name != "passphrase":
            assert deployment.shared.passphrase not in path.read_bytes()


def test_the_log_goes_on_after_a_restart_of_the_process(
    deployment: Deployment, tmp_path: Path
) -> None:
    config = deployment.write_config(tmp_path / "broker")
    for size in (0, 1):
        with serving(config) as (process, facts):
            with urllib.request.urlopen(f"http://{facts['listen']}/health", timeout=10) as answer:
                assert json.load(answer)["log_size"] == size
            challenge = post(facts, "/v1/challenge", {"model_id": str(deployment.model_id)})
            asked = msgspec.json.decode(challenge, type=ChallengeResponse)
            post(facts, "/v1/release", deployment.request(asked))
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0


def refused(capsys: pytest.CaptureFixture[str], args: list[str], status: int, code: str) -> str:
    assert run([*args, "--json"]) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    body = json.loads(captured.out)
    assert body["error"]["code"] == code, captured
    return str(body["error"]["what"])


@pytest.fixture
def unhardened(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests run the command in this process, which must stay as it is."""
    monkeypatch.setattr("regalia.broker.hardening.harden", lambda: ())


@pytest.mark.usefixtures("unhardened")
def test_port_in_use(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deployment.write_config(tmp_path / "broker")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        args = ["broker", "serve", "--config", str(config), "--listen", address]
        refused(capsys, args, 8, "PORT_IN_USE")
    assert not (config.parent / "log.db").exists()  # nothing was touched


BAD: list[tuple[str, dict[str, str], int, str]] = [
    ("unknown setting", {"dangerous_everything": "true"}, 2, "BAD_CONFIG"),
    ("wrong type", {"listen": "8441"}, 2, "BAD_CONFIG"),
    ("no origin", {"log.origin": ""}, 2, "BAD_CONFIG"),
    ("bad origin", {"log.origin": '"a b"'}, 10, "LOG_KEY_MALFORMED"),
    ("another log", {"log.origin": '"other.example"'}, 4, "POLICY_OTHER_LOG"),
    ("no log key", {"log.key": '"none.key"'}, 9, "FILE_MISSING"),
    ("log key is none", {"log.key": '"passphrase"'}, 7, "SIGNING_KEY_UNUSABLE"),
    ("no key store", {"keys.store": '"dev-file:none.json"'}, 9, "FILE_MISSING"),
    ("no such key store", {"keys.store": '"punched-cards:x"'}, 2, "PLUGIN_UNKNOWN"),
    ("no such token", {"keys.store": '"pkcs11:x"'}, 2, "TOKEN_URI_MALFORMED"),
    ("key store without scheme", {"keys.store": '"keys.json"'}, 2, "BAD_CONFIG"),
    ("no passphrase", {"keys.passphrase_file": ""}, 2, "PASSPHRASE_NEEDED"),
    ("wrong passphrase", {"keys.passphrase_file": '"log.key"'}, 7, "KEY_STORE_LOCKED"),
    ("no collateral", {"attest.collateral": '"none"'}, 9, "FILE_MISSING"),
    ("anchor is none", {"attest.dangerous_simulated_anchor": '"owner.pub"'}, 3, "MALFORMED"),
    ("zero ttl", {"limits.challenge_ttl_s": "0"}, 2, "BAD_CONFIG"),
    ("endless ttl", {"limits.challenge_ttl_s": "3601"}, 2, "BAD_CONFIG"),
    ("no refusals", {"limits.peer_refusals": "0"}, 2, "BAD_CONFIG"),
    ("no requests", {"limits.peer_requests": "0"}, 2, "BAD_CONFIG"),
    ("no denials", {"limits.denials_logged": "0"}, 2, "BAD_CONFIG"),
    ("a million threads", {"limits.concurrent": "1000000"}, 2, "BAD_CONFIG"),
    ("a million wait", {"limits.waiting": "1000000"}, 2, "BAD_CONFIG"),
    ("less than one body", {"limits.body_mib": "7"}, 2, "BAD_CONFIG"),
    ("a day for a body", {"limits.body_timeout_s": "86400"}, 2, "BAD_CONFIG"),
    ("port is none", {"state.database": '"postgresql://host:port/db"'}, 2, "BAD_CONFIG"),
    ("log cannot be written", {"log.database": '"sqlite:///none/log.db"'}, 10, "LOG_UNWRITABLE"),
    ("state cannot", {"state.database": '"sqlite:///none/s.db"'}, 8, "STATE_UNAVAILABLE"),
    ("no database", {"state.database": '"nonsense"'}, 2, "BAD_CONFIG"),
    ("no log database", {"log.database": '"nonsense"'}, 2, "BAD_CONFIG"),
    ("bad option", {"state.database": '"sqlite:///s.db?timeout=x"'}, 2, "BAD_CONFIG"),
    ("no address", {"listen": '"localhost"'}, 2, "BAD_USAGE"),
]
# The key store is open by the time that these fail.
AFTER_THE_STORE = {"log cannot be written", "state cannot", "no log database", "another log"}


@pytest.mark.usefixtures("unhardened")
@pytest.mark.parametrize(
    ("changes", "status", "code"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_configurations_that_do_not_work(  # noqa: PLR0917
    deployment: Deployment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    status: int,
    code: str,
) -> None:
    config = deployment.write_config(tmp_path / "broker", **changes)
    refused(capsys, ["broker", "serve", "--config", str(config)], status, code)


@pytest.mark.usefixtures("unhardened")
@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [case[1:] for case in BAD if case[0] in AFTER_THE_STORE],
    ids=[case[0] for case in BAD if case[0] in AFTER_THE_STORE],
)
def test_a_start_that_fails_closes_the_key_store(  # noqa: PLR0917
    deployment: Deployment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    status: int,
    code: str,
) -> None:
    closed: list[FileKeys] = []

    def close(keys: FileKeys) -> None:
        closed.append(keys)

    monkeypatch.setattr(FileKeys, "close", close)
    config = deployment.write_config(tmp_path / "broker", **changes)
    refused(capsys, ["broker", "serve", "--config", str(config)], status, code)
    assert len(closed) == 1


def test_thresholds_that_nobody_can_reach(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deployment.write_config(tmp_path / "broker")
    text = config.read_text()
    for threshold in ("0", "2"):
        config.write_text(f"{text}owner_threshold = {threshold}\n")
        what = refused(capsys, ["broker", "check", "--config", str(config)], 2, "BAD_CONFIG")
        assert f"models[0].owner_threshold ({threshold} of 1 keys)" in what


@pytest.mark.usefixtures("unhardened")
def test_files_that_do_not_work(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deployment.write_config(tmp_path / "broker")
    args = ["broker", "serve", "--config", str(config)]
    policy = (config.parent / "policy.json").read_bytes()
    for data, status, code in (
        (b"{}", 3, "MALFORMED"),
        (policy.replace(b"payload", b"pAyload"), 3, "MALFORMED"),
        ((config.parent / "manifest.json").read_bytes(), 4, "WRONG_PAYLOAD_TYPE"),
    ):
        (config.parent / "policy.json").write_bytes(data)
        refused(capsys, args, status, code)
    (config.parent / "policy.json").write_bytes(policy)
    (config.parent / "keys.json").chmod(0o644)
    refused(capsys, args, 9, "INSECURE_MODE")
    (config.parent / "passphrase").write_bytes(b"wrong")
    (config.parent / "keys.json").chmod(0o600)
    refused(capsys, args, 7, "KEY_STORE_LOCKED")
    refused(capsys, ["broker", "serve", "--config", str(tmp_path / "no")], 9, "FILE_MISSING")


def test_an_encrypted_log_key(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from regalia.core.secret import SecretBytes  # noqa: PLC0415

    config = deployment.write_config(tmp_path / "broker", **{"log.passphrase_file": '"passphrase"'})
    with SecretBytes(bytearray(deployment.shared.passphrase)) as secret:
        (config.parent / "log.key").write_bytes(deployment.shared.log_signer.to_pem(secret))
    assert run(["broker", "check", "--config", str(config), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["log_key"] == deployment.shared.log_key
    assert "signing key is not encrypted" not in captured.err


def test_check_changes_nothing(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deployment.write_config(tmp_path / "broker")
    before = sorted(path.name for path in config.parent.iterdir())
    assert run(["broker", "check", "--config", str(config)]) == 0
    captured = capsys.readouterr()
    assert "DEVELOPMENT KEY STORE" in captured.err
    assert "The log's signing key is not encrypted" in captured.err
    assert str(deployment.policy.policy_id()) in captured.out
    assert sorted(path.name for path in config.parent.iterdir()) == before


def test_approve_and_use_it(
    make_deployment: Callable[..., Deployment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = SigningKey.generate_p384()
    approvals = Approvals(threshold=1, approvers=[str(alice.verify_key.fingerprint)])
    deployment = make_deployment(policy={"approvals": approvals})
    config = deployment.write_config(tmp_path / "broker")
    folder = config.parent
    (folder / "alice.key").write_bytes(alice.to_pem(None))
    (folder / "alice.key").chmod(0o600)
    (folder / "alice.pub").write_bytes(alice.verify_key.to_pem())
    args = ["broker", "approve", "--policy", str(folder / "policy.json"), "--signer"]
    args += [str(folder / "owner.pub"), "--sign", str(folder / "alice.key")]
    args += ["--not-after", "2099-01-01T00:00:00Z", "--out", str(folder / "approval.json")]
    assert run([*args, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["policy_id"] == str(deployment.policy.policy_id())
    with config.open("a") as file:
        file.write('approvals = ["approval.json"]\napprover_keys = ["alice.pub"]\n')
    assert run(["broker", "check", "--config", str(config), "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["approvers"] == [str(alice.verify_key.fingerprint)]
    refused(capsys, args, 9, "FILE_EXISTS")
    stranger = [str(folder / "owner.pub") if a.endswith("alice.key") else a for a in args[:-1]]
    refused(capsys, [*stranger, str(folder / "b.json")], 9, "INSECURE_MODE")


def test_countersign_a_manifest(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deployment.write_config(tmp_path / "broker")
    folder, alice = config.parent, SigningKey.generate_p384()
    (folder / "alice.key").write_bytes(alice.to_pem(None))
    (folder / "alice.key").chmod(0o600)
    args = ["broker", "countersign", "--manifest", str(folder / "manifest.json"), "--signer"]
    args += [str(folder / "owner.pub"), "--sign", str(folder / "alice.key")]
    args += ["--out", str(folder / "both.json")]
    assert run([*args, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["signer"] == str(alice.verify_key.fingerprint)
    assert (body["model_id"], body["model_version"]) == (str(deployment.model_id), 3)
    signatures = json.loads((folder / "both.json").read_bytes())["signatures"]
    assert len(signatures) == 2
    refused(capsys, args, 9, "FILE_EXISTS")


def test_hardening_holds_in_the_process() -> None:
    script = (
        "import ctypes, resource\n"
        "from regalia.broker.hardening import harden\n"
        "print(harden(), resource.getrlimit(resource.RLIMIT_CORE),"
        " ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "('RLIMIT_CORE 0', 'PR_SET_DUMPABLE 0') (0, 0) 0"


@pytest.mark.slow
@pytest.mark.usefixtures("unhardened")
def test_a_broker_that_was_killed_and_an_older_copy_of_its_state(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real processes, real files: release, copy, release, kill, put the copy back, start."""
    config = deployment.write_config(tmp_path / "broker")
    folder, older = config.parent, tmp_path / "older"
    older.mkdir()

    def release(facts: dict[str, Any]) -> None:
        challenge = post(facts, "/v1/challenge", {"model_id": str(deployment.model_id)})
        asked = msgspec.json.decode(challenge, type=ChallengeResponse)
        post(facts, "/v1/release", deployment.request(asked))

    with serving(config) as (process, facts):
        release(facts)
        for name in ("state.db", "log.db"):
            with (
                closing(sqlite3.connect(folder / name)) as source,
                closing(sqlite3.connect(older / name)) as copy,
            ):
                source.backup(copy)
        release(facts)
        process.kill()
    with serving(config) as (process, facts):  # a kill alone loses nothing
        release(facts)
        process.kill()
    newest = {path.name: path.read_bytes() for path in folder.glob("*.db*")}

    def put_back(names: tuple[str, ...]) -> None:
        for path in folder.glob("*.db*"):
            path.unlink()
        for name, data in newest.items():
            (folder / name).write_bytes(data)
        for name in names:
            for path in folder.glob(f"{name}*"):
                path.unlink()
            shutil.copy2(older / name, folder / name)

    args = ["--config", str(config)]
    for name, status, code, loss in (
        ("state.db", 4, "STATE_BEHIND_LOG", "state"),
        ("log.db", 4, "LOG_BEHIND_STATE", "log"),
    ):
        put_back((name,))
        refused(capsys, ["broker", "serve", *args], status, code)
        other = {"state": "log", "log": "state"}[loss]
        refused(capsys, ["broker", "recover", *args, "--accept", other], status, code)
        assert run(["broker", "recover", *args, "--accept", loss, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["accepted"] == loss
        refused(capsys, ["broker", "recover", *args, "--accept", loss], 2, "NOTHING_TO_RECOVER")
        with serving(config):
            pass
