"""Bounds how many requests each peer begins in a second. What comes faster waits.

One Python process serves all connections from one event loop. A peer that asks without pause would
keep it busy with cheap questions while others wait for their turn.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from regalia.host.peers import Allowances


class Waiter(Protocol):
    """A connection whose next request has arrived, in part or whole."""

    peer: str

    def go_on(self) -> None:
        """Read on: it is this connection's turn."""


class Pace:
    """The lines in which connections wait, one for each peer. Used from one event loop.

    Args:
        per_s: requests that a peer may begin in a second; as many at once, after a pause.
    """

    def __init__(self, per_s: float) -> None:
        self._allowances = Allowances(per_s, seconds=1.0)
        self._lines: dict[str, dict[Waiter, None]] = {}

    def may_begin(self, waiter: Waiter) -> bool:
        """Whether a connection may begin a request. If not, it is told when it may.

        Args:
            waiter: the connection.
        """
        line = self._lines.get(waiter.peer)
        if line is None:
            wait_s = self._allowances.wait_s(waiter.peer, _now())
            if not wait_s:
                return True
            line = self._lines[waiter.peer] = {}
            asyncio.get_running_loop().call_later(wait_s, self._turn, waiter.peer)
        line.setdefault(waiter)
        return False

    def began(self, peer: str) -> None:
        """Count a request.

        Args:
            peer: whose it is.
        """
        self._allowances.take(peer, _now())

    def leave(self, waiter: Waiter) -> None:
        """A connection is gone, and waits no more."""
        line = self._lines.get(waiter.peer)
        if line is not None:
            line.pop(waiter, None)

    def _turn(self, peer: str) -> None:
        """Let the first begin if it may, and look again for the next."""
        line = self._lines[peer]
        if not line:
            del self._lines[peer]
            return
        wait_s = self._allowances.wait_s(peer, _now())
        # Before anything else: whatever becomes of the first, the others have their turn.
        asyncio.get_running_loop().call_later(wait_s, self._turn, peer)
        if not wait_s:
            first = next(iter(line))
            del line[first]
            first.go_on()


def _now() -> float:
    return asyncio.get_running_loop().time()
