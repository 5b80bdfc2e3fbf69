"""Files that nobody has sealed, read as those of a sealed model are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from regalia.core.weights import FilePart


class Files:
    """``core.weights.FileReader`` on bytes, which notes what is read."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked = 0
        self.fails = False

    @classmethod
    def of(cls, directory: Path) -> Files:
        """Read every file of a flat directory."""
        return cls({path.name: path.read_bytes() for path in directory.iterdir()})

    @property
    def bytes_read(self) -> int:
        """Bytes that were asked for."""
        return self.asked

    def sizes(self) -> Mapping[str, int]:
        return {path: len(data) for path, data in self.files.items()}

    def read(self, parts: Sequence[FilePart]) -> None:
        if self.fails:
            raise IntegrityError(EngineCode.ENGINE_MODEL_INCOMPLETE, "forged")
        for part in parts:
            assert part.out.nbytes, "nothing is read into nothing"
            data = self.files[part.path][part.offset : part.offset + part.out.nbytes]
            assert len(data) == part.out.nbytes, "a part of the file"
            self.asked += len(data)
            part.out[:] = data


def tensor_file(**tensors: tuple[str, list[int], bytes]) -> bytes:
    """A safetensors file."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
