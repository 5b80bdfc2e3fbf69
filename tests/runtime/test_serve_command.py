"""``regalia serve`` and ``regalia store serve`` as a shell sees them: codes, statuses, signals."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from regalia.cli.main import run
from regalia.core.types import Digest
from regalia.wire.evidence import parse_evidence
from regalia.wire.runtime_config import FORMAT, Placement, RuntimeConfig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.harness import Shared

MODEL = "model:" + "ab" * 32


def configure(folder: Path, shared: Shared, **changes: str) -> Path:
    measured = RuntimeConfig(
        format=FORMAT,
        model_id=MODEL,
        owner_key=str(shared.owner.verify_key.fingerprint),
        log_key=shared.log_key,
        placement=Placement(region="eu", site="one", tier="own"),
        egress=[],
    )
    (folder / "measured.json").write_bytes(measured.encode())
    lines = {
        "store": '"sealed"',
        "broker": '"http://127.0.0.1:9"',
        "measured_config": '"measured.json"',
        "listen": '"127.0.0.1:0"',
        "dangerous_simulated_tee": "true",
    } | changes
    text = "\n".join(f"{name} = {value}" for name, value in lines.items())
    platform = json.dumps(str(shared.platform.directory))
    source = f'\n[evidence]\nsource = "simulated-snp"\noptions = {{ platform = {platform} }}\n'
    path = folder / "runtime.toml"
    path.write_text(text + source)
    return path


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    """Run in this process; return the exit status and the code."""
    status = run([*(str(item) for item in args), "--json"])
    body = json.loads(capsys.readouterr().out)
    assert body["ok"] is False
    assert set(body["error"]) == {"code", "what", "why", "fix"}
    return status, body["error"]["code"]


def test_settings_that_are_missing_or_wrong(
    tmp_path: Path, shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "serve", "--config", tmp_path / "absent.toml") == (9, "FILE_MISSING")
    path = configure(tmp_path, shared, memory='"soft"')
    assert refused(capsys, "serve", "--config", path) == (2, "BAD_CONFIG")
    path = configure(tmp_path, shared)
    assert refused(capsys, "serve", "--config", path, "--listen", "here") == (2, "BAD_USAGE")


def test_a_port_in_use_is_refused_first(
    tmp_path: Path, shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        path = configure(tmp_path, shared)
        got = refused(capsys, "serve", "--config", path, "--listen", listen)
        assert got == (8, "PORT_IN_USE")
        sealed = tmp_path / "sealed"
        sealed.mkdir()
        (sealed / "manifest.json").write_bytes(b"{}")
        assert refused(capsys, "store", "serve", sealed, "--listen", listen) == (8, "PORT_IN_USE")
        assert refused(capsys, "store", "serve", tmp_path / "no")[1] == "NOT_A_DIRECTORY"


def test_messages_for_people(
    tmp_path: Path, shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configure(tmp_path, shared, memory='"soft"')
    assert run(["serve", "--config", str(path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("refused [BAD_CONFIG]")
    assert "Why it matters: " in shown.err
    assert "What to do: " in shown.err


def test_evidence_for_pinning(
    tmp_path: Path, shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = configure(tmp_path, shared), tmp_path / "evidence.json"
    args = ["serve", "--config", str(path), "--evidence-only", str(out)]
    assert run([*args, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    encoded = out.read_bytes()
    evidence = parse_evidence(encoded)
    assert facts["digest"] == str(Digest.of(encoded))
    assert (facts["model_id"], facts["simulated_tee"]) == (MODEL, True)
    assert evidence.runtime_config == (tmp_path / "measured.json").read_bytes()
    assert evidence.report[0x50:0x90].hex() == facts["report_data"], "SNP ABI, REPORT_DATA"
    host_data = evidence.report[0xC0:0xE0]
    assert host_data == hashlib.sha256(evidence.runtime_config).digest()
    assert refused(capsys, *args) == (9, "FILE_EXISTS")


def test_evidence_needs_the_dangerous_switch(
    tmp_path: Path, shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = configure(tmp_path, shared, dangerous_simulated_tee="false"), tmp_path / "e.json"
    got = refused(capsys, "serve", "--config", path, "--evidence-only", out)
    assert got == (2, "DANGEROUS_NOT_ALLOWED")
    assert not out.exists()


def test_unknown_evidence_source(
    tmp_path: Path, shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configure(tmp_path, shared)
    path.write_text(path.read_text().replace("simulated-snp", "tea-leaves"))
    got = refused(capsys, "serve", "--config", path, "--evidence-only", tmp_path / "e.json")
    assert got == (2, "PLUGIN_UNKNOWN")


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "regalia", *(str(item) for item in args)]


def spawn(*args: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own: hardening does not go away."""
    return subprocess.run(command(*args), capture_output=True, text=True, check=False, timeout=60)


def test_a_store_without_the_model(tmp_path: Path, shared: Shared) -> None:
    path = configure(tmp_path, shared)
    done = spawn("serve", "--config", path, "--json")
    assert done.returncode == 9
    assert json.loads(done.stdout)["error"]["code"] == "FILE_MISSING"
    assert "Traceback" not in done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    names = [event["event"] for event in events]
    assert names[0] == "dangerous.setting"
    assert names.count("runtime.hardening") == 8
    assert names[-1] == "service.stopped"
    assert "SIMULATED TEE" in done.stderr


@pytest.mark.slow
def test_a_store_that_nobody_serves(tmp_path: Path, shared: Shared) -> None:
    path = configure(tmp_path, shared, store='"http://127.0.0.1:9/"')
    done = spawn("serve", "--config", path)
    assert done.returncode == 8
    assert "refused [PEER_UNREACHABLE]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_store(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"{}")
    args = command("store", "serve", tmp_path, "--listen", "127.0.0.1:0", "--json")
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as store:
        assert store.stdout is not None
        facts: Any = json.loads(store.stdout.readline())
        url = f"http://{facts['serving']['listen']}/manifest.json"
        with httpx.Client(trust_env=False) as http:
            assert http.get(url).content == b"{}"
        store.send_signal(number)
        assert store.wait(10) == 0


def test_a_signal_during_the_start_interrupts(tmp_path: Path, shared: Shared) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers
    with silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        path = configure(tmp_path, shared, store=f'"{address}"')
        args = command("serve", "--config", path)
        with subprocess.Popen(args, stderr=subprocess.PIPE, text=True) as runtime:
            silent.settimeout(30)
            connection, _ = silent.accept()
            time.sleep(0.1)
            runtime.send_signal(signal.SIGTERM)
            _, shown = runtime.communicate(timeout=20)
            connection.close()
    assert runtime.returncode == 130
    assert "interrupted" in shown
    assert "Traceback" not in shown
