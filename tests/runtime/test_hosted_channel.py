"""What a runtime and its engine's workers say to each other, with peers that do not keep to it."""

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
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, LocalError, ParseError, RegaliaError, UnavailableError
from regalia.core.secret import SecretBytes
from regalia.crypto.sign import SigningKey
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime.hosted import channel as hosted_channel
from regalia.runtime.hosted.channel import KeyChannel
from regalia.runtime.hosted.frames import (
    FRAME_MAX,
    KEY_SIZE,
    Failed,
    Grant,
    Hello,
    Hold,
    Loaded,
    fill,
    receive,
    send,
)
from regalia.runtime.startup import fetch_manifest
from regalia.seal.format.sealed import WrappedKey
from regalia.seal.writer import SealOptions, seal_model
from regalia.store.locate import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = bytes(range(100, 100 + KEY_SIZE))
GRANT = Grant(
    store="sealed", folder="/", cache="", cache_bytes=0, peers=[], owner_key="key:0",
    model_id="model:0", manifest="x", threads=1, left_s=60.0,
)  # fmt: skip
LOADED = Loaded(tensors=1, size=2, read=3, seconds=0.5)
FRAMES = [Hello(0, 1), GRANT, Hold(1.5), LOADED, Failed("CODE", "what")]


# Frames


