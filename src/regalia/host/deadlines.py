"""Moments until when an answer has to be there, for the transports of this package.

A moment holds in the thread that sets it, because there the answer is read.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

_UNTIL: ContextVar[float | None] = ContextVar("until", default=None)


def allowed_s(request: httpx.Request) -> float | None:
    """Seconds that an exchange may take until the head of its answer; None if there is no bound."""
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    seconds = [timeouts.get(step) for step in ("pool", "connect", "write", "read")]
    return None if None in seconds else sum(each for each in seconds if each is not None)


@contextmanager
def answer_within(seconds: float | None) -> Iterator[None]:
    """Bound whole answers: what is sent and read inside ends in this time, or as a ReadTimeout.

    It holds for ``HeadTransport``, in the thread that enters it, and counts what a reader of
    pieces does not see: pieces that decode to nothing, and the lines between chunks.

    Args:
        seconds: from now on; None for no bound of its own.
    """
    with until(sooner(None, seconds)):
        yield


def sooner(end: float | None, seconds: float | None) -> float | None:
    """The soonest of several moments on the monotonic clock, one of which is what holds now.

    Args:
        end: a moment; None for none.
        seconds: from now on; None for no other moment.
    """
    ends = [each for each in (end, _UNTIL.get()) if each is not None]
    if seconds is not None:
        ends.append(time.monotonic() + seconds)
    return min(ends, default=None)


@contextmanager
def until(end: float | None) -> Iterator[None]:
    """What is read inside has to be there at a moment of the monotonic clock; None for none."""
    token = _UNTIL.set(end)
    try:
        yield
    finally:
        _UNTIL.reset(token)


def time_left(timeout: float | None) -> float | None:
    """Seconds that the next step of reading may take; None if there is no bound.

    Args:
        timeout: bound of one step; None for none.

    Raises:
        TimeoutError: the moment has passed.
    """
    end = _UNTIL.get()
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("no whole answer in time")
    return left if timeout is None else min(timeout, left)
