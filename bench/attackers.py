"""What attackers do to a broker: one process for each attack, from eight addresses of loopback.

python bench/attackers.py ATTACK HOST:PORT REQUEST_FILE runs until it is stopped. REQUEST_FILE holds
a release request in JSON, whose challenge and evidence are replaced.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]
CONNECTIONS = 300  # more than the broker has places for
THREADS = 8
BODY = 8 << 20
HEAD = b"POST /v1/release HTTP/1.1\r\nhost: h\r\n"
TIMEOUT_S = 5.0


class Attacker:
    """Knows whom to attack, and what a request looks like."""

    def __init__(self, address: str, request: dict[str, Any]) -> None:
        host, _, port = address.rpartition(":")
        self.target = (host, int(port))
        self.request = request
        self._sources = itertools.cycle(ADDRESSES)

    def connect(self) -> socket.socket:
        """A connection from the next address."""
        sock = socket.socket()
        sock.settimeout(TIMEOUT_S)
        sock.bind((next(self._sources), 0))
        sock.connect(self.target)
        return sock

    def hold(self, first: bytes, then: Callable[[socket.socket], None]) -> None:
        """Keep many connections open, and begin anew where one is closed."""
        held: list[socket.socket | None] = [None] * CONNECTIONS
        while True:
            for place, sock in enumerate(held):
                try:
                    if sock is None:
                        held[place] = self._begin(first)
                    else:
                        then(sock)
                except OSError:
                    held[place] = None
                    if sock is not None:
                        sock.close()
            time.sleep(0.05)

    def _begin(self, first: bytes) -> socket.socket:
        sock = self.connect()
        try:
            sock.sendall(first)
        except OSError:
            sock.close()
            raise
        return sock

    def threads(self, run: Callable[[], None]) -> None:
        """Run something for ever, many times at once."""

        def forever() -> None:
            while True:
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    run()

        for _ in range(THREADS):
            threading.Thread(target=forever, daemon=True).start()
        while True:
            time.sleep(1)

    def conversation(self) -> Iterator[http.client.HTTPConnection]:
        """One connection that is kept."""
        source = (next(self._sources), 0)
        connection = http.client.HTTPConnection(
            *self.target, timeout=TIMEOUT_S, source_address=source
        )
        try:
            while True:
                yield connection
        finally:
            connection.close()

    def challenge(self, connection: http.client.HTTPConnection) -> str:
        """A fresh challenge."""
        answer = post(connection, "/v1/challenge", {"model_id": self.request["model_id"]})
        return str(json.loads(answer)["challenge"])

    # -- the attacks --------------------------------------------------------------------------

    def silent_connections(self) -> None:
        """Connections that say nothing."""
        self.hold(b"", lambda _: None)

    def slow_headers(self) -> None:
        """Heads that arrive byte by byte."""
        self.hold(HEAD, lambda sock: sock.sendall(b"x"))

    def many_fields(self) -> None:
        """Heads of 64 KiB with as many fields as fit, as fast as they are taken."""
        head = b"GET /nowhere HTTP/1.1\r\nhost: h\r\n" + b"a:\r\n" * 16_200 + b"\r\n"

        def run() -> None:
            with self.connect() as sock:
                sock.sendall(head)
                sock.recv(65536)

        self.threads(run)

    def slow_bodies(self) -> None:
        """Bodies that arrive byte by byte."""
        self.hold(HEAD + b"content-length: 1000000\r\n\r\n{", lambda sock: sock.sendall(b"x"))

    def tiny_chunks(self) -> None:
        """Bodies in chunks of one byte."""
        first = HEAD + b"transfer-encoding: chunked\r\n\r\n"
        self.hold(first, lambda sock: sock.sendall(b"1\r\nx\r\n" * 50))

    def unread_answers(self) -> None:
        """Questions whose answers are not read."""
        ask = b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n" * 20
        self.hold(ask, lambda sock: sock.sendall(ask))

    def bad_evidence(self) -> None:
        """Fresh challenges, answered with rubbish, as fast as possible."""

        def run() -> None:
            for connection in self.conversation():
                asked = {"challenge": self.challenge(connection), "evidence": "cnViYmlzaA=="}
                post(connection, "/v1/release", self.request | asked)

        self.threads(run)

    def large_bodies(self) -> None:
        """Fresh challenges, answered with rubbish of the largest size."""
        evidence = base64.b64encode(os.urandom((BODY - 20_000) // 4 * 3)).decode()

        def run() -> None:
            for connection in self.conversation():
                asked = {"challenge": self.challenge(connection), "evidence": evidence}
                post(connection, "/v1/release", self.request | asked)

        self.threads(run)

    def challenge_flood(self) -> None:
        """Challenges that nobody answers."""

        def run() -> None:
            for connection in self.conversation():
                self.challenge(connection)

        self.threads(run)


ATTACKS = (
    "silent_connections",
    "slow_headers",
    "many_fields",
    "slow_bodies",
    "tiny_chunks",
    "unread_answers",
    "bad_evidence",
    "large_bodies",
    "challenge_flood",
)


def post(connection: http.client.HTTPConnection, path: str, message: dict[str, Any]) -> bytes:
    """One request; the connection is kept if the other side keeps it."""
    body = json.dumps(message, sort_keys=True, separators=(",", ":"))
    connection.request("POST", path, body)
    return connection.getresponse().read()


def main() -> None:
    """Attack until stopped."""
    name, address, request = sys.argv[1:]
    if name not in ATTACKS:
        raise SystemExit(f"no attack {name!r}")
    attacker = Attacker(address, json.loads(Path(request).read_bytes()))
    getattr(attacker, name)()


if __name__ == "__main__":
    main()
