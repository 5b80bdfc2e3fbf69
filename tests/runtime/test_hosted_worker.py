"""The worker's side: a process that opens the model, and ends with its lease and its runtime."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.crypto.sign import SigningKey
from regalia.runtime.hosted.frames import KEY_SIZE, Failed, Hello, Hold, Loaded, receive, send
from regalia.runtime.startup import fetch_manifest
from regalia.seal.format.sealed import WrappedKey
from regalia.seal.writer import SealOptions, seal_model
from regalia.store.locate import open_store
from tests.runtime.hosted_frames import GRANT, framed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.core.secret import SecretBytes


Sealed = tuple[bytes, dict[str, str]]  # a key, and what a grant says of what it opens


def seal(folder: Path, text: str) -> Sealed:
    """A sealed model of one file."""
    (folder / "plain").mkdir()
    (folder / "plain" / "config.json").write_text(text)
    owner = SigningKey.generate_ed25519()
    kept: list[bytes] = []

    def wrap(key: SecretBytes, _: bytes) -> WrappedKey:
        kept.append(bytes(key.view()))
        return WrappedKey(kek="k", algorithm="test", blob=b"x" * 40)

    written = seal_model(
        folder / "plain",
        folder / "out",
        SealOptions(version=1, stride=64 * 1024),
        wrap=wrap,
        signing_key=owner,
        progress=lambda _done, _total: None,
    )
    fingerprint = str(owner.verify_key.fingerprint)
    manifest = fetch_manifest(
        open_store(str(folder / "out"), folder),
        owner_key=fingerprint,
        model_id=str(written.manifest.model_id),
    )
    return kept[0], {
        "store": str(folder / "out"),
        "folder": "/",
        "owner_key": fingerprint,
        "model_id": str(manifest.content.model_id),
        "manifest": str(manifest.digest),
    }


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return seal(tmp_path_factory.mktemp("sealed"), '{"a": 1}')


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """Stands for an adapter: another sealed folder, under another key."""
    return seal(tmp_path_factory.mktemp("other"), '{"b": 2}')


WORKER = """
import sys, time
from regalia.core.errors import RegaliaError
from regalia.core.weights import FilePart
from regalia.runtime.hosted import worker
worker.HELLO_S = 2.0
try:
    weights = worker.open_weights(sys.argv[1], 0, 1)
except (RegaliaError, OSError) as exc:
    print("refused", getattr(exc, "code", None), flush=True)
    sys.exit(3)
out = bytearray(8)
for reader in filter(None, (weights.files, weights.adapter)):
    reader.read([FilePart("config.json", 0, memoryview(out))])
    print("opened", out.decode(), flush=True)
weights.loaded(1, 8, 8)
time.sleep(600)
"""


@contextmanager
def worker(path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def listening(path: Path, answer: bytes) -> Iterator[list[socket.socket]]:
    """A runtime that answers the first worker with these bytes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    connections: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            connections.append(connection)
            assert receive(connection) == Hello(0, 1)
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield connections
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            connection.close()


def granted(facts: dict[str, str], **changes: Any) -> bytes:  # noqa: ANN401
    grant = msgspec.structs.replace(GRANT, **facts, **changes)
    return framed(msgspec.json.encode(grant))


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_worker_opens_the_model_and_ends_with_its_runtime(tmp_path: Path, sealed: Sealed) -> None:
    key, facts = sealed
    path = tmp_path / "channel"
    with listening(path, granted(facts) + key) as runtimes, worker(path) as process:
        assert first_line(process) == 'opened {"a": 1}'
        assert isinstance(receive(runtimes[0]), Loaded)
        runtimes[0].close()
        assert process.wait(5) == 15


def test_a_worker_ends_with_its_lease(tmp_path: Path, sealed: Sealed) -> None:
    key, facts = sealed
    path = tmp_path / "channel"
    with listening(path, granted(facts, left_s=1.0) + key) as runtimes, worker(path) as process:
        assert first_line(process).startswith("opened")
        send(runtimes[0], Hold(2.0))
        began = time.monotonic()
        assert process.wait(10) == 14
        assert 2.0 < time.monotonic() - began < 6.0


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", framed(b"{}"), framed(b"x")])
def test_a_worker_whose_runtime_talks_nonsense_ends(
    tmp_path: Path,
    sealed: Sealed,
    garbage: bytes,
) -> None:
    key, facts = sealed
    path = tmp_path / "channel"
    with listening(path, granted(facts) + key) as runtimes, worker(path) as process:
        assert first_line(process).startswith("opened")
        runtimes[0].sendall(garbage)
        assert process.wait(5) == 15


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("another manifest", "SERVED_MODEL_MISMATCH"),
        ("another owner", "SIGNER_UNKNOWN"),
        ("another model", "SERVED_MODEL_MISMATCH"),
        ("another key", "WRONG_MODEL_KEY"),
        ("no store", "FILE_MISSING"),
    ],
)
def test_a_worker_opens_no_other_model_than_its_runtime(
    tmp_path: Path,
    sealed: Sealed,
    what: str,
    code: str,
) -> None:
    key, facts = sealed
    changed = {
        "another manifest": {"manifest": "sha256:" + "0" * 64},
        "another owner": {"owner_key": "key:" + "0" * 64},
        "another model": {"model_id": "model:" + "0" * 64},
        "no store": {"store": "/nonexistent"},
    }.get(what, {})
    used = bytes(KEY_SIZE) if what == "another key" else key
    path = tmp_path / "channel"
    with listening(path, granted(facts | changed) + used) as runtimes, worker(path) as process:
        line = first_line(process)
        assert line.startswith("refused"), line
        told = receive(runtimes[0])
        assert isinstance(told, Failed)
        assert told.code in line
        assert told.code == code
        assert used.hex() not in told.what
        assert process.wait(5) == 3


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00", framed(b"{}"), framed(msgspec.json.encode(Hold(1.0))), "half a key", "no key"],
)
def test_a_worker_without_a_grant_opens_nothing(
    tmp_path: Path,
    sealed: Sealed,
    answer: bytes | str,
) -> None:
    key, facts = sealed
    ends = {"half a key": granted(facts) + key[:16], "no key": granted(facts)}
    path = tmp_path / "channel"
    sent = ends[answer] if isinstance(answer, str) else answer
    with listening(path, sent) as runtimes, worker(path) as process:
        while not runtimes:
            time.sleep(0.01)
        time.sleep(0.1)
        runtimes[0].shutdown(socket.SHUT_WR)
        assert first_line(process).startswith("refused")
        assert process.wait(5) == 3


