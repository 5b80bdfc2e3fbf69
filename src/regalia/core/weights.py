"""Interfaces between stores of ciphertext, the reader of sealed models, and engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class BlobSource(Protocol):
    """A store of named ciphertext. ``regalia.store`` implements it, ``regalia.seal`` reads it."""

    def size(self, name: str) -> int:
        """Size of the blob in bytes. Raises LocalError or UnavailableError."""

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer, or raise. May be called from several threads.

        Args:
            name: name of the blob.
            offset: offset in the blob of the first byte to read.
            buffer: buffer to fill; its length is the number of bytes to read.
        """

    def describe(self) -> str:
        """Location of the blobs, for messages."""


@runtime_checkable
class HasCopies(Protocol):
    """What a store has as well if it reads from copies that nobody vouches for."""

    def distrust(self) -> bool:
        """Forget the copies, and read from the store alone from now on.

        Returns:
            Whether anything had come from them.
        """


class Reading(NamedTuple):
    """How a store that is far away likes to be read. Both are upper bounds.

    Attributes:
        size: bytes of one reading.
        at_once: readings under way at the same time.
    """

    size: int
    at_once: int


@runtime_checkable
class IsDistant(Protocol):
    """What a store has as well if a reading costs more than its bytes: a way there and back."""

    def reading(self) -> Reading | None:
        """How to read it; None if what it reads from is near."""


def reading_of(source: object) -> Reading | None:
    """How a source likes to be read if it is distant, and None if it is near."""
    return source.reading() if isinstance(source, IsDistant) else None


class ModelFiles(Protocol):
    """A model's plaintext files as views on locked memory. Engines are built from it."""

    def paths(self) -> tuple[str, ...]:
        """Relative POSIX paths of the files, in the order that the model id is computed in."""

    def view(self, path: str) -> memoryview:
        """A read-only view on a file's bytes, without a copy, valid until the model is wiped."""

    def allocate(self, size: int) -> memoryview:
        """More memory of the same kind: zeros, writable, page-aligned, wiped with the model.

        For tensors that the architecture wants in another layout than the files have. Raises
        LocalError if it cannot be had.
        """

    def discard(self, path: str, start: int, stop: int) -> None:
        """Overwrite a part of a file that has been copied to memory from ``allocate``.

        Args:
            path: path of the file.
            start: offset in the file of the first byte.
            stop: offset after the last byte. Views on this part must not be used any more.
        """


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a plaintext file, and the memory that it is decrypted into.

    Attributes:
        path: relative POSIX path of the file in the model.
        offset: offset in the file of the first byte.
        out: writable and contiguous; its length is the number of bytes.
    """

    path: str
    offset: int
    out: memoryview


class FileReader(Protocol):
    """A model's plaintext files, decrypted in parts into memory of the caller's."""

    @property
    def bytes_read(self) -> int:
        """Bytes of ciphertext that were read so far."""

    def sizes(self) -> Mapping[str, int]:
        """Number of bytes by relative POSIX path."""

    def read(self, parts: Sequence[FilePart]) -> None:
        """Fill the memory of all parts, or wipe it and raise.

        Args:
            parts: in any order.

        Raises:
            IntegrityError: CHUNK_FORGED.
            KeyAccessError: the lease was lost.
            LocalError, UnavailableError: ciphertext cannot be read.
        """
