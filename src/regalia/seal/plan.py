"""Plans the position of every file in the plaintext stream.

Spec: docs/spec/sealed-model.md, "Stream".
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import LocalError
from regalia.host.localfs import os_errors
from regalia.seal.codes import SealCode
from regalia.seal.format.index import ALIGNMENT
from regalia.seal.format.sealed import SHARDS_MAX, Geometry

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.seal.scan import FoundFile

_HEADER_LENGTH_SIZE = 8  # bytes at the start of a safetensors file; little-endian


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file, and the stream offset of its first byte."""

    file: FoundFile
    offset: int

    @property
    def end(self) -> int:
        """Stream offset of the first byte after the file."""
        return self.offset + self.file.size


@dataclass(frozen=True, slots=True)
class Plan:
    """Layout of the whole stream, computed before the files are read."""

    model: Path
    placed: tuple[PlacedFile, ...]
    geometry: Geometry


def plan(model: Path, files: tuple[FoundFile, ...], *, stride: int, shard_chunks: int) -> Plan:
    """Place the files one after the other, aligned so that an engine can use them in place.

    A file starts at a multiple of 64. A safetensors file is placed so that its data section does,
    because the offsets of its tensors are relative to that section.

    Args:
        model: folder of the model.
        files: files of that folder, in the order of their paths.
        stride: stored size of one chunk in bytes, including its tag.
        shard_chunks: maximum number of chunks in one shard.

    Raises:
        LocalError: MODEL_TOO_LARGE, or a file cannot be read.
    """
    placed: list[PlacedFile] = []
    end = 0
    for file in files:
        lead = _safetensors_lead(file)
        offset = end + -(end + lead) % ALIGNMENT
        placed.append(PlacedFile(file, offset))
        end = offset + file.size
    geometry = Geometry(stride, shard_chunks, end)
    if geometry.shard_count > SHARDS_MAX:
        raise LocalError(
            SealCode.MODEL_TOO_LARGE,
            f"{model}: {geometry.shard_count} shards, at most {SHARDS_MAX}",
        )
    return Plan(model, tuple(placed), geometry)


def _safetensors_lead(file: FoundFile) -> int:
    """Number of bytes before the data section, if the file looks like safetensors; otherwise 0.

    The result only affects the alignment, so a wrong header does no harm.
    """
    if not file.path.endswith(".safetensors") or file.size < _HEADER_LENGTH_SIZE:
        return 0
    path = file.source
    with os_errors(path):
        # The scan saw a regular file, but it may have been replaced since: O_NOFOLLOW refuses a
        # link, and O_NONBLOCK keeps a named pipe from blocking.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            head = os.read(fd, _HEADER_LENGTH_SIZE)
        finally:
            os.close(fd)
    lead = _HEADER_LENGTH_SIZE + int.from_bytes(head, "little")
    return lead if lead <= file.size else 0
