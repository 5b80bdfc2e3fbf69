"""Connections that are silent, slow, in crumbs or never read, and an honest client beside them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from regalia.host.connections import ConnectionLimits
from regalia.host.listen import bind, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import Receive, Scope, Send

SOON = 20.0  # seconds until a test gives up; nothing is measured with it
QUICK = ConnectionLimits(connections=16, head_s=0.5, unread_s=0.5, report_s=0.0)
HEAD = b"POST / HTTP/1.1\r\nhost: h\r\n"


class Echo:
    """Answers with the size of the body, or with as many bytes as the path names."""

    def __init__(self) -> None:
        self.gone = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            size += len(message["body"])
            more = message["more_body"]
        wanted = int(scope["path"][1:] or 0)
        body = bytes(wanted) if wanted else str(size).encode()
        head = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for start in range(0, len(body), 65536):
            part = body[start : start + 65536]
            more = start + 65536 < len(body)
            await send({"type": "http.response.body", "body": part, "more_body": more})


@contextlib.contextmanager
def serving(limits: ConnectionLimits, app: Echo | None = None) -> Iterator[tuple[str, int]]:
    sock = bind("127.0.0.1:0")
    address = sock.getsockname()[:2]
    ready = threading.Event()
    stops: list[Callable[[], None]] = []

    def on_ready(stop: Callable[[], None]) -> None:
        stops.append(stop)
        ready.set()

    thread = threading.Thread(
        target=serve,
        args=(app or Echo(), sock),
        kwargs={"drain_s": 1, "on_ready": on_ready, "limits": limits},
    )
    thread.start()
    assert ready.wait(SOON)
    try:
        yield address
    finally:
        stops[0]()
        thread.join(SOON)
        assert not thread.is_alive()


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=SOON)


def ask(address: tuple[str, int], body: bytes = b"hello") -> bytes:
    with connect(address) as sock:
        sock.sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer


def answer_of(sock: socket.socket) -> bytes:
    """The body of one answer on a connection that stays open."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        assert part, "closed before an answer"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < size:
        body += sock.recv(65536)
    return body


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side closes; waits for it."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_silent_connections_lock_nobody_out() -> None:
    limits = ConnectionLimits(connections=16, head_s=600.0)
    with serving(limits) as address, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(address)) for _ in range(100)]
        for _ in range(20):
            assert ask(address).endswith(b"\r\n\r\n5")
        assert is_closed(silent[0]), "the longest waiting one goes first"


def test_a_connection_that_carries_a_request_keeps_its_place() -> None:
    limits = ConnectionLimits(connections=16, head_s=600.0)
    with serving(limits) as address, contextlib.ExitStack() as stack:
        honest = stack.enter_context(connect(address))
        honest.sendall(HEAD + b"connection: close\r\ncontent-length: 5\r\n\r\nhe")
        time.sleep(0.2)  # until its head has arrived
        for _ in range(100):
            stack.enter_context(connect(address))
        honest.sendall(b"llo")
        assert answer_of(honest) == b"5"


def test_slow_bodies_lock_nobody_out() -> None:
    limits = ConnectionLimits(connections=16, head_s=600.0)
    with serving(limits) as address, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(address)) for _ in range(16)]
        for sock in slow:
            sock.sendall(HEAD + b"content-length: 100\r\n\r\nx")
        time.sleep(0.2)
        for _ in range(20):
            assert ask(address).endswith(b"\r\n\r\n5")
        assert is_closed(slow[0])


def test_one_peer_does_not_take_all_places() -> None:
    limits = ConnectionLimits(connections=8, head_s=600.0, unread_s=600.0)
    with serving(limits) as address, contextlib.ExitStack() as stack:
        for _ in range(8):
            sock = socket.socket()
            stack.enter_context(sock)
            sock.bind(("127.0.0.9", 0))
            sock.connect(address)
            sock.sendall(b"GET /100000000 HTTP/1.1\r\nhost: h\r\n\r\n")
        time.sleep(0.2)
        for _ in range(20):
            assert ask(address).endswith(b"\r\n\r\n5")


