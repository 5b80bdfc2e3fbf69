"""What a runtime and the workers of its engine say to each other over their private socket.

Each message is a frame: four bytes of length, big-endian, and a JSON object with a ``type``. The
32 bytes of the model key follow a ``Grant``. They are not part of the frame, so that they go
straight into memory that is wiped. A grant of the model says whether another one follows, of the
adapter that is merged into it, with a key of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import CoreCode, ParseError, UnavailableError

if TYPE_CHECKING:
    import socket

FRAME_MAX = 1 << 16  # bytes
KEY_SIZE = 32  # bytes
_LENGTH = 4  # bytes


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="hello"):
    """A worker asks for its key."""

    rank: int  # among the workers of its group, from 0
    workers: int  # in its group


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="grant", kw_only=True):
    """What a worker opens the model, or its adapter, with. The key follows."""

    store: str
    folder: str  # that relative paths start from
    cache: str
    cache_bytes: int
    peers: list[str]
    owner_key: str
    model_id: str
    manifest: str  # digest of the signed payload, so that a store cannot show another version
    threads: int
    left_s: float  # until the first of the leases ends
    adapter_follows: bool = False  # a grant and a key of the adapter


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="hold"):
    """The lease was renewed."""

    left_s: float


class Loaded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="loaded", kw_only=True):
    """A worker has its weights."""

    tensors: int
    size: int  # bytes of tensors that it wanted
    read: int  # bytes of ciphertext that it read for them
    seconds: float


class Failed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="failed"):
    """A worker cannot load the model."""

    code: str
    what: str


Frame = Hello | Grant | Hold | Loaded | Failed
_DECODER = msgspec.json.Decoder(Frame)


def send(sock: socket.socket, frame: Frame, key: memoryview | None = None) -> None:
    """Send one message.

    Args:
        sock: stream socket.
        frame: the message.
        key: the model key, which follows a ``Grant``.

    Raises:
        OSError: the peer is gone.
    """
    data = msgspec.json.encode(frame)
    sock.sendall(len(data).to_bytes(_LENGTH, "big") + data)
    if key is not None:
        sock.sendall(key)


def receive(sock: socket.socket) -> Frame | None:
    """Receive one message; None if the peer has closed the connection between two.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
        UnavailableError: the connection ended within a message.
        OSError: it broke, or a timeout of the socket's ran out.
    """
    head = bytearray(_LENGTH)
    if not _fill(sock, memoryview(head), may_end=True):
        return None
    size = int.from_bytes(head, "big")
    if size > FRAME_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"a message of {size} bytes, at most {FRAME_MAX}")
    data = bytearray(size)
    fill(sock, memoryview(data))
    try:
        frame: Frame = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"message of a worker or runtime: {exc}") from exc
    return frame


def fill(sock: socket.socket, out: memoryview) -> None:
    """Receive exactly as many bytes as ``out`` has room for.

    Args:
        sock: stream socket.
        out: writable.

    Raises:
        UnavailableError: the connection ended before.
        OSError: it broke.
    """
    _fill(sock, out, may_end=False)


def _fill(sock: socket.socket, out: memoryview, *, may_end: bool) -> bool:
    done = 0
    while done < len(out):
        count = sock.recv_into(out[done:])
        if count == 0:
            if may_end and done == 0:
                return False
            raise UnavailableError(CoreCode.PEER_UNREACHABLE, "the engine's worker is gone")
        done += count
    return True
