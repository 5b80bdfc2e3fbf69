"""The plaintext files of a sealed model, decrypted in parts into memory of the caller's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from regalia.core.weights import FilePart
from regalia.seal.pieces import Piece, read_amplification

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from regalia.seal.reader import SealedReader


class SealedFiles:
    """Implements ``core.weights.FileReader`` on a sealed model.

    Args:
        reader: of the opened model.
        threads: number of threads that read and decrypt.
    """

    def __init__(self, reader: SealedReader, *, threads: int) -> None:
        self._reader = reader
        self._threads = threads
        self._lock = threading.Lock()
        self.bytes_read = 0  # of ciphertext
        self._entries = {entry.path: entry for entry in reader.index.entries}

    def sizes(self) -> Mapping[str, int]:
        """Number of bytes by relative POSIX path."""
        return {path: entry.end - entry.offset for path, entry in self._entries.items()}

    def read(self, parts: Sequence[FilePart]) -> None:
        """Fill the memory of all parts; arguments and errors as ``FileReader``."""
        pieces = [self._piece(part) for part in parts]
        if not pieces:
            return
        spans = [(piece.offset, piece.out.nbytes) for piece in pieces]
        read = read_amplification(spans, self._reader.manifest.geometry)
        with self._lock:
            self.bytes_read += round(read * sum(size for _, size in spans))
        self._reader.load_into(pieces, threads=self._threads, progress=lambda _done, _total: None)

    def _piece(self, part: FilePart) -> Piece:
        entry = self._entries[part.path]
        start = entry.offset + part.offset
        if part.offset < 0 or start + part.out.nbytes > entry.end:
            raise ValueError("not a part of the file")
        return Piece(start, part.out)


class SmallFiles:
    """Some files of a model in ordinary memory. Implements ``core.weights.ModelFiles``.

    They are configuration and tokenizer, which the engine's library reads from memory files.

    Args:
        files: by path.
    """

    def __init__(self, files: dict[str, bytearray]) -> None:
        self._files = files

    @classmethod
    def of(cls, reader: SealedFiles, paths: Iterable[str]) -> SmallFiles:
        """Decrypt files. Raises as ``FileReader.read``.

        Args:
            reader: of the model.
            paths: of the files.
        """
        sizes = reader.sizes()
        files = {path: bytearray(sizes[path]) for path in paths}
        parts = [FilePart(path, 0, memoryview(data)) for path, data in files.items() if data]
        reader.read(parts)
        return cls(files)

    def paths(self) -> tuple[str, ...]:
        """Relative POSIX paths of the files."""
        return tuple(self._files)

    def view(self, path: str) -> memoryview:
        """A read-only view on a file's bytes."""
        return memoryview(self._files[path]).toreadonly()

    def allocate(self, size: int) -> memoryview:
        """More memory, ordinary as that of the files."""
        return memoryview(bytearray(size))

    def discard(self, path: str, start: int, stop: int) -> None:
        """Overwrite a part of a file that nothing uses any more; arguments as ``ModelFiles``."""
        self._files[path][start:stop] = bytes(stop - start)
