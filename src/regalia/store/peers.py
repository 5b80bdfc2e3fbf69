"""Pieces of ciphertext from other machines of the site, which have loaded the same model.

A peer is asked once and in short time, and whatever goes wrong with it, the piece comes from the
store itself. What a peer sends is ciphertext like any other: it is not trusted, and a peer that
sends something else is found out by the tags of chunks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx

from regalia.core.errors import CoreCode, IntegrityError, UsageError
from regalia.store.attempts import AgainError
from regalia.store.exchange import Call, Exchange
from regalia.store.piece_cache import HEADER, piece_is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PEERS_MAX = 16
_STEP_S = 2.0  # seconds that each step of a request may take
_ANSWER_S = 10.0  # seconds from a request to the end of its answer
_REST_S = 30.0  # how long a peer that failed is not asked
_OK, _NOT_FOUND = 200, 404


class Peers:
    """Asks peers for pieces, in turn. May be used from several threads.

    Args:
        urls: http or https addresses of ``regalia store serve`` on a cache.
        transport: replaces the HTTP transport in tests.
        clock: replaces ``time.monotonic`` in tests.

    Raises:
        UsageError: BAD_CONFIG.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(urls) > PEERS_MAX:
            raise UsageError(CoreCode.BAD_CONFIG, f"peers: {len(urls)}, at most {PEERS_MAX}")
        self._peers = [_Peer(_checked(url), transport=transport, clock=clock) for url in urls]

    def read(self, key: str, number: int, buffer: memoryview) -> bool:
        """Fill the buffer with a whole piece; False if no peer has it.

        Args:
            key: of the blob.
            number: of the piece in it.
            buffer: of the piece's size.
        """
        for step in range(len(self._peers)):
            # Different pieces begin with different peers, so that all of them share the work.
            if self._peers[(number + step) % len(self._peers)].read(key, number, buffer):
                return True
        return False

    def close(self) -> None:
        """Close the connections."""
        for peer in self._peers:
            peer.close()


class _Peer:
    def __init__(
        self,
        url: str,
        *,
        transport: httpx.BaseTransport | None,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        self._clock = clock
        self._rests_until = 0.0
        self._exchange = Exchange(url, transport=transport, step_s=_STEP_S, answer_s=_ANSWER_S)

    def read(self, key: str, number: int, buffer: memoryview) -> bool:
        if self._clock() < self._rests_until:
            return False
        size = HEADER + buffer.nbytes
        try:
            answer = self._exchange.send(
                Call("GET", f"{self._url}pieces/{key}/{number:08x}", limit=size), {}
            )
        except (AgainError, IntegrityError):
            self._rests_until = self._clock() + _REST_S
            return False
        if answer.status == _NOT_FOUND:
            return False
        if answer.status != _OK or len(answer.body) != size or not piece_is_whole(answer.body):
            self._rests_until = self._clock() + _REST_S
            return False
        buffer[:] = answer.body[HEADER:]
        return True

    def close(self) -> None:
        self._exchange.close()


def _checked(text: str) -> str:
    try:
        url = httpx.URL(text if text.endswith("/") else text + "/")
    except httpx.InvalidURL:
        raise UsageError(CoreCode.BAD_CONFIG, "peers: one of them is no URL") from None
    if url.scheme not in ("http", "https") or not url.host or url.query or url.userinfo:
        raise UsageError(CoreCode.BAD_CONFIG, "peers: want http(s)://HOST[:PORT]/")
    return str(url)
