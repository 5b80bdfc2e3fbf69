"""Tries a request a few times: networks and servers fail for a moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from regalia.core.errors import CoreCode, UnavailableError
from regalia.store.names import StoreCode

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
ATTEMPTS = 4
_PAUSES_S = (0.2, 0.8, 2.0)  # before the second, third and fourth attempt


class AgainError(Exception):
    """An attempt failed for a reason that may be temporary."""

    def __init__(self, why: str, *, unreachable: bool = False) -> None:
        super().__init__(why)
        self.unreachable = unreachable


def in_attempts(
    ask: Callable[[], T],
    where: str,
    *,
    pause: Callable[[float], None] = time.sleep,
    attempts: int = ATTEMPTS,
) -> T:
    """Call until there is an answer, or an error that time does not heal.

    Args:
        ask: raises AgainError if the next attempt may succeed.
        where: address of the store, for messages.
        pause: replaces ``time.sleep`` between attempts in tests.
        attempts: how often to call at most; 1 to 4.

    Raises:
        UnavailableError: PEER_UNREACHABLE or STORE_FAILED, after the last attempt.
    """
    last: AgainError | None = None
    for number in range(attempts):
        if number:
            pause(_PAUSES_S[number - 1])
        try:
            return ask()
        except AgainError as exc:
            last = exc
    raise UnavailableError(
        CoreCode.PEER_UNREACHABLE if last and last.unreachable else StoreCode.STORE_FAILED,
        f"{where}: {attempts} attempts, the last one: {last}",
    ) from last