@pytest.mark.parametrize("answer", [b"", b"\x00\x00", "a grant and half a key"])
def test_a_worker_waits_for_a_silent_runtime_for_a_while(
    tmp_path: Path,
    sealed: Sealed,
    answer: bytes | str,
) -> None:
    key, facts = sealed
    path = tmp_path / "channel"
    sent = granted(facts) + key[:16] if isinstance(answer, str) else answer
    with listening(path, sent), worker(path) as process:
        assert first_line(process).startswith("refused")
        assert process.wait(5) == 3


def test_a_worker_without_a_runtime_opens_nothing(tmp_path: Path) -> None:
    with worker(tmp_path / "nowhere") as process:
        assert first_line(process).startswith("refused")
        assert process.wait(5) == 3


# With an adapter ----------------------------------------------------------------------------------


def test_a_worker_opens_model_and_adapter(tmp_path: Path, sealed: Sealed, other: Sealed) -> None:
    (key, facts), (second, of_other) = sealed, other
    path = tmp_path / "channel"
    sent = granted(facts, adapter_follows=True) + key + granted(of_other) + second
    with listening(path, sent) as runtimes, worker(path) as process:
        assert first_line(process) == 'opened {"a": 1}'
        assert first_line(process) == 'opened {"b": 2}'
        assert isinstance(receive(runtimes[0]), Loaded)
        runtimes[0].close()
        assert process.wait(5) == 15


@pytest.mark.parametrize("shorter", ["the model's", "the adapter's"])
def test_a_worker_ends_with_the_first_of_two_leases(
    tmp_path: Path, sealed: Sealed, other: Sealed, shorter: str
) -> None:
    (key, facts), (second, of_other) = sealed, other
    left = (1.0, 60.0) if shorter == "the model's" else (60.0, 1.0)
    path = tmp_path / "channel"
    sent = granted(facts, adapter_follows=True, left_s=left[0]) + key
    sent += granted(of_other, left_s=left[1]) + second
    with listening(path, sent), worker(path) as process:
        assert first_line(process).startswith("opened")
        assert process.wait(10) == 14


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("another manifest", "SERVED_MODEL_MISMATCH"),
        ("another owner", "SIGNER_UNKNOWN"),
        ("the model's key", "WRONG_MODEL_KEY"),
        ("no store", "FILE_MISSING"),
    ],
)
def test_a_worker_opens_no_other_adapter_than_its_runtime(
    tmp_path: Path, sealed: Sealed, other: Sealed, what: str, code: str
) -> None:
    (key, facts), (second, of_other) = sealed, other
    changed = {
        "another manifest": {"manifest": facts["manifest"]},
        "another owner": {"owner_key": facts["owner_key"]},
        "no store": {"store": "/nonexistent"},
    }.get(what, {})
    used = key if what == "the model's key" else second
    path = tmp_path / "channel"
    sent = granted(facts, adapter_follows=True) + key + granted(of_other | changed) + used
    with listening(path, sent) as runtimes, worker(path) as process:
        assert first_line(process).startswith("refused")
        told = receive(runtimes[0])
        assert isinstance(told, Failed)
        assert told.code == code
        assert process.wait(5) == 3


@pytest.mark.parametrize("second", ["nothing", "half a grant", "no key", "a third", "a lease"])
def test_a_worker_whose_adapter_does_not_come_opens_nothing(
    tmp_path: Path, sealed: Sealed, other: Sealed, second: str
) -> None:
    (key, facts), (of_key, of_other) = sealed, other
    follows = {
        "nothing": b"",
        "half a grant": granted(of_other)[:20],
        "no key": granted(of_other),
        "a third": granted(of_other, adapter_follows=True) + of_key,
        "a lease": framed(msgspec.json.encode(Hold(9.0))),
    }[second]
    path = tmp_path / "channel"
    sent = granted(facts, adapter_follows=True) + key + follows
    with listening(path, sent), worker(path) as process:
        assert first_line(process).startswith("refused")
        assert process.wait(5) == 3
