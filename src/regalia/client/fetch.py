"""Fetches a runtime's evidence. The request contains nothing but a challenge."""

from __future__ import annotations

import httpx

from regalia.client.errors import ClientCode
from regalia.client.streams import read_start, read_start_async
from regalia.core.errors import CoreCode, ParseError, UnavailableError
from regalia.host.deadlines import answer_within
from regalia.host.transports import answer_within_async
from regalia.wire.serving import EVIDENCE_PATH, LIMIT, MEDIA_TYPE, encode_challenge

TIMEOUT_S = 30.0
ANSWER_S = 120.0  # seconds for all of the evidence, however its bytes trickle in
_OK = 200


def runtime_url(text: str) -> httpx.URL:
    """Parse the address of a runtime or relay: http(s), host, optional port and path prefix.

    Raises:
        ParseError: MALFORMED.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as exc:
        raise ParseError(CoreCode.MALFORMED, f"address {text[:200]!r}: {exc}") from exc
    if url.scheme not in ("http", "https") or not url.host or url.query or url.userinfo:
        raise ParseError(
            CoreCode.MALFORMED, f"address {text[:200]!r}: want http://HOST[:PORT] or https://…"
        )
    return url.copy_with(path=url.path.rstrip("/") or "/", fragment=None)


def under(base_url: httpx.URL, path: str) -> httpx.URL:
    """Address of one of the runtime's own paths.

    Args:
        base_url: address of the runtime or of a relay, with an optional path prefix.
        path: absolute path on the runtime.
    """
    return base_url.copy_with(path=base_url.path.rstrip("/") + path)


def fetch_evidence(inner: httpx.BaseTransport, base_url: httpx.URL, challenge: bytes) -> bytes:
    """Request the serving evidence for ``challenge``.

    Args:
        inner: transport for the request; need not be trusted.
        base_url: address of the runtime or of a relay.
        challenge: 32 fresh random bytes.

    Returns:
        Serving evidence, raw and untrusted, of at most 8 MiB.

    Raises:
        UnavailableError: PEER_UNREACHABLE or EVIDENCE_NOT_SERVED.
        ParseError: TOO_LARGE.
    """
    try:
        with answer_within(ANSWER_S):
            response = inner.handle_request(_question(base_url, challenge))
            try:
                _check_head(response, base_url)
                # One byte more than allowed shows that the body exceeds the limit.
                return _checked(read_start(response, LIMIT + 1))
            finally:
                response.close()
    except httpx.HTTPError as exc:
        raise unreachable(base_url, exc) from exc


async def fetch_evidence_async(
    inner: httpx.AsyncBaseTransport, base_url: httpx.URL, challenge: bytes
) -> bytes:
    """Request the serving evidence over an asynchronous transport, as ``fetch_evidence`` does.

    Args:
        inner: transport for the request; need not be trusted.
        base_url: address of the runtime or of a relay.
        challenge: 32 fresh random bytes.
    """
    try:
        async with answer_within_async(ANSWER_S):
            response = await inner.handle_async_request(_question(base_url, challenge))
            try:
                _check_head(response, base_url)
                return _checked(await read_start_async(response, LIMIT + 1))
            finally:
                await response.aclose()
    except httpx.HTTPError as exc:
        raise unreachable(base_url, exc) from exc


def unreachable(base_url: httpx.URL, exc: httpx.HTTPError) -> UnavailableError:
    """Convert an error of the HTTP library to PEER_UNREACHABLE.

    Args:
        base_url: address that was contacted.
        exc: exception of the library.
    """
    return UnavailableError(
        CoreCode.PEER_UNREACHABLE, f"{base_url}: {type(exc).__name__}: {str(exc)[:200]}"
    )


def _question(base_url: httpx.URL, challenge: bytes) -> httpx.Request:
    url = under(base_url, EVIDENCE_PATH)
    return httpx.Request(
        "GET",
        url.copy_merge_params({"challenge": encode_challenge(challenge)}),
        headers={"accept": MEDIA_TYPE, "accept-encoding": "identity"},
        extensions={"timeout": httpx.Timeout(TIMEOUT_S).as_dict()},
    )


def _check_head(response: httpx.Response, base_url: httpx.URL) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if response.status_code != _OK or kind != MEDIA_TYPE:
        raise UnavailableError(
            ClientCode.EVIDENCE_NOT_SERVED,
            f"{under(base_url, EVIDENCE_PATH)}: status {response.status_code}, {kind[:80]!r}",
        )


def _checked(data: bytes) -> bytes:
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"serving evidence: more than {LIMIT} bytes")
    return data
