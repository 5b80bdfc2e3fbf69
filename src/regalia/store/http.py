"""Reads ciphertext of a folder on an HTTP server. The server is untrusted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx

from regalia.core.errors import CoreCode, UsageError
from regalia.store.ranges import RangedBlobs

if TYPE_CHECKING:
    from collections.abc import Callable


class HttpBlobs(RangedBlobs):
    """Reads blobs under a URL with range requests. May be used from several threads.

    Args:
        url: http or https address of the folder with the blobs. Redirects are not followed.
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        # A refused text is not repeated: it may hold credentials.
        try:
            self._url = httpx.URL(url if url.endswith("/") else url + "/")
        except httpx.InvalidURL as exc:
            raise UsageError(CoreCode.BAD_CONFIG, "store http(s)://…: it is no URL") from exc
        if self._url.userinfo or self._url.query or self._url.fragment:
            raise UsageError(
                CoreCode.BAD_CONFIG, "store http(s)://…: no credentials or query belong in it"
            )
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise UsageError(CoreCode.BAD_CONFIG, "store: want http(s)://HOST[:PORT]/PATH/")
        super().__init__(transport=transport, pause=pause)

    def describe(self) -> str:
        """Address of the store."""
        return str(self._url)

    def _name(self, name: str) -> str:
        return f"{self._url}{name}"

    def _request(self, name: str, first: int, last: int) -> httpx.Request:
        return self._http.build_request(
            "GET",
            self._url.join(name),
            headers={"range": f"bytes={first}-{last}", "accept-encoding": "identity"},
        )
