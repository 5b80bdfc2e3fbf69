"""Reads raw bodies of outer responses, without content decoding.

Sealed bodies are ciphertext and never compressed, so a content encoding would only be a way for
the path to make the client decompress untrusted data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def pieces(response: httpx.Response) -> Iterator[bytes]:
    """Yield bytes as they arrive from a synchronous transport.

    Raises:
        TypeError: the transport returned an asynchronous stream, which is a bug of the caller.
    """
    if not isinstance(response.stream, httpx.SyncByteStream):
        raise TypeError("the inner transport is not synchronous")
    return iter(response.stream)


def pieces_async(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield bytes as they arrive from an asynchronous transport.

    Raises:
        TypeError: the transport returned a synchronous stream, which is a bug of the caller.
    """
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the inner transport is not asynchronous")
    return aiter(response.stream)


def read_start(response: httpx.Response, size: int) -> bytes:
    """Read at most the first ``size`` bytes of a body, such as an error page.

    Args:
        response: response whose body was not read yet.
        size: maximum number of bytes to return.
    """
    data = bytearray()
    for piece in pieces(response):
        data += piece
        if len(data) >= size:
            break
    return bytes(data[:size])


async def read_start_async(response: httpx.Response, size: int) -> bytes:
    """Read the start of a body from an asynchronous transport, as ``read_start`` does.

    Args:
        response: response whose body was not read yet.
        size: maximum number of bytes to return.
    """
    data = bytearray()
    async for piece in pieces_async(response):
        data += piece
        if len(data) >= size:
            break
    return bytes(data[:size])
