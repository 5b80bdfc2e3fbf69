"""Watches whether an engine's API answers its health check, and tells when it does so no more.

A process that hangs does not end, and keeps its socket open: only asking it shows.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEALTH_PATH = "/health"
_ASKED = 4  # times in the seconds after which an engine is given up


def is_healthy(http: httpx.Client) -> bool:
    """Whether the engine behind a client answers that it is well."""
    try:
        return http.get(f"http://engine{HEALTH_PATH}").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


class HealthWatch:
    """Asks an engine for its health, again and again.

    Args:
        api: path of the engine's unix socket.
        within_s: seconds without a good answer after which the engine is given up.
        on_ill: called at most once, from a thread of this class; its argument says why.
    """

    def __init__(self, api: Path, within_s: float, on_ill: Callable[[str], None]) -> None:
        self._api = api
        self._within_s = within_s
        self._on_ill = on_ill
        self._stopped = threading.Event()

    def start(self) -> None:
        """Ask from now on."""
        threading.Thread(target=self._watch, name="engine-health", daemon=True).start()

    def stop(self) -> None:
        """Ask no more. An answer that is being waited for is not told."""
        self._stopped.set()

    def _watch(self) -> None:
        pause_s = self._within_s / _ASKED
        well_at = time.monotonic()
        while not self._stopped.wait(pause_s):
            if self._ask(pause_s):
                well_at = time.monotonic()
            elif time.monotonic() - well_at > self._within_s and not self._stopped.is_set():
                self._on_ill(f"its health check has not been answered for {self._within_s:g} s")
                return

    def _ask(self, timeout_s: float) -> bool:
        # A connection of its own each time: one that is kept could outlive the API that made it.
        with closing(_Connection(self._api, timeout_s)) as connection:
            try:
                connection.request("GET", HEALTH_PATH)
                with connection.getresponse() as response:
                    return response.status == httpx.codes.OK
            except (OSError, HTTPException):
                return False


class _Connection(HTTPConnection):
    """A connection to a unix socket. That of httpx leaves the socket open if nobody listens."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(str(self._path))
        except BaseException:
            sock.close()
            raise
        self.sock = sock
