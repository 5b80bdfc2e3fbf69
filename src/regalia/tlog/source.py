"""Sources of a log's data for an auditor: the log's database, or its public HTTP address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import httpx

from regalia.core.errors import CoreCode, LogError, UnavailableError, UsageError
from regalia.tlog.codes import TlogCode
from regalia.tlog.note import NOTE_LIMIT
from regalia.tlog.tiles import BUNDLE_MAX

if TYPE_CHECKING:
    from regalia.tlog.log import LogReader
    from regalia.tlog.tiles import Tile


class LogSource(Protocol):
    """Provides a log's data, which the reader must verify."""

    def checkpoint(self) -> str:
        """The latest checkpoint, as a signed note, untrusted."""

    def tile(self, tile: Tile) -> bytes:
        """Contents of one tile or entry bundle, untrusted."""


class DatabaseSource:
    """Reads the log's own database."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    def checkpoint(self) -> str:
        """The latest checkpoint. Raises LogError LOG_UNREADABLE."""
        return self._reader.checkpoint()

    def tile(self, tile: Tile) -> bytes:
        """Contents of one tile. Raises LogError."""
        return self._reader.tile(tile)


class HttpSource:
    """Reads a C2SP tlog-tiles log over HTTP. Redirects are not followed."""

    def __init__(self, base_url: str, client: httpx.Client) -> None:
        """Prepare to read the log at ``base_url``.

        Args:
            base_url: of the log.
            client: should follow no redirects and bound the time for a whole answer, as
                ``regalia.host.fetch.open_client`` does. It is closed with this source.

        Raises:
            UsageError: BAD_USAGE, the address is not an http or https URL.
        """
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(CoreCode.BAD_USAGE, f"log URL {base_url[:200]!r}: want http(s)://…")
        self._base = base_url.rstrip("/")
        self._client = client

    def checkpoint(self) -> str:
        """The latest checkpoint.

        Raises:
            UnavailableError: PEER_UNREACHABLE.
            LogError: LOG_UNREADABLE, or CHECKPOINT_INVALID if it is not UTF-8.
        """
        data = self._get("checkpoint", limit=NOTE_LIMIT)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise LogError(TlogCode.CHECKPOINT_INVALID, "checkpoint: not UTF-8") from exc

    def tile(self, tile: Tile) -> bytes:
        """Contents of one tile. Raises UnavailableError or LogError LOG_UNREADABLE."""
        return self._get(tile.path(), limit=BUNDLE_MAX)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, path: str, *, limit: int) -> bytes:
        url = f"{self._base}/{path}"
        data = bytearray()
        try:
            with self._client.stream("GET", url) as response:
                if not response.is_success:
                    raise LogError(TlogCode.LOG_UNREADABLE, f"{url}: status {response.status_code}")
                for part in response.iter_bytes():
                    data += part
                    if len(data) > limit:
                        raise LogError(TlogCode.LOG_UNREADABLE, f"{url}: over {limit} bytes")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise UnavailableError(
                CoreCode.PEER_UNREACHABLE, f"{url}: {exc or type(exc).__name__}"
            ) from exc
        return bytes(data)
