"""The runtime's side of the socket that keys go through, with peers that do not keep to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.core.errors import (
    CoreCode,
    IntegrityError,
    LocalError,
    UnavailableError,
    UsageError,
)
from regalia.core.secret import SecretBytes
from regalia.engines.codes import EngineCode
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime.hosted import channel as hosted_channel
from regalia.runtime.hosted.channel import Handover, KeyChannel
from regalia.runtime.hosted.frames import KEY_SIZE, Failed, Hello, Hold, fill, receive, send
from tests.runtime.hosted_frames import GRANT, KEY, LOADED, framed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.core.errors import RegaliaError
    from regalia.runtime.hosted.frames import Grant, Loaded


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
    made.channel.open([Handover(lambda: GRANT, made.key)])
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


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (EngineCode.ENGINE_ADAPTER_MISFIT, IntegrityError),
        (EngineCode.ENGINE_ADAPTER_UNSUPPORTED, UsageError),
    ],
)
def test_what_a_worker_says_of_its_adapter_keeps_its_code(
    tmp_path: Path, code: EngineCode, kind: type[RegaliaError]
) -> None:
    with runtime(tmp_path) as made:
        worker = made.takes_key()
        send(worker, Failed(code.name, "w\n" * 5000))
        with pytest.raises(kind) as caught:
            made.wait()
        assert caught.value.code is code
        assert caught.value.what.isprintable()
        assert len(caught.value.what) < 700
        worker.close()


def test_a_worker_gets_two_keys_one_after_the_other(tmp_path: Path) -> None:
    made = Runtime(tmp_path / "channel", 1, lambda _: True)
    both = msgspec.structs.replace(GRANT, adapter_follows=True)
    other = SecretBytes(bytearray(KEY[::-1]))
    made.channel.open([Handover(lambda: both, made.key), Handover(lambda: GRANT, other)])
    sock = made.ask()
    for grant, key in ((both, KEY), (GRANT, KEY[::-1])):
        assert receive(sock) == grant
        got = bytearray(KEY_SIZE)
        fill(sock, memoryview(got))
        assert bytes(got) == key
    made.channel.hold(9.0)
    assert receive(sock) == Hold(9.0)
    sock.close()
    made.channel.close()
    made.key.close()
    other.close()


def test_a_key_that_was_wiped_meanwhile_is_not_handed_over(tmp_path: Path) -> None:
    """The lease of the adapter may be lost between the two."""
    made = Runtime(tmp_path / "channel", 1, lambda _: True)
    both = msgspec.structs.replace(GRANT, adapter_follows=True)
    other = SecretBytes(bytearray(KEY[::-1]))
    other.close()
    made.channel.open([Handover(lambda: both, made.key), Handover(lambda: GRANT, other)])
    sock = made.ask()
    with pytest.raises(UnavailableError, match="did not take its key"):
        made.wait()
    assert len(made.gone) == 1
    sock.close()
    made.channel.close()
    made.key.close()


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

    made.channel.open([Handover(no_grant, made.key)])
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

    made.channel.open([Handover(slow_grant, made.key)])
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
        made.channel.open([Handover(lambda: GRANT, made.key)])
    made.key.close()
    made.channel.close()
