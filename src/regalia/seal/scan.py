"""What lies in a model directory: plain files with acceptable names, or a refusal."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import LocalError, ParseError
from regalia.host.localfs import os_errors
from regalia.seal.codes import SealCode
from regalia.seal.format.paths import check_collisions, check_path
from regalia.seal.format.sealed import FILES_MAX

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class FoundFile:
    """One plain file, with what tells whether it is still the same later."""

    path: str  # relative, POSIX
    size: int
    device: int
    inode: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: str, info: os.stat_result) -> FoundFile:
        """From a stat result.

        Args:
            path: relative to the model's folder.
            info: of that file.
        """
        return cls(path, info.st_size, info.st_dev, info.st_ino, info.st_mtime_ns, info.st_ctime_ns)


def scan(model: Path) -> tuple[FoundFile, ...]:
    """List the files of a model directory, in ascending order of their paths.

    Directories themselves, modes, owners and times are not part of a model.

    Raises:
        LocalError: NOT_A_PLAIN_FILE, MODEL_EMPTY, MODEL_TOO_LARGE, or the file system refuses.
        ParseError: PATH_REFUSED or PATHS_COLLIDE.
    """
    found: list[FoundFile] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        with os_errors(model / folder), os.scandir(model / folder) as items:
            for item in items:
                _visit(item, folder, found, pending)
        if len(found) > FILES_MAX:
            raise LocalError(
                SealCode.MODEL_TOO_LARGE, f"{model}: more than {FILES_MAX} files in one model"
            )
    if not found:
        raise LocalError(SealCode.MODEL_EMPTY, f"{model}: no files in it")
    check_collisions(file.path for file in found)
    return tuple(sorted(found))


def _visit(item: os.DirEntry[str], folder: str, found: list[FoundFile], pending: list[str]) -> None:
    path = f"{folder}/{item.name}" if folder else item.name
    check_path(path)  # a name that is not UTF-8 carries surrogates, which it refuses
    info = item.stat(follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        pending.append(path)
    elif stat.S_ISREG(info.st_mode):
        found.append(FoundFile.of(path, info))
    else:
        raise LocalError(SealCode.NOT_A_PLAIN_FILE, f"{path!a}: a {_kind(info.st_mode)}")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "symbolic link",
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def check_unchanged(model: Path, before: tuple[FoundFile, ...]) -> None:
    """Scan again and refuse if any file was added, removed, replaced or touched since.

    Args:
        model: the model's folder.
        before: what the first scan listed.

    Raises:
        LocalError: MODEL_CHANGED.
    """
    try:
        after = scan(model)
    except (LocalError, ParseError) as exc:
        raise LocalError(SealCode.MODEL_CHANGED, f"{model}: {exc.what}") from exc
    differing = sorted({file.path for file in set(before) ^ set(after)})
    if differing:
        raise LocalError(
            SealCode.MODEL_CHANGED, f"{model}: {differing[0]!a} changed while it was being sealed"
        )
