"""Reads ciphertext from S3 and servers that speak its protocol. The server is untrusted.

botocore finds the credentials and the address, and signs. The requests themselves go the way of all
stores: bounded in time from the first byte of an answer on, no redirects, no proxies, and answers
that are compared with what was asked. botocore's own HTTP client follows a bucket to the region
that the server names, and waits without end for a head that trickles in.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any

import httpx
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    MetadataRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.session import Session

from regalia.core.errors import CoreCode, UnavailableError, UsageError
from regalia.host.transports import answer_within
from regalia.store.names import StoreCode
from regalia.store.ranges import TIMEOUT_S, AgainError, RangedBlobs
from regalia.store.s3_address import check_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest

    from regalia.store.s3_address import S3Address

# At level DEBUG, botocore logs session tokens and signatures.
logging.getLogger("botocore").setLevel(logging.WARNING)

_PROBE = "manifest.json"
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
        # As other SDKs do, and as clouds set it: AWS_REGION counts too. botocore does not read it.
        region = ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)
        try:
            session = Session(session_vars={"region": region})
            _refuse_commands(session, address)
            self._base, self._region = _resolve(session, address)
        except (BotoCoreError, ValueError) as exc:
            # The type only: such texts quote files and addresses.
            raise _bad(address, f"the SDK's configuration: {type(exc).__name__}") from None
        self._credentials = _credentials(session, address)
        super().__init__(transport=transport, pause=pause)

    def describe(self) -> str:
        """Bucket, prefix and host."""
        return f"{self._address.describe()} at {httpx.URL(self._base).netloc.decode()}"

    def _name(self, name: str) -> str:
        return f"{self._address.describe()}{name}"

    def _request(self, name: str, first: int, last: int) -> httpx.Request:
        headers = {"range": f"bytes={first}-{last}"}
        with self._lock:
            known = self._firsts.get(name)
        if known is not None and _ETAG.fullmatch(known.version[0]):
            headers["if-match"] = known.version[0]
        request = AWSRequest("GET", self._base + name, headers=headers)
        try:
            frozen = self._credentials.get_frozen_credentials()
            S3SigV4Auth(frozen, "s3", self._region).add_auth(request)
        except (HTTPClientError, NoConnectionError, MetadataRetrievalError) as exc:
            raise AgainError(
                f"credentials could not be fetched: {type(exc).__name__}", unreachable=True
            ) from None
        except (BotoCoreError, ClientError, RuntimeError) as exc:
            # RuntimeError: credentials that are still expired after they were fetched again.
            raise self._refused(name, f"they could not be renewed: {type(exc).__name__}") from None
        # This header is not signed: proxies in front of such servers change it.
        return self._http.build_request(
            "GET", request.url, headers={**request.headers, "accept-encoding": "identity"}
        )

    def _version(self, response: httpx.Response) -> tuple[str, ...]:
        headers = response.headers
        return (headers.get("etag", "")[:256], headers.get("x-amz-version-id", "")[:1024])

    def _check_status(self, name: str, response: httpx.Response) -> None:
        status = response.status_code
        if status in _REDIRECTS:
            raise self._wrong(name, f"a redirect ({status}), not followed{_region_of(response)}")
        if status == _CHANGED:
            raise self._wrong(name, "it has changed since reading began")
        if _BAD_REQUEST <= status < _SERVER_ERROR:
            self._check_problem(name, response, _problem(response))
        super()._check_status(name, response)

    def _check_problem(self, name: str, response: httpx.Response, code: str) -> None:
        status = response.status_code
        said = f"status {status} {code}".rstrip()
        if status == _BUSY or code in _MAY_PASS:
            raise AgainError(said)
        if status in _FORBIDDEN or code in _OF_CREDENTIALS:
            raise self._refused(name, said)
        if status == _NOT_FOUND:
            raise UnavailableError(
                StoreCode.BLOB_MISSING,
                f"bucket {self._address.bucket}, key {self._address.prefix}{name}: {said}",
            )
        raise self._wrong(name, f"{said}{_region_of(response)}")

    def _refused(self, name: str, why: str) -> UnavailableError:
        source = str(self._credentials.method)
        return UnavailableError(
            StoreCode.STORE_ACCESS_REFUSED,
            f"{self._name(name)}: {why}; credentials from {source[:80]}",
        )


def _refuse_commands(session: Session, address: S3Address) -> None:
    """Whoever writes the shared files may be outside of the TEE, and must run nothing inside."""
    for profile in session.full_config.get("profiles", {}).values():
        if "credential_process" in profile:
            raise _bad(address, "a profile of the shared files names a credential_process")


def _credentials(session: Session, address: S3Address) -> Any:  # noqa: ANN401 - one of many classes
    found, why = None, "the SDK's usual places hold none"
    try:
        found = session.get_credentials()
    except (BotoCoreError, ClientError) as exc:
        why = type(exc).__name__
    if found is None:
        what = f"store {address.describe()}: no credentials: {why}"
        raise UsageError(StoreCode.STORE_CREDENTIALS_MISSING, what)
    return found


def _bad(address: S3Address, what: str) -> UsageError:
    return UsageError(CoreCode.BAD_CONFIG, f"store {address.describe()}: {what}")


def _resolve(session: Session, address: S3Address) -> tuple[str, str]:
    """URL that names are appended to, and the region that requests are signed for."""
    style = {"addressing_style": address.addressing} if address.addressing else None
    client = session.create_client(
        "s3",
        region_name=address.region,
        endpoint_url=address.endpoint,
        config=Config(signature_version=UNSIGNED, s3=style),
    )
    url = _address_of(client, address.bucket, address.prefix + _PROBE)
    region = str(client.meta.region_name)
    client.close()
    check_endpoint(url)
    return url.removesuffix(_PROBE), region


def _address_of(client: Any, bucket: str, key: str) -> str:  # noqa: ANN401 - a class made at runtime
    """What botocore makes of endpoint, style and region for a request, of which nothing is sent.

    The address of a presigned URL is another: botocore takes the global endpoint for those.
    """
    seen: list[str] = []

    def keep(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        seen.append(str(request.url))
        return AWSResponse(request.url, 200, {}, None)

    client.meta.events.register("before-send.s3.GetObject", keep)
    client.get_object(Bucket=bucket, Key=key)
    return seen[0]


def _problem(response: httpx.Response) -> str:
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


def _region_of(response: httpx.Response) -> str:
    """Words about the region that the server names, which may be the setting to correct."""
    region = response.headers.get("x-amz-bucket-region", "")
    return f"; it says that the bucket is in {region}" if _REGION.fullmatch(region) else ""
