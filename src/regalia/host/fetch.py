"""One GET or POST: an address that the operator configured, a bounded answer, no redirects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, UnavailableError, UsageError
from regalia.host.fetch_codes import FetchCode
from regalia.host.transports import HeadTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.core.errors import Code

ANSWER_MAX = 1 * MIB  # bytes
TIMEOUT_S = 30.0
ANSWER_S = 60.0  # seconds for a whole answer, however its bytes trickle in
_OK = 200
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Untrusted."""

    body: bytes
    headers: Mapping[str, str]  # names in lower case


class VendorService:
    """A vendor's service at one address."""

    def __init__(self, base: str, client: httpx.Client) -> None:
        """Raises UsageError BAD_USAGE: ``base`` is no http or https URL."""
        try:
            url = httpx.URL(base)
        except httpx.InvalidURL as exc:
            raise UsageError(CoreCode.BAD_USAGE, f"{base[:200]!r} is no URL") from exc
        if url.scheme not in ("http", "https") or not url.host:
            raise UsageError(CoreCode.BAD_USAGE, f"{base[:200]!r}: want http://… or https://…")
        self._base = base.rstrip("/")
        self._client = client

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """Ask for one document.

        Args:
            path: begins with a slash.
            params: of the query.

        Raises:
            UnavailableError: PEER_UNREACHABLE, COLLATERAL_NOT_SERVED or
                COLLATERAL_SERVICE_FAILED.
        """
        url = f"{self._base}{path}"
        try:
            with self._client.stream("GET", url, params=params) as response:
                if response.status_code != _OK:
                    raise _refused(url, response.status_code)
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > ANSWER_MAX:
                        raise UnavailableError(
                            FetchCode.COLLATERAL_SERVICE_FAILED,
                            f"{url}: more than {ANSWER_MAX} bytes",
                        )
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(bytes(body), headers)
        except httpx.HTTPError as exc:
            raise UnavailableError(
                CoreCode.PEER_UNREACHABLE, f"{url}: {type(exc).__name__}"
            ) from exc


def post_json(url: str, question: Mapping[str, str], refused: Code, what: str) -> bytes:
    """The answer to one question. Untrusted.

    Args:
        url: of the service.
        question: sent as JSON.
        refused: the code if the service gives no answer that can be used.
        what: is asked for; names it in messages.

    Raises:
        UnavailableError: PEER_UNREACHABLE, or ``refused``.
    """
    body = bytearray()
    try:
        with open_client() as client, client.stream("POST", url, json=question) as response:
            if response.status_code != _OK:
                raise UnavailableError(refused, f"{what}: {url}: status {response.status_code}")
            for part in response.iter_bytes():
                body += part
                if len(body) > ANSWER_MAX:
                    raise UnavailableError(refused, f"{what}: {url}: more than {ANSWER_MAX} bytes")
    except httpx.HTTPError as exc:
        raise UnavailableError(
            CoreCode.PEER_UNREACHABLE, f"{what}: {url}: {type(exc).__name__}"
        ) from exc
    return bytes(body)


def open_client() -> httpx.Client:
    """Follows no redirect, and takes no proxy or credentials from the environment.

    Whole answers are bounded, as no server is to hold a command by sending a byte now and then.
    """
    return httpx.Client(
        transport=HeadTransport(ANSWER_S),
        timeout=TIMEOUT_S,
        trust_env=False,
        follow_redirects=False,
    )


def _refused(url: str, status: int) -> UnavailableError:
    missing = status == _NOT_FOUND
    code = FetchCode.COLLATERAL_NOT_SERVED if missing else FetchCode.COLLATERAL_SERVICE_FAILED
    return UnavailableError(code, f"{url}: status {status}")
