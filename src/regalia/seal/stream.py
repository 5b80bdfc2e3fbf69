"""Reads a model's files once as one plaintext stream, and computes their digests."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from regalia.core.errors import LocalError
from regalia.core.types import Digest
from regalia.crypto.aead import wipe
from regalia.host.localfs import os_errors
from regalia.seal.codes import SealCode
from regalia.seal.scan import FoundFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from regalia.seal.plan import PlacedFile, Plan

_EMPTY = Digest.of(b"")  # of an empty file, which has no pieces


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a buffer that belongs to one file."""

    file: int  # number of the file in the plan
    start: int
    stop: int


class ModelStream:
    """Reads the stream of a plan, from one of its bytes to the end.

    Args:
        plan: of the whole stream.
        start: offset in the stream of the first byte to read.
    """

    def __init__(self, plan: Plan, start: int = 0) -> None:
        self._placed = plan.placed
        ended = (number for number, placed in enumerate(plan.placed) if placed.end > start)
        self._number = next(ended, len(plan.placed))
        self._position = start  # in the stream
        self._fd = -1

    def fill(self, buffer: memoryview) -> tuple[Piece, ...]:
        """Fill the whole buffer with the next bytes of the stream.

        Returns:
            The parts of the buffer that belong to files. The rest is alignment, and zero.

        Raises:
            LocalError: MODEL_CHANGED, or a file cannot be read.
        """
        pieces: list[Piece] = []
        done = 0
        while done < buffer.nbytes:
            placed = self._placed[self._number]
            if self._position == placed.end:  # also skips empty files
                self._leave(placed)
                continue
            # Zero the gap before the file: the buffer may still hold the plaintext of an earlier
            # chunk.
            if self._position < placed.offset:
                gap = min(placed.offset - self._position, buffer.nbytes - done)
                wipe(buffer[done : done + gap])
                done += gap
                self._position += gap
                continue
            size = min(placed.end - self._position, buffer.nbytes - done)
            self._read(placed, buffer[done : done + size])
            pieces.append(Piece(self._number, done, done + size))
            done += size
            self._position += size
        return tuple(pieces)

    def finish(self) -> None:
        """Check that the last file is unchanged. Call it after the whole stream was read."""
        if self._number < len(self._placed):
            self._leave(self._placed[self._number])

    def _read(self, placed: PlacedFile, view: memoryview) -> None:
        path = placed.file.source
        with os_errors(path):
            if self._fd < 0:
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                self._check_same(placed)
            offset = self._position - placed.offset
            done = 0
            while done < view.nbytes:
                count = os.preadv(self._fd, [view[done:]], offset + done)
                if count == 0:
                    raise _changed(placed)
                done += count

    def _leave(self, placed: PlacedFile) -> None:
        if self._fd >= 0:
            self._check_same(placed)
            self.close()
        self._number += 1

    def _check_same(self, placed: PlacedFile) -> None:
        # Called before the first and after the last read: inode, size and times of the open file
        # show that it is the scanned file and was not written to.
        if FoundFile.of(placed.file.path, placed.file.source, os.fstat(self._fd)) != placed.file:
            raise _changed(placed)

    def close(self) -> None:
        """Close the current file, if one is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _changed(placed: PlacedFile) -> LocalError:
    return LocalError(
        SealCode.MODEL_CHANGED, f"{placed.file.path!a} changed while it was being sealed"
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the stream: the file that was hashed last, and the digest of what came of it."""

    file: int  # number in the plan; -1 before the first one
    digest: Digest


class FileDigests:
    """Computes the SHA-256 of every file from pieces that arrive in stream order.

    Args:
        done: digests of files that were hashed before, by their numbers.
        continued: a file whose beginning was hashed before, and its hasher.
    """

    def __init__(
        self,
        done: Mapping[int, Digest] | None = None,
        continued: tuple[int, hashlib._Hash] | None = None,
    ) -> None:
        self._digests = dict(done or {})
        self._number, self._hasher = continued or (-1, hashlib.sha256())

    def update(self, pieces: tuple[Piece, ...], buffer: memoryview) -> None:
        """Hash the pieces of one buffer.

        Args:
            pieces: parts of the buffer that belong to files.
            buffer: plaintext of one chunk.
        """
        for piece in pieces:
            if piece.file != self._number:
                self._keep()
                self._number, self._hasher = piece.file, hashlib.sha256()
            self._hasher.update(buffer[piece.start : piece.stop])

    def mark(self) -> Mark:
        """How far it is. Call it in the thread that calls ``update``."""
        return Mark(self._number, Digest(self._hasher.digest()))

    def ended(self, number: int) -> Digest:
        """Digest of a file after which another one was begun. Raises KeyError."""
        return self._digests[number]

    def _keep(self) -> None:
        if self._number >= 0:
            self._digests[self._number] = Digest(self._hasher.digest())

    def of(self, number: int) -> Digest:
        """Digest of a file whose pieces were all hashed. A file without pieces is empty."""
        self._keep()
        return self._digests.get(number, _EMPTY)
