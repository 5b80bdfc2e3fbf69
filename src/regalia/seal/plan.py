"""Where each file of a model goes in the plaintext stream. Spec: "Stream"."""

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

_HEADER_LENGTH_SIZE = 8  # bytes, at the head of a safetensors file


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file and the stream offset of its first byte."""

    file: FoundFile
    offset: int

    @property
    def end(self) -> int:
        """Stream offset just behind the file."""
        return self.offset + self.file.size


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole stream, before anything is read."""

    model: Path
    placed: tuple[PlacedFile, ...]
    geometry: Geometry


def plan(model: Path, files: tuple[FoundFile, ...], *, stride: int, shard_chunks: int) -> Plan:
    """Lay the files end to end, each aligned so that an engine can use its bytes in place.

    A file begins at a multiple of 64, except that a safetensors file begins where its data
    section, which its tensors' offsets count from, falls on one.

    Args:
        model: the model's folder.
        files: of that folder, in the order of their names.
        stride: bytes that one chunk takes in a file, tag included.
        shard_chunks: chunks of one sealed file at most.

    Raises:
        LocalError: MODEL_TOO_LARGE, or a file cannot be read.
    """
    placed: list[PlacedFile] = []
    end = 0
    for file in files:
        lead = _safetensors_lead(model, file)
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


def _safetensors_lead(model: Path, file: FoundFile) -> int:
    """Bytes before the data section, if the file looks like safetensors; otherwise 0.

    It only chooses an alignment, so a file that lies about itself harms nobody.
    """
    if not file.path.endswith(".safetensors") or file.size < _HEADER_LENGTH_SIZE:
        return 0
    path = model / file.path
    with os_errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            head = os.read(fd, _HEADER_LENGTH_SIZE)
        finally:
            os.close(fd)
    lead = _HEADER_LENGTH_SIZE + int.from_bytes(head, "little")
    return lead if lead <= file.size else 0
