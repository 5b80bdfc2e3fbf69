"""The seam between the sealed model's reader, the store and an engine: three small interfaces."""

from __future__ import annotations

from typing import Protocol


class BlobSource(Protocol):
    """Ciphertext by name. Implemented in ``regalia.store``; read in ``regalia.seal``."""

    def size(self, name: str) -> int:
        """Size of the blob in bytes. Raises LocalError or UnavailableError."""

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer from ``offset``, or raise. Safe to call from several threads.

        Args:
            name: of the blob.
            offset: where to begin in the blob, in bytes.
            buffer: filled whole; its length says how much to read.
        """

    def describe(self) -> str:
        """Where the blobs are, for messages."""


class ModelFiles(Protocol):
    """A model's plaintext files, as views on locked memory. What an engine is built from."""

    def paths(self) -> tuple[str, ...]:
        """Relative POSIX paths, in the order of the model id."""

    def view(self, path: str) -> memoryview:
        """The file's bytes, read-only, without a copy. Valid until the model is wiped."""
