"""Bounds of a listing, whose end the server decides: pages, entries and time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError, UnavailableError
from regalia.store.names import StoreCode

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES_MAX = 10_000
ENTRIES_MAX = 1_000_000  # all of them are held in memory
LISTING_S = 3600.0  # seconds; each page alone may take minutes


class ListingBounds:
    """Counts the pages of one listing.

    Args:
        where: address of the store, for messages.
        clock: replaces ``time.monotonic`` in tests.
    """

    def __init__(self, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._where = where
        self._clock = clock
        self._end = clock() + LISTING_S
        self._pages = 0
        self._entries = 0

    def count(self, entries: int) -> None:
        """Count a page.

        Args:
            entries: on it.

        Raises:
            IntegrityError: STORE_ANSWER_WRONG, the listing has no end.
            UnavailableError: STORE_FAILED, it takes too long.
        """
        self._pages += 1
        self._entries += entries
        if self._pages > PAGES_MAX or self._entries > ENTRIES_MAX:
            raise IntegrityError(
                StoreCode.STORE_ANSWER_WRONG,
                f"{self._where}: a listing without end, {self._entries} entries on"
                f" {self._pages} pages",
            )
        if self._clock() > self._end:
            raise UnavailableError(
                StoreCode.STORE_FAILED, f"{self._where}: a listing takes over {LISTING_S:.0f} s"
            )
