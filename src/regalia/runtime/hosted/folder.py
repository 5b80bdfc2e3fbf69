"""The private folder of an engine's processes: in memory, for this user only, and temporary."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from regalia.core.errors import CoreCode, LocalError
from regalia.engines.hosted import Place
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime.hosted.shared_memory import remove_left_behind

PREFIX = "regalia-engine-"
_IN_MEMORY = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}  # linux/magic.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_STATFS_SIZE = 256  # bytes; struct statfs is smaller on every platform


def require_in_memory(folder: Path) -> None:
    """Refuse a folder whose files may be written to a disk.

    Raises:
        LocalError: ENGINE_FOLDER_UNSAFE, or the folder does not exist.
    """
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    if _LIBC.statfs(os.fsencode(folder), buffer) != 0:
        why = os.strerror(ctypes.get_errno())
        raise LocalError(CoreCode.FILE_MISSING, f"engine_folder {folder}: {why}")
    # f_type is a long, and the first member of struct statfs (statfs(2)).
    kind = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    if kind not in _IN_MEMORY:
        raise LocalError(
            HostedCode.ENGINE_FOLDER_UNSAFE,
            f"{folder} is on a file system of type {kind:#x}, which is neither tmpfs nor ramfs",
        )


class EngineFolder:
    """A new folder below another one, removed at the end.

    A runtime that is killed cannot remove its folder. It holds no weights and no keys, and the
    next runtime removes it. The folder is locked while its runtime lives: in another container,
    process numbers are others.
    """

    def __init__(self, parent: Path) -> None:
        """Make the folder.

        Args:
            parent: an existing folder in memory.

        Raises:
            LocalError: ENGINE_FOLDER_UNSAFE, or it cannot be made.
        """
        require_in_memory(parent)
        _remove_left_behind(parent)
        try:
            name = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent)
        except OSError as exc:
            raise LocalError(CoreCode.IO_FAILED, f"{parent}: {exc.strerror}") from exc
        self.path = Path(name)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.place = Place(
            model=self.path / "model",
            scratch=self.path / "scratch",
            api=self.path / "api",
            channel=self.path / "channel",
        )
        self.place.model.mkdir()
        self.place.scratch.mkdir()

    def write(self, path: str, data: memoryview) -> None:
        """Write one of the model's files that are not weights.

        Args:
            path: relative POSIX path, which the sealed index has already been checked for.
            data: the file's bytes.

        Raises:
            LocalError: it cannot be written.
        """
        target = self.place.model / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        except OSError as exc:
            raise LocalError(CoreCode.IO_FAILED, f"{path}: {exc.strerror}") from exc

    def forget_model(self) -> None:
        """Remove the model's files, once the engine has read them."""
        shutil.rmtree(self.place.model, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _remove_left_behind(parent: Path) -> None:
    """Remove the folders of this user's runtimes that do not run any more."""
    remove_left_behind()
    for folder in parent.glob(f"{PREFIX}*"):
        owner = folder.name[len(PREFIX) :].partition("-")[0]
        is_number = owner.isascii() and owner.isdecimal()
        with suppress(OSError):
            if is_number and not Path(f"/proc/{owner}").exists() and _is_abandoned(folder):
                shutil.rmtree(folder)


def _is_abandoned(folder: Path) -> bool:
    """Whether it is a folder of this user's that nobody has locked. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(opened).st_uid == os.geteuid()
    finally:
        os.close(opened)
