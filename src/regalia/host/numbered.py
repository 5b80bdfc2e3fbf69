"""A folder of numbered files: 1.json, 2.json and so on, without gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, LocalError
from regalia.host.localfs import os_errors, read_file

if TYPE_CHECKING:
    from pathlib import Path

FILES_MAX = 100_000


def numbered(folder: Path, number: int) -> Path:
    """The path of one file.

    Args:
        folder: that it lies in.
        number: from 1.
    """
    return folder / f"{number}.json"


def read_numbered(folder: Path, *, limit: int) -> list[bytes]:
    """Read all numbered files, in the order of their numbers. Other files are not looked at.

    Args:
        folder: that they lie in.
        limit: bytes of one file.

    Raises:
        LocalError: the folder or a file cannot be read, a file is larger, or a number is missing.
    """
    with os_errors(folder):
        names = [path.name for path in folder.iterdir()]
    found = {int(stem) for name in names if (stem := _stem(name))}
    if len(found) > FILES_MAX:
        raise LocalError(CoreCode.TOO_LARGE, f"{folder}: more than {FILES_MAX} files")
    for number in range(1, len(found) + 1):
        if number not in found:
            raise LocalError(CoreCode.FILE_MISSING, f"{numbered(folder, number)} is missing")
    return [read_file(numbered(folder, number), limit=limit) for number in range(1, len(found) + 1)]


def _stem(name: str) -> str:
    """The number in a file's name; empty if it is another file."""
    stem = name.removesuffix(".json")
    plain = stem != name and stem.isascii() and stem.isdigit() and not stem.startswith("0")
    return stem if plain and len(stem) <= len(str(FILES_MAX)) else ""
