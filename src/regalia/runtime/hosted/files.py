"""The plaintext files of a sealed model, decrypted in parts into memory of the caller's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from regalia.core.weights import FilePart
from regalia.crypto.aead import wipe
from regalia.runtime.hosted.chunks import KeptChunks
from regalia.seal.pieces import Piece, stored_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from regalia.seal.reader import SealedReader


class SealedFiles:
    """Implements ``core.weights.FileReader`` on a sealed model.

    Readings in the order of the files read and decrypt no chunk twice: those at the two ends of a
    reading are kept for the next one.

    Args:
        reader: of the opened model.
        threads: number of threads that read and decrypt.
    """

    def __init__(self, reader: SealedReader, *, threads: int) -> None:
        self._reader = reader
        self._threads = threads
        self._geometry = reader.manifest.geometry
        self._kept = KeptChunks(self._geometry)
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
        with self._lock:
            try:
                self._read(pieces)
            except BaseException:
                self._kept.wipe()
                for piece in pieces:
                    wipe(piece.out)
                raise

    def forget(self) -> None:
        """Wipe what is kept for the next reading."""
        with self._lock:
            self._kept.wipe()

    def _read(self, pieces: list[Piece]) -> None:
        """Decrypt what is not here, and copy the ends from what is kept."""
        payload = self._geometry.payload
        ends = self._ends(pieces)
        loads: list[Piece] = []
        chunks: dict[int, memoryview] = {}
        for number in ends:
            found = self._kept.find(number)
            if found is None:
                found = self._kept.claim(number)
                loads.append(Piece(number * payload, found))
            chunks[number] = found
        copies: list[tuple[int, Piece]] = []
        for piece in pieces:
            for end, part in _cut(piece, ends, payload):
                if end is None:
                    loads.append(part)
                else:
                    copies.append((end, part))
        self._load(loads)
        for number, part in copies:
            start = part.offset - number * payload
            part.out[:] = chunks[number][start : start + part.out.nbytes]

    def _ends(self, pieces: list[Piece]) -> tuple[int, ...]:
        """The first and the last chunk of a reading, unless all of it goes to one piece."""
        payload = self._geometry.payload
        first = min(piece.offset for piece in pieces) // payload
        last = (max(piece.end for piece in pieces) - 1) // payload
        return tuple(
            number
            for number in sorted({first, last})
            if not any(self._holds(piece, number) for piece in pieces)
        )

    def _holds(self, piece: Piece, number: int) -> bool:
        """Whether a piece wants a whole chunk."""
        start = number * self._geometry.payload
        stop = min(start + self._geometry.payload, self._geometry.stream_size)
        return piece.offset <= start and stop <= piece.end

    def _load(self, loads: list[Piece]) -> None:
        if not loads:
            return
        spans = sorted((piece.offset, piece.end) for piece in loads)
        self.bytes_read += stored_bytes(spans, self._geometry)
        self._reader.load_into(loads, threads=self._threads, progress=lambda _done, _total: None)

    def _piece(self, part: FilePart) -> Piece:
        entry = self._entries[part.path]
        start = entry.offset + part.offset
        if part.offset < 0 or start + part.out.nbytes > entry.end:
            raise ValueError("not a part of the file")
        return Piece(start, part.out.cast("B"))


def _cut(piece: Piece, ends: Sequence[int], payload: int) -> Iterator[tuple[int | None, Piece]]:
    """Cut a piece where the chunks at a reading's ends begin and end.

    Args:
        piece: a part of the reading.
        ends: numbers of those chunks, in ascending order.
        payload: bytes of plaintext in a chunk.

    Yields:
        The number of the chunk that a part lies in, and the part; None if it lies between them.
    """
    at = piece.offset
    for number in ends:
        start, stop = number * payload, (number + 1) * payload
        if at < min(start, piece.end):
            yield None, _part(piece, at, min(start, piece.end))
            at = min(start, piece.end)
        if start <= at < min(stop, piece.end):
            yield number, _part(piece, at, min(stop, piece.end))
            at = min(stop, piece.end)
    if at < piece.end:
        yield None, _part(piece, at, piece.end)


def _part(piece: Piece, start: int, stop: int) -> Piece:
    return Piece(start, piece.out[start - piece.offset : stop - piece.offset])


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