def test_a_flood_of_slow_bodies_from_elsewhere_takes_no_place() -> None:
    limits = ConnectionLimits(connections=16, head_s=600.0)
    stop = threading.Event()

    def flood(address: tuple[str, int]) -> None:
        held: list[socket.socket] = []
        while not stop.is_set():
            sock = socket.socket()
            sock.bind(("127.0.0.9", 0))
            sock.connect(address)
            with contextlib.suppress(ConnectionError):
                sock.sendall(HEAD + b"content-length: 100\r\n\r\nx")
            held.append(sock)
            if len(held) > 100:
                held.pop(0).close()
            time.sleep(0.002)  # places are at stake here, and not the processor's time
        for sock in held:
            sock.close()

    with serving(limits) as address:
        flooding = threading.Thread(target=flood, args=(address,))
        flooding.start()
        try:
            time.sleep(0.3)
            assert [ask(address)[-1:] for _ in range(50)] == [b"5"] * 50
        finally:
            stop.set()
            flooding.join(SOON)


def test_bodies_together_are_bounded() -> None:
    limits = ConnectionLimits(connections=16, buffered=1 << 20)
    with serving(limits) as address, contextlib.ExitStack() as stack:
        large = [stack.enter_context(connect(address)) for _ in range(4)]
        for sock in large:
            with contextlib.suppress(ConnectionError):
                sock.sendall(HEAD + b"content-length: 600000\r\n\r\n" + bytes(500_000))
        time.sleep(0.2)
        assert ask(address, bytes(400_000)).endswith(b"400000")


def test_answers_that_nobody_reads_are_bounded_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    limits = ConnectionLimits(
        connections=64, head_s=600.0, unread_s=600.0, unread=1_000_000, report_s=0.0
    )
    with serving(limits) as address, contextlib.ExitStack() as stack:
        honest = stack.enter_context(connect(address))
        honest.sendall(b"GET /3000000 HTTP/1.1\r\nhost: h\r\n\r\n")
        for _ in range(40):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.bind(("127.0.0.9", 0))
            sock.connect(address)
            sock.sendall(b"GET /30000000 HTTP/1.1\r\nhost: h\r\n\r\n")
        time.sleep(0.5)
        assert len(answer_of(honest)) == 3_000_000
        assert ask(address).endswith(b"\r\n\r\n5")
    assert '"answers": 1' in capsys.readouterr().err


def test_a_peer_whose_connections_are_cut_again_and_again_is_shut_out_for_a_while() -> None:
    limits = ConnectionLimits(connections=16, head_s=0.2, offenses=3, offense_s=3.0, report_s=0.0)

    def cut(address: tuple[str, int]) -> float:
        sock = socket.socket()
        with sock:
            sock.settimeout(SOON)
            sock.bind(("127.0.0.9", 0))
            start = time.monotonic()
            with contextlib.suppress(ConnectionError):
                sock.connect(address)
                sock.sendall(b"POST")
            assert is_closed(sock)
            return time.monotonic() - start

    with serving(limits) as address:
        start = time.monotonic()
        waited = [cut(address) for _ in range(4)]
        if time.monotonic() - start < limits.offense_s:  # the machine was not too busy
            assert min(waited[:3]) >= 0.2
            assert waited[3] < 0.2
        assert ask(address).endswith(b"\r\n\r\n5")  # others are not
        time.sleep(limits.offense_s)
        assert cut(address) >= 0.2


def test_busy_connections_are_not_closed_for_new_ones() -> None:
    limits = ConnectionLimits(connections=4, head_s=600.0, unread_s=600.0)
    with serving(limits) as address, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connect(address)) for _ in range(4)]
        for sock in busy:
            sock.sendall(b"GET /30000000 HTTP/1.1\r\nhost: h\r\n\r\n")
        time.sleep(0.2)
        assert is_closed(stack.enter_context(connect(address)))
        for sock in busy:
            assert len(answer_of(sock)) == 30_000_000


