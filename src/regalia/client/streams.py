"""Raw bodies of outer responses. Nothing is decoded: what is sealed is not compressed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def pieces(response: httpx.Response) -> Iterator[bytes]:
    """Bytes as they arrive from a synchronous transport.

    Raises:
        TypeError: the transport gave an asynchronous stream (the caller's bug).
    """
    if not isinstance(response.stream, httpx.SyncByteStream):
        raise TypeError("the inner transport is not synchronous")
    return iter(response.stream)


def pieces_async(response: httpx.Response) -> AsyncIterator[bytes]:
    """Bytes as they arrive from an asynchronous transport.

    Raises:
        TypeError: the transport gave a synchronous stream (the caller's bug).
    """
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the inner transport is not asynchronous")
    return aiter(response.stream)


def read_start(response: httpx.Response, size: int) -> bytes:
    """At most ``size`` bytes of a body that is not wanted, such as an error page.

    Args:
        response: open.
        size: bytes.
    """
    data = bytearray()
    for piece in pieces(response):
        data += piece
        if len(data) >= size:
            break
    return bytes(data[:size])


async def read_start_async(response: httpx.Response, size: int) -> bytes:
    """``read_start`` for an asynchronous transport.

    Args:
        response: open.
        size: bytes.
    """
    data = bytearray()
    async for piece in pieces_async(response):
        data += piece
        if len(data) >= size:
            break
    return bytes(data[:size])
