"""A read-only HTTP server for ciphertext. It has no key, and serves nothing secret.

It answers GET and HEAD of ``/NAME`` for names that ``store.names`` allows, for the whole file or
one byte range (RFC 9110, section 14). There are no listings, no writes, and no subfolders. Of a
cache it answers ``/pieces/KEY/NUMBER``, to whoever knows the prefix of the sealed file.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from regalia.core.errors import CoreCode, LocalError
from regalia.host.localfs import os_errors
from regalia.store.names import BLOB_NAME, StoreCode
from regalia.store.piece_cache import PIECE_KEY, PIECE_NUMBER, is_cache, open_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from regalia.core.errors import Code

# Bytes that are read and sent at a time. Each connection whose client does not read keeps about two
# of them, so they are what 256 such connections cost.
PIECE = 128 << 10
_RANGE = re.compile(r"bytes=(\d{0,20})-(\d{0,20})")
_OCTETS = "application/octet-stream"


def _refusal(status: int, code: Code, what: str, **headers: str) -> Response:
    body = {"code": code.name, "what": what, "why": code.why, "fix": code.fix}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(msgspec.json.encode(body), status, media_type="application/json", headers=named)


def _missing(name: str) -> Response:
    return _refusal(404, StoreCode.BLOB_MISSING, f"no blob {name[:80]!r} here")


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Parse a header with one byte range: (first, after the last), or None if unsatisfiable.

    Args:
        text: value of the Range header, untrusted.
        size: number of bytes in the blob.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    first, last = match.groups()
    if first:
        begin, end = int(first), (int(last) + 1 if last else size)
        if last and end <= begin:
            return None
    elif last:  # a suffix range, the last N bytes
        begin, end = max(0, size - int(last)), size
    else:
        return None
    end = min(end, size)
    return (begin, end) if begin < end else None


def open_blob(folder: Path, name: str) -> tuple[int, int] | None:
    """Open a blob: (file descriptor, size), or None if there is no such blob.

    The name cannot lead out of the folder: it must be on the allow-list, which has no slash, and
    symbolic links are not followed.

    Args:
        folder: the folder that is served.
        name: name of the blob, untrusted.
    """
    if not BLOB_NAME.fullmatch(name):
        return None
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(name, flags, dir_fd=folder_fd)
        except OSError:
            return None
    finally:
        os.close(folder_fd)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        return None
    return fd, info.st_size


class _FileResponse(Response):
    """Sends a range of an open file, and closes the file."""

    def __init__(self, fd: int, begin: int, end: int, *, head_only: bool) -> None:
        super().__init__(media_type=_OCTETS)
        self.headers["content-length"] = str(end - begin)
        self.headers["accept-ranges"] = "bytes"
        self._fd = fd
        self._begin = begin
        self._end = end
        self._head_only = head_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            offset = self._end if self._head_only else self._begin
            while offset < self._end:
                size = min(PIECE, self._end - offset)
                piece = await asyncio.to_thread(os.pread, self._fd, size, offset)
                if not piece:
                    return  # the file shrank; the client notices the truncated answer
                offset += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(self._fd)


async def _blob(folder: Path, http: Request) -> Response:
    name = http.path_params["name"]
    found = await asyncio.to_thread(open_blob, folder, name)
    if found is None:
        return _missing(name)
    fd, size = found
    head_only = http.method == "HEAD"
    wanted = http.headers.get("range")
    if wanted is None:
        return _FileResponse(fd, 0, size, head_only=head_only)
    span = parse_range(wanted, size)
    if span is None:
        os.close(fd)
        return _refusal(
            416, StoreCode.RANGE_REFUSED, f"range {wanted[:80]!r}", content_range=f"bytes */{size}"
        )
    begin, end = span
    response = _FileResponse(fd, begin, end, head_only=head_only)
    response.status_code = 206
    response.headers["content-range"] = f"bytes {begin}-{end - 1}/{size}"
    return response


def open_piece(folder: Path, key: str, number: str) -> tuple[int, int] | None:
    """Open a piece of a cache: (file descriptor, size), or None if there is no such piece.

    Args:
        folder: of the cache.
        key: of the blob, untrusted.
        number: of the piece, untrusted.
    """
    if not PIECE_KEY.fullmatch(key) or not PIECE_NUMBER.fullmatch(number):
        return None
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with open_pieces(folder, key) as pieces:
            fd = os.open(number, flags, dir_fd=pieces)
    except OSError:
        return None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        return None
    return fd, info.st_size


def _routes_of_cache(folder: Path) -> list[Route]:
    async def piece(http: Request) -> Response:
        key, number = http.path_params["key"], http.path_params["number"]
        found = await asyncio.to_thread(open_piece, folder, key, number)
        if found is None:
            return _missing(f"{key}/{number}")
        return _FileResponse(found[0], 0, found[1], head_only=http.method == "HEAD")

    return [Route("/pieces/{key}/{number}", piece, methods=["GET", "HEAD"])]


def build_app(folder: Path) -> Starlette:
    """Build the ASGI application that serves ``folder``: a sealed model, or a cache.

    Raises:
        LocalError: the folder does not exist, or holds neither.
    """
    with os_errors(folder):
        if not folder.is_dir():
            raise LocalError(CoreCode.NOT_A_DIRECTORY, f"{folder} is no directory")
        caches = is_cache(folder)
        if not caches and not (folder / "manifest.json").is_file():
            raise LocalError(CoreCode.FILE_MISSING, f"{folder}: no manifest.json in it")

    async def blob(http: Request) -> Response:
        return await _blob(folder, http)

    async def unknown(http: Request, _: Exception) -> Response:
        return _missing(http.url.path)

    async def health(_: Request) -> Response:
        return Response(b"ok\n", media_type="text/plain")

    model = [Route("/{name}", blob, methods=["GET", "HEAD"])]
    app = Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            *(_routes_of_cache(folder) if caches else model),
        ],
        exception_handlers={404: unknown, 405: unknown},
    )
    app.router.redirect_slashes = False
    return app