@pytest.mark.parametrize("start", [b"", b"POST", HEAD, HEAD + b"x: "])
def test_a_head_that_does_not_end_is_cut(start: bytes) -> None:
    with serving(QUICK) as address, connect(address) as sock:
        sock.sendall(start)
        assert is_closed(sock)


def test_a_head_in_drops_is_cut_in_time() -> None:
    with serving(QUICK) as address, connect(address) as sock:
        with contextlib.suppress(ConnectionError):
            for byte in HEAD * 100:
                sock.sendall(bytes([byte]))
                time.sleep(0.02)
        assert is_closed(sock)


def test_the_second_request_has_a_deadline_too() -> None:
    with serving(QUICK) as address, connect(address) as sock:
        sock.sendall(HEAD + b"content-length: 1\r\n\r\nx")
        assert answer_of(sock) == b"1"
        sock.sendall(b"POST")
        assert is_closed(sock)


def test_requests_one_after_the_other_are_no_flood() -> None:
    with serving(QUICK) as address, connect(address) as sock:
        for _ in range(600):
            sock.sendall(HEAD + b"content-length: 1\r\n\r\nx")
            assert answer_of(sock) == b"1"


def test_who_asks_too_fast_waits_and_nobody_else_does() -> None:
    """Fifteen requests come at once, and ten may begin in a second. None is refused or cut, though
    the last ones wait for longer than a head may take; another address does not wait.
    """
    limits = ConnectionLimits(requests_per_s=10.0, head_s=0.3)
    with serving(limits) as address, connect(address) as sock:
        began = time.monotonic()
        sock.sendall((HEAD + b"content-length: 1\r\n\r\nx") * 15)
        answers = b""
        while answers.count(b"\r\n\r\n1") < 10:
            answers += sock.recv(65536)
        with socket.create_connection(address, SOON, ("127.0.0.9", 0)) as other:
            other.sendall(b"GET /1 HTTP/1.1\r\nhost: h\r\n\r\n")
            assert answer_of(other) == b"\0"
        assert answers.count(b"\r\n\r\n1") < 15, "the last ones still wait"
        while answers.count(b"\r\n\r\n1") < 15:
            answers += sock.recv(65536)
        assert time.monotonic() - began > 0.45, "five had to wait for a tenth of a second each"


def is_dropped(sock: socket.socket) -> bool:
    """Whether the server closes without an answer."""
    try:
        return sock.recv(65536) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("end", [b"\r\n", b""])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_a_head_of_many_fields_is_not_even_parsed(end: bytes, newline: bytes) -> None:
    limits = ConnectionLimits(fields=10)
    with serving(limits) as address:
        for count in (9, 10):
            head = (
                b"GET / HTTP/1.1" + newline + b"host: h" + newline + (b"a:" + newline) * (count - 2)
            )
            with connect(address) as sock:
                sock.sendall(head + newline)
                assert b" 200 " in sock.recv(65536)
        with connect(address) as sock:
            sock.sendall(head + (b"a:" + newline) * 2 + end)
            assert is_dropped(sock)


def test_a_head_has_a_size() -> None:
    with serving(ConnectionLimits(head_size=1024)) as address, connect(address) as sock:
        sock.sendall(HEAD + b"x: " + b"x" * 1200)
        assert b" 400 " in sock.recv(65536)


def test_fields_behind_a_body_are_bounded_too() -> None:
    with serving(ConnectionLimits(fields=10)) as address:
        for count in (10, 11):
            with connect(address) as sock:
                sock.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n")
                sock.sendall(b"a: a\r\n" * count + b"\r\n")
                if count == 10:
                    assert answer_of(sock) == b"0"
                else:
                    assert is_dropped(sock)