def reads(data: bytes, *, open_end: bool = False) -> Any:  # noqa: ANN401
    """What ``receive`` makes of these bytes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0.2)
        ours.sendall(data)
        if not open_end:
            ours.shutdown(socket.SHUT_WR)
        return receive(theirs)


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_arrives_as_it_was_sent(frame: Any) -> None:  # noqa: ANN401
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, frame)
        send(ours, Hold(2.0))
        assert receive(theirs) == frame
        assert receive(theirs) == Hold(2.0)
        ours.close()
        assert receive(theirs) is None


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20])
def test_frames_that_end_too_early(cut: int) -> None:
    whole = framed(msgspec.json.encode(Hello(0, 1)))
    assert cut < len(whole)
    with pytest.raises(UnavailableError):
        reads(whole[:cut])
    with pytest.raises(TimeoutError):
        reads(whole[:cut], open_end=True)


def test_frames_that_are_too_long_are_refused_before_memory_is_taken() -> None:
    for size in (FRAME_MAX + 1, 1 << 31, (1 << 32) - 1):
        with pytest.raises(ParseError) as caught:
            reads(size.to_bytes(4, "big"), open_end=True)
        assert caught.value.code is CoreCode.TOO_LARGE


BAD = {
    "empty": b"",
    "no JSON": b"hello",
    "no UTF-8": b'{"type":"hello","rank":"\xff","workers":1}',
    "a list": b'["hello",0,1]',
    "no tag": b'{"rank":0,"workers":1}',
    "unknown tag": b'{"type":"key","rank":0,"workers":1}',
    "a tag that is no text": b'{"type":5}',
    "a missing member": b'{"type":"hello","rank":0}',
    "another member": b'{"type":"hello","rank":0,"workers":1,"key":"x"}',
    "a number as text": b'{"type":"hello","rank":"0","workers":1}',
    "a number that is true": b'{"type":"hello","rank":true,"workers":1}',
    "no whole number": b'{"type":"hello","rank":0.5,"workers":1}',
    "no number": b'{"type":"hold","left_s":NaN}',
    "no finite number": b'{"type":"hold","left_s":1e999}',
    "two objects": b'{"type":"hold","left_s":1}{"type":"hold","left_s":1}',
    "nested deeply": b'{"type":"hello","rank":' + b"[" * 60_000,
    "nested deeply, in another member": b'{"a":' * 10_000,
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_frames(name: str) -> None:
    with pytest.raises(ParseError) as caught:
        reads(framed(BAD[name]))
    assert caught.value.code is CoreCode.MALFORMED


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_frame_or_an_error(data: bytes, frame: bool) -> None:  # noqa: FBT001
    with suppress(RegaliaError, TimeoutError):
        found = reads(framed(data) if frame else data)
        assert found is None or isinstance(found, tuple(map(type, FRAMES)))


def test_the_key_is_in_no_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, GRANT, memoryview(KEY))
        ours.close()
        data = b"".join(iter(lambda: theirs.recv(1 << 16), b""))
    size = int.from_bytes(data[:4], "big")
    assert data[4 + size :] == KEY
    assert KEY not in data[: 4 + size]
    assert KEY.hex().encode() not in data
    assert "key" not in {name for name in Grant.__struct_fields__ if name != "owner_key"}


# The runtime's side


class Runtime:
    """A channel, and what it has told."""

    def __init__(self, path: Path, workers: int, members: Callable[[int], bool]) -> None:
        self.gone: list[str] = []
        self.key = SecretBytes(bytearray(KEY))
        self.channel = KeyChannel(
            path, workers=workers, is_member=members, on_gone=self.gone.append
        )
        self.path = path

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(5)
        try:
            sock.connect(str(self.path))
        except OSError:
            sock.close()
            raise
        return sock

    def ask(self, hello: Any = Hello(0, 1)) -> socket.socket:  # noqa: ANN401, B008
        sock = self.connect()
        send(sock, hello)
        return sock

    def takes_key(self, hello: Any = Hello(0, 1)) -> socket.socket:  # noqa: ANN401, B008
        sock = self.ask(hello)
        assert receive(sock) == GRANT
        key = bytearray(KEY_SIZE)
        fill(sock, memoryview(key))
        assert bytes(key) == KEY
        return sock

    def wait(self, timeout_s: float = 5.0) -> list[Loaded]:
        return self.channel.wait(lambda: None, timeout_s)


@contextmanager
def runtime(
    folder: Path, workers: int = 1, members: Callable[[int], bool] = lambda _: True
) -> Iterator[Runtime]:
    made = Runtime(folder / "channel", workers, members)
    made.channel.open(lambda: GRANT, made.key)
    try:
        yield made
    finally:
        made.channel.close()
        made.key.close()


def refused(sock: socket.socket) -> bool:
    """Whether the other side closes the connection without a word."""
    with sock:
        try:
            return sock.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted_channel, "HELLO_S", 0.3)


def test_a_worker_gets_the_key_and_says_when_it_is_done(tmp_path: Path) -> None:
    with runtime(tmp_path) as made:
        assert made.path.stat().st_mode & 0o777 == 0o600
        worker = made.takes_key()
        assert made.channel.pids == {os.getpid()}
        made.channel.hold(30.0)
        assert receive(worker) == Hold(30.0)
        send(worker, LOADED)
        assert made.wait() == {0: LOADED}
        assert not made.path.exists()
        with pytest.raises(FileNotFoundError):
            made.connect()
        assert made.gone == []
        made.channel.close()
        assert receive(worker) is None
        assert made.gone == [], "this side has ended it"
        worker.close()


@pytest.mark.parametrize(
    "hello",
    [
        Hello(1, 1),
        Hello(-1, 1),
        Hello(0, 2),
        Hello(0, 0),
        Hello(1 << 40, 1),
        Hold(1.0),
        GRANT,
        LOADED,
    ],
    ids=str,
)
def test_who_says_another_hello_gets_nothing(tmp_path: Path, hello: Any) -> None:  # noqa: ANN401
    with runtime(tmp_path) as made:
        assert refused(made.ask(hello))
        assert made.channel.pids == frozenset()
        made.takes_key().close()


@pytest.mark.parametrize("data", [b"", b"\xff" * 4, framed(b"{}"), framed(b"x" * 100), b"GET / "])
def test_garbage_gets_nothing(tmp_path: Path, data: bytes) -> None:
    with runtime(tmp_path) as made:
        sock = made.connect()
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert refused(sock)
        made.takes_key().close()


def test_silence_gets_nothing_and_holds_nobody_up_for_long(tmp_path: Path) -> None:
    with runtime(tmp_path) as made:
        silent = [made.connect() for _ in range(3)]
        began = time.monotonic()
        made.takes_key().close()
        assert time.monotonic() - began < 3
        assert all(map(refused, silent))


def test_only_processes_of_the_engine_get_the_key(tmp_path: Path) -> None:
    asked: list[int] = []

    def members(pid: int) -> bool:
        asked.append(pid)
        return False

    with runtime(tmp_path, members=members) as made:
        assert refused(made.connect())
        assert asked == [os.getpid()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
def test_another_user_gets_nothing(tmp_path: Path) -> None:
    with runtime(tmp_path) as made:
        for folder in (made.path, *made.path.parents[:4]):
            folder.chmod(0o777)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setuid(65534)
                status = 7 if refused(made.connect()) else 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert made.channel.pids == frozenset()


def test_nobody_gets_the_key_twice(tmp_path: Path) -> None:
    with runtime(tmp_path, workers=2) as made:
        worker = made.takes_key(Hello(0, 2))
        assert refused(made.ask(Hello(0, 2))), "the rank has its key"
        assert refused(made.ask(Hello(1, 2))), "the process has its key"
        worker.close()


def another(path: Path, rank: int, workers: int, then: str = "time.sleep(60)") -> Any:  # noqa: ANN401
    """A process of its own that takes its key, and goes on."""
    script = (
        "import socket, time\n"
        "from regalia.runtime.hosted.frames import *\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        f"sock.connect({str(path)!r})\n"
        f"send(sock, Hello({rank}, {workers}))\n"
        "grant = receive(sock)\n"
        "fill(sock, memoryview(bytearray(KEY_SIZE)))\n"
        "print(type(grant).__name__, flush=True)\n" + then
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_a_worker_counts_once_however_often_it_says_that_it_is_done(tmp_path: Path) -> None:
    with runtime(tmp_path, workers=2) as made:
        worker = made.takes_key(Hello(0, 2))
        for _ in range(5):
            send(worker, LOADED)
        with pytest.raises(UnavailableError, match="1 of 2 workers"):
            made.wait(1.0)
        worker.close()


def test_the_loss_of_one_of_two_is_told_once(tmp_path: Path) -> None:
    with runtime(tmp_path, workers=2) as made:
        worker = made.takes_key(Hello(0, 2))
        other = another(made.path, 1, 2)
        assert other.stdout.readline() == "Grant\n"
        other.kill()
        other.wait()
        other.stdout.close()
        with pytest.raises(UnavailableError, match="worker 1 is gone") as caught:
            made.wait()
        assert caught.value.code is HostedCode.ENGINE_PROCESS_FAILED
        worker.close()
        time.sleep(0.1)
        assert made.gone == ["worker 1 is gone"]


def test_garbage_after_the_key_is_the_end(tmp_path: Path) -> None:
    with runtime(tmp_path) as made:
        worker = made.takes_key()
        worker.sendall(b"\xff" * 8)
        with pytest.raises(UnavailableError, match="worker 0 is gone"):
            made.wait()
        worker.close()


def test_why_a_worker_fails_is_told_in_few_printable_words(tmp_path: Path) -> None:
    with runtime(tmp_path) as made:
        worker = made.takes_key()
        send(worker, Failed("\x1b[2J" + "C" * 5000, "w\n\x00" * 5000))
        with pytest.raises(UnavailableError) as caught:
            made.wait()
        assert caught.value.what.isprintable()
        assert len(caught.value.what) < 700
        worker.close()


def test_waiting_ends_when_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    def no() -> None:
        raise LocalError(CoreCode.IO_FAILED, "no lease")

    with runtime(tmp_path) as made:
        with pytest.raises(LocalError):
            made.channel.wait(no, 5)
        assert not made.path.exists()
        with pytest.raises(FileNotFoundError):
            made.connect()


def test_a_worker_that_does_not_take_its_key_is_lost(tmp_path: Path) -> None:
    made = Runtime(tmp_path / "channel", 1, lambda _: True)

    def no_grant() -> Grant:
        raise BrokenPipeError

    made.channel.open(no_grant, made.key)
    sock = made.ask()
    with pytest.raises(UnavailableError, match="did not take its key"):
        made.wait()
    assert len(made.gone) == 1
    sock.close()
    made.channel.close()
    made.key.close()


def test_nothing_comes_between_a_grant_and_its_key(tmp_path: Path) -> None:
    """The lease may be renewed at any moment."""
    made = Runtime(tmp_path / "channel", 1, lambda _: True)
    asked, renewed = threading.Event(), threading.Event()

    def slow_grant() -> Grant:
        asked.set()
        time.sleep(0.3)
        return GRANT

    def renew() -> None:
        asked.wait(5)
        for _ in range(3):
            made.channel.hold(9.0)
        renewed.set()

    made.channel.open(slow_grant, made.key)
    thread = threading.Thread(target=renew)
    thread.start()
    worker = made.takes_key()
    assert renewed.wait(5)
    assert receive(worker) == Hold(9.0)
    thread.join()
    worker.close()
    made.channel.close()
    made.key.close()


def test_a_socket_that_cannot_be_made(tmp_path: Path) -> None:
    made = Runtime(tmp_path / "nowhere" / "channel", 1, lambda _: True)
    with pytest.raises(LocalError):
        made.channel.open(lambda: GRANT, made.key)
    made.key.close()
    made.channel.close()


# The worker's side: a process, as it ends with its lease and its runtime.


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, dict[str, str]]:
    """A sealed model, its key, and what a grant says of it."""
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "plain").mkdir()
    (folder / "plain" / "config.json").write_text('{"a": 1}')
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
    facts = {
        "store": str(folder / "out"),
        "folder": "/",
        "owner_key": fingerprint,
        "model_id": str(manifest.content.model_id),
        "manifest": str(manifest.digest),
    }
    return folder, kept[0], facts


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
weights.files.read([FilePart("config.json", 0, memoryview(out))])
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


def test_a_worker_opens_the_model_and_ends_with_its_runtime(tmp_path: Path, sealed: Any) -> None:  # noqa: ANN401
    _, key, facts = sealed
    path = tmp_path / "channel"
    with listening(path, granted(facts) + key) as runtimes, worker(path) as process:
        assert first_line(process) == 'opened {"a": 1}'
        assert isinstance(receive(runtimes[0]), Loaded)
        runtimes[0].close()
        assert process.wait(5) == 15


def test_a_worker_ends_with_its_lease(tmp_path: Path, sealed: Any) -> None:  # noqa: ANN401
    _, key, facts = sealed
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
    sealed: Any,  # noqa: ANN401
    garbage: bytes,
) -> None:
    _, key, facts = sealed
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
    sealed: Any,  # noqa: ANN401
    what: str,
    code: str,
) -> None:
    _, key, facts = sealed
    other = {
        "another manifest": {"manifest": "sha256:" + "0" * 64},
        "another owner": {"owner_key": "key:" + "0" * 64},
        "another model": {"model_id": "model:" + "0" * 64},
        "no store": {"store": "/nonexistent"},
    }.get(what, {})
    used = bytes(KEY_SIZE) if what == "another key" else key
    path = tmp_path / "channel"
    with listening(path, granted(facts | other) + used) as runtimes, worker(path) as process:
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
    sealed: Any,  # noqa: ANN401
    answer: bytes | str,
) -> None:
    _, key, facts = sealed
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
    sealed: Any,  # noqa: ANN401
    answer: bytes | str,
) -> None:
    _, key, facts = sealed
    path = tmp_path / "channel"
    sent = granted(facts) + key[:16] if isinstance(answer, str) else answer
    with listening(path, sent), worker(path) as process:
        assert first_line(process).startswith("refused")
        assert process.wait(5) == 3


def test_a_worker_without_a_runtime_opens_nothing(tmp_path: Path) -> None:
    with worker(tmp_path / "nowhere") as process:
        assert first_line(process).startswith("refused")
        assert process.wait(5) == 3
