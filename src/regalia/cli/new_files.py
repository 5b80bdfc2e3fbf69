"""Output files: their paths are checked before a command reads, asks or writes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.cli.output import warn
from regalia.core.errors import CoreCode, LocalError
from regalia.host.localfs import others_may_read, write_new

if TYPE_CHECKING:
    from pathlib import Path


def must_be_new(*paths: Path) -> None:
    """Refuse a path that exists, or whose folder does not. Raises LocalError."""
    for path in paths:
        if path.exists():
            raise LocalError(CoreCode.FILE_EXISTS, f"{path} exists")
        if not path.absolute().parent.is_dir():
            raise LocalError(CoreCode.FILE_MISSING, f"{path}: its folder does not exist")


def warn_if_readable(path: Path) -> None:
    """Say so if a file that was written for its owner alone may be read by others.

    File systems without modes, such as FAT, give every file the mode that they were mounted with.
    """
    if others_may_read(path):
        warn(
            f"DANGEROUS: {path} may be read by others on this machine, as this file system keeps no"
            " modes. Regalia will refuse to read it here; move it to another file system."
        )


def write_together(*files: tuple[Path, bytes, int]) -> None:
    """Create all of these files, or none of them. Raises LocalError.

    Args:
        files: path, content and permission bits of each.
    """
    written: list[Path] = []
    try:
        for path, data, mode in files:
            write_new(path, data, mode=mode)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