class Early(Echo):
    """Answers before it has read the body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/early":
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_what_is_wrong_in_line_keeps_nobody_waiting(capfd: pytest.CaptureFixture[str]) -> None:
    """It comes behind an answer that was given early, so that no other can be given."""
    limits = ConnectionLimits(requests_per_s=5.0)
    start = b"POST /early HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    with serving(limits, Early()) as address, connect(address) as wrong, connect(address) as busy:
        wrong.sendall(start)
        assert b" 404 " in wrong.recv(65536)
        busy.sendall((HEAD + b"content-length: 1\r\n\r\nx") * 6)
        wrong.sendall(b"ZZZ\r\n\r\n")
        assert ask(address).endswith(b"5")
        while not is_dropped(wrong):
            pass  # what is left of the early answer; the socket's timeout ends this
        assert ask(address).endswith(b"5")
    assert "Traceback" not in capfd.readouterr().err


def test_what_is_no_http_is_an_offense() -> None:
    limits = ConnectionLimits(offenses=3, offense_s=60.0)
    with serving(limits) as address:
        for _ in range(3):
            with connect(address) as sock:
                sock.sendall(b"nonsense\r\n\r\n")
                assert b" 400 " in sock.recv(65536)
        with connect(address) as sock:
            assert is_dropped(sock)


def test_a_slow_head_is_cut_though_its_peer_is_busy() -> None:
    """Waiting for a turn gives it no more time."""
    limits = ConnectionLimits(requests_per_s=20.0, head_s=0.6)
    with serving(limits) as address, connect(address) as slow, connect(address) as busy:
        began = time.monotonic()
        closed = False
        while not closed and time.monotonic() - began < SOON:
            busy.sendall(HEAD + b"content-length: 1\r\n\r\nx")
            try:
                slow.sendall(b"x")
                slow.settimeout(0.02)
                closed = slow.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
        assert closed


def test_whoever_waits_for_a_turn_may_leave() -> None:
    limits = ConnectionLimits(requests_per_s=2.0, connections=4)
    with serving(limits) as address:
        with contextlib.ExitStack() as stack:
            for _ in range(6):
                stack.enter_context(connect(address)).sendall(HEAD)
        assert ask(address).endswith(b"5")


def chunks(size: int, count: int) -> bytes:
    return b"%x\r\n%s\r\n" % (size, b"x" * size) * count


@pytest.mark.parametrize(("size", "count"), [(1, 200), (128, 10_000), (4096, 500)])
def test_honest_chunks_arrive(size: int, count: int) -> None:
    with serving(QUICK) as address, connect(address) as sock:
        body = chunks(size, count) + b"0\r\n\r\n"
        sock.sendall(HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n" + body)
        assert answer_of(sock) == str(size * count).encode()


def test_a_body_in_crumbs_is_cut() -> None:
    app = Echo()
    with serving(QUICK, app) as address, connect(address) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks(1, 100_000))
        assert is_closed(sock)
        assert app.gone.wait(SOON), "and the application is told"


def test_an_answer_that_nobody_reads_is_abandoned() -> None:
    with serving(QUICK) as address, connect(address) as sock:
        sock.sendall(b"GET /100000000 HTTP/1.1\r\nhost: h\r\n\r\n")
        time.sleep(1.5)
        read = 0
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(1 << 20):
                read += len(part)
        assert read < 50_000_000
        assert ask(address).endswith(b"5")


def test_what_was_dropped_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(QUICK) as address, connect(address) as sock:
        assert is_closed(sock)
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    dropped = [event for event in events if event["event"] == "service.connections.dropped"]
    assert [event["slow"] for event in dropped] == [1]


def test_a_flood_is_told_in_few_lines(capfd: pytest.CaptureFixture[str]) -> None:
    limits = ConnectionLimits(connections=4, head_s=600.0, report_s=600.0)
    with serving(limits) as address, contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(address))
        assert ask(address).endswith(b"5")
    assert capfd.readouterr().err.count("service.connections.dropped") == 1
