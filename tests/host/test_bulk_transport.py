"""The transport for large bodies: what it reads, keeps, refuses, and how long it waits."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from regalia.host import bulk_transport
from regalia.host.bulk_transport import BulkTransport
from regalia.host.deadlines import answer_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)
BODY = bytes(range(256)) * 8192  # 2 MiB: more than one piece
OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
TIMEOUT_S = 0.2  # of each step
SOON_S = 0.5  # of a whole answer


class Server:
    """Answers each request with the next of some answers, on as many connections as there are."""

    def __init__(self, *answers: bytes, ends: bool = False) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.requests: list[bytes] = []
        self._ends = ends

    def handle(self, sock: socket.socket) -> None:
        self.connections += 1
        with sock, suppress(OSError):
            while head := sock.recv(65536):
                self.requests.append(head)
                sock.sendall(self.answers.pop(0))
                if self._ends:
                    return


@contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=handle, args=(sock,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def client(answer_s: float = 20, tls: ssl.SSLContext | None = None) -> Iterator[httpx.Client]:
    transport = BulkTransport(answer_s, tls or ssl.create_default_context())
    with httpx.Client(transport=transport, timeout=TIMEOUT_S * 20, trust_env=False) as made:
        yield made


def chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (OK % len(BODY) + BODY, False),
        (CHUNKED + chunks(BODY, 100_000), False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, True),
        (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, True),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 5 + OK % len(BODY) + BODY, False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK % len(BODY) + BODY, False),
    ],
)
def test_every_kind_of_body(answer: bytes, ends: bool) -> None:  # noqa: FBT001
    with listening(Server(answer, ends=ends).handle) as url, client() as http:
        assert http.get(url).content == BODY


def test_fields_arrive_as_they_are() -> None:
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nX: \xe9\r\n"
    server = Server(head + b"content-length: 2\r\n\r\nab")
    with listening(server.handle) as url, client() as http:
        response = http.get(url + "a%20b?c=d", headers={"range": "bytes=0-1"})
    assert response.status_code == 206
    assert response.headers["content-range"] == "bytes 0-1/9"
    assert dict(response.headers.raw)[b"X"] == b"\xe9"
    assert server.requests[0].startswith(b"GET /a%20b?c=d HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nrange: bytes=0-1\r\n" in server.requests[0]


def test_a_connection_is_used_again() -> None:
    server = Server(*[OK % 3 + b"abc"] * 4, CHUNKED + chunks(b"abc", 2), OK % 3 + b"abc")
    with listening(server.handle) as url, client() as http:
        assert [http.get(url).content for _ in range(6)] == [b"abc"] * 6
    assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    server = Server(*[OK % 3 + b"abc"] * 3, ends=True)
    with listening(server.handle) as url, client() as http:
        assert [http.get(url).content for _ in range(3)] == [b"abc"] * 3
    assert server.connections == 3


@pytest.mark.parametrize(
    "first",
    [
        OK % 3 + b"abcHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        OK % 3 + b"abc garbage",
    ],
    ids=["answer", "garbage"],
)
def test_what_follows_an_answer_unasked_is_no_answer_of_another_request(first: bytes) -> None:
    """It could be taken for the next one. Ranges are compared by their readers as well."""
    server = Server(first, OK % 3 + b"def", OK % 3 + b"def")
    with listening(server.handle) as url, client() as http:
        assert http.get(url).content == b"abc"
        assert http.get(url).content == b"def"
    assert server.connections == 2


def test_an_answer_that_is_not_read_ends_its_connection() -> None:
    server = Server(OK % len(BODY) + BODY, OK % 3 + b"abc")
    with listening(server.handle) as url, client() as http:
        with http.stream("GET", url) as response:
            assert response.status_code == 200
        assert http.get(url).content == b"abc"
    assert server.connections == 2


def test_a_body_that_breaks_off_is_short_and_its_connection_is_not_used_again() -> None:
    with listening(Server(OK % 9 + b"abc", ends=True).handle) as url, client() as http:
        assert http.get(url).content == b"abc"
    broken = Server(CHUNKED + b"5\r\nab", ends=True)
    with listening(broken.handle) as url, client() as http, pytest.raises(httpx.TransportError):
        http.get(url)


def test_old_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_transport, "_IDLE_S", -1.0)
    server = Server(*[OK % 3 + b"abc"] * 2)
    with listening(server.handle) as url, client() as http:
        assert [http.get(url).content for _ in range(2)] == [b"abc"] * 2
    assert server.connections == 2


def test_many_at_once_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_transport, "_IDLE_MAX", 2)
    server = Server(*[OK % len(BODY) + BODY] * 8)
    got: list[bytes] = []
    with listening(server.handle) as url, client() as http:
        crew = [
            threading.Thread(target=lambda: got.append(http.get(url).content)) for _ in "12345678"
        ]
        for each in crew:
            each.start()
        for each in crew:
            each.join(20)
        transport = http._transport
        assert isinstance(transport, BulkTransport)
        assert len(transport._idle) <= 2
    assert got == [BODY] * 8


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000,
        CHUNKED + b"xyz\r\nab",
        CHUNKED + b"5" * 70_000,
    ],
    ids=[
        "nonsense",
        "status",
        "version",
        "zeros",
        "long",
        "many",
        "continue",
        "hints",
        "chunk",
        "line",
    ],
)
def test_malformed_answers(answer: bytes) -> None:
    server = Server(answer, ends=True)
    with listening(server.handle) as url, client() as http, pytest.raises(httpx.TransportError):
        http.get(url)


def trickle(first: bytes, again: bytes) -> Callable[[socket.socket], None]:
    def handle(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.recv(65536)
            sock.sendall(first)
            while True:
                time.sleep(TIMEOUT_S / 4)
                sock.sendall(again)

    return handle


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"y"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (OK % 1000, b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"5;", b"x"),
        (CHUNKED + b"0\r\n", b"x: y\r\n"),
    ],
)
def test_a_server_that_trickles_is_given_up(first: bytes, again: bytes) -> None:
    began = time.monotonic()
    with listening(trickle(first, again)) as url, client(SOON_S) as http:
        with pytest.raises(httpx.ReadTimeout):
            http.get(url)
        with answer_within(SOON_S), pytest.raises(httpx.ReadTimeout):
            http.get(url)
    assert time.monotonic() - began < 20


def test_silence_and_nobody_there() -> None:
    def silent(sock: socket.socket) -> None:
        with sock:
            time.sleep(5)

    transport = BulkTransport(20, ssl.create_default_context())
    with (
        listening(silent) as url,
        httpx.Client(transport=transport, timeout=TIMEOUT_S, trust_env=False) as http,
        pytest.raises(httpx.ReadTimeout),
    ):
        http.get(url)
    with client() as http, pytest.raises(httpx.ConnectError):
        http.get(url)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb: c", "a\0"])
def test_no_header_smuggles_another(value: str) -> None:
    server = Server(OK % 0)
    with (
        listening(server.handle) as url,
        client() as http,
        pytest.raises(httpx.LocalProtocolError),
    ):
        http.get(url, headers={"x": value})
    assert server.connections == 0


def test_only_gets() -> None:
    with client() as http:
        for method, url in (("POST", "http://127.0.0.1:1/"), ("GET", "ftp://127.0.0.1:1/")):
            with pytest.raises(httpx.UnsupportedProtocol):
                http.request(method, url)


def self_signed(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


def test_over_tls(tmp_path: Path) -> None:
    path = self_signed(tmp_path / "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    trusted = ssl.create_default_context(cafile=str(path))
    server = Server(*[OK % len(BODY) + BODY] * 2)
    with (
        listening(lambda sock: server.handle(context.wrap_socket(sock, server_side=True))) as url,
        client(tls=trusted) as http,
    ):
        address = url.replace("http", "https").replace("127.0.0.1", "localhost")
        assert [http.get(address).content for _ in range(2)] == [BODY] * 2
    assert server.connections == 1


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))

    def handle(sock: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(sock, server_side=True):
            pass

    with (
        listening(handle) as url,
        client() as http,
        pytest.raises(httpx.ConnectError, match="CERT"),
    ):
        http.get(url.replace("http", "https").replace("127.0.0.1", "localhost"))
