"""Reads ciphertext from S3 and servers that speak its protocol. The server is untrusted."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import httpx

from regalia.core.errors import UnavailableError
from regalia.host.deadlines import answer_within
from regalia.store.attempts import AgainError
from regalia.store.names import StoreCode
from regalia.store.ranges import TIMEOUT_S, RangedBlobs
from regalia.store.s3_access import S3Access

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from regalia.store.s3_address import S3Address

_PROBLEM_MAX = 4096  # bytes that are read of an error's document
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
# Only such tags are sent back: the server may have written anything.
_ETAG = re.compile(r'"[!#-~]{1,200}"')
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_BAD_REQUEST = 400
_NOT_FOUND = 404
_CHANGED = 412  # what If-Match asks for is not there any more
_BUSY = 429
_SERVER_ERROR = 500
_REDIRECTS = range(300, 400)
_FORBIDDEN = frozenset({401, 403})
# Codes of status 400 that are about the credentials, and those that may pass.
_OF_CREDENTIALS = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_MAY_PASS = frozenset({"RequestTimeout", "SlowDown"})


class S3Blobs(RangedBlobs):
    """Reads blobs under a prefix of a bucket. May be used from several threads.

    Args:
        address: bucket, prefix, and what the SDK's configuration does not say.
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.

    Raises:
        UsageError: BAD_CONFIG, also of the SDK's own configuration; STORE_CREDENTIALS_MISSING.
    """

    def __init__(
        self,
        address: S3Address,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address = address
        self._access = S3Access(address)
        super().__init__(transport=transport, pause=pause)

    def describe(self) -> str:
        """Bucket, prefix and host."""
        return f"{self._address.describe()} at {httpx.URL(self._access.base).netloc.decode()}"

    def _tls(self) -> ssl.SSLContext:
        return self._access.tls

    def _name(self, name: str) -> str:
        return f"{self._address.describe()}{name}"

    def _request(self, name: str, first: int, last: int) -> httpx.Request:
        headers = {"range": f"bytes={first}-{last}"}
        with self._lock:
            known = self._firsts.get(name)
        if known is not None and _ETAG.fullmatch(known.version[0]):
            headers["if-match"] = known.version[0]
        url, signed = self._access.sign("GET", self._access.base + name, headers)
        # This header is not signed: proxies in front of such servers change it.
        return self._http.build_request(
            "GET", url, headers={**signed, "accept-encoding": "identity"}
        )

    def _version(self, response: httpx.Response) -> tuple[str, ...]:
        headers = response.headers
        return (headers.get("etag", "")[:256], headers.get("x-amz-version-id", "")[:1024])

    def _check_status(self, name: str, response: httpx.Response) -> None:
        status = response.status_code
        if status in _REDIRECTS:
            raise self._wrong(name, f"a redirect ({status}), not followed{region_of(response)}")
        if status == _CHANGED:
            raise self._wrong(name, "it has changed since reading began")
        if _BAD_REQUEST <= status < _SERVER_ERROR:
            self._check_problem(name, response, problem_of(response))
        super()._check_status(name, response)

    def _check_problem(self, name: str, response: httpx.Response, code: str) -> None:
        status = response.status_code
        said = f"status {status} {code}".rstrip()
        if status == _BUSY or code in _MAY_PASS:
            raise AgainError(said)
        if status in _FORBIDDEN or code in _OF_CREDENTIALS:
            raise self._access.refused(self._name(name), said)
        if status == _NOT_FOUND:
            raise UnavailableError(
                StoreCode.BLOB_MISSING,
                f"bucket {self._address.bucket}, key {self._address.prefix}{name}: {said}",
            )
        raise self._wrong(name, f"{said}{region_of(response)}")


def problem_of(response: httpx.Response) -> str:
    """The code in an error's document; empty if there is none in its first bytes."""
    text = b""
    try:
        with answer_within(TIMEOUT_S):
            for piece in response.iter_raw():
                text += piece[:_PROBLEM_MAX]
                if len(text) >= _PROBLEM_MAX:
                    break
    except httpx.TransportError:
        pass  # the status alone says enough
    found = _CODE.search(text)
    return found[1].decode() if found else ""


def region_of(response: httpx.Response) -> str:
    """Words about the region that the server names, which may be the setting to correct."""
    region = response.headers.get("x-amz-bucket-region", "")
    return f"; it says that the bucket is in {region}" if _REGION.fullmatch(region) else ""
