"""The working directory of a sealing that another run can continue.

    .NAME.regalia-XXXXXXXX/sealed/   what becomes NAME at the end
    .NAME.regalia-XXXXXXXX/state/    the journal, which does not

A run that ends early leaves the directory if a shard is whole, and the next run takes it over.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING, Self

from regalia.core.errors import CoreCode, LocalError
from regalia.host.localfs import os_errors
from regalia.seal.codes import SealCode
from regalia.seal.format.sealed import shard_name
from regalia.seal.journal import KEY_NAME, PLAN_NAME, record_name
from regalia.seal.staging import STATE, in_use, leftovers, new_directory, publish

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

SEALED = "sealed"  # folder in the working directory, which becomes the output
_OTHERS = 0o077  # permission bits of group and others


class UnfinishedDirectory:
    """Context manager for a new sealed directory, or for one that an earlier run began."""

    def __init__(self, target: Path, *, restart: bool) -> None:
        """Take over what an interrupted run has left, or create a working directory, mode 0700.

        Args:
            target: directory that appears at the end.
            restart: remove what an interrupted run has left.

        Raises:
            LocalError: FILE_EXISTS if the target exists; SEALING_RUNNING; or the directory cannot
                be created.
        """
        self.target = target
        self._committed = False
        with os_errors(target):
            if os.path.lexists(target):
                _remove_finished(target)
                raise LocalError(CoreCode.FILE_EXISTS, f"{target}: already exists")
            if (other := in_use(target)) is not None:
                raise LocalError(
                    SealCode.SEALING_RUNNING, f"another process seals into {target}, in {other}"
                )
            self.removed, found = _adopt(target, restart=restart)
            self.continued = found is not None
            self._folder, self._fd = found or new_directory(target)
            self.path, self.state = self._folder / SEALED, self._folder / STATE
            self.path.mkdir(mode=0o700, exist_ok=self.continued)
            self.state.mkdir(mode=0o700, exist_ok=self.continued)

    @property
    def name(self) -> str:
        """Name of the working directory."""
        return self._folder.name

    def keep_shards(self, count: int) -> None:
        """Remove everything but the first ``count`` shards and their records."""
        _tidy(self._folder, count)

    def commit(self, *, mode: int) -> None:
        """Sync the sealed files to disk, and give their directory its name. See ``publish``."""
        with os_errors(self.target):
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                publish(fd, self.path, self.target, mode=mode)
            finally:
                os.close(fd)
        self._committed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        whole = 0 if self._committed else whole_shards(self._folder)
        if whole:
            _tidy(self._folder, whole)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._fd)


def whole_shards(folder: Path) -> int:
    """Number of shards, from the first on, that a working directory has records of.

    A directory that others may write to is not looked into: it may be of their making.
    """
    state, sealed = folder / STATE, folder / SEALED
    for each in (folder, state, sealed):
        try:
            info = each.lstat()
        except OSError:
            return 0
        private = info.st_uid == os.geteuid() and not info.st_mode & _OTHERS
        if not stat.S_ISDIR(info.st_mode) or not private:
            return 0
    if not (state / KEY_NAME).is_file() or not (state / PLAN_NAME).is_file():
        return 0
    count = 0
    while (state / record_name(count)).is_file() and (sealed / shard_name(count)).is_file():
        count += 1
    return count


def unfinished_sealing(target: Path) -> tuple[str, int] | None:
    """The working directory that the next run will continue, and its number of whole shards."""
    with os_errors(target):
        found = [(whole_shards(path), path.name, fd) for path, fd in leftovers(target)]
    for _, _, fd in found:
        os.close(fd)
    whole, name, _ = max(found, default=(0, "", -1))
    return (name, whole) if whole else None


def _adopt(target: Path, *, restart: bool) -> tuple[tuple[str, ...], tuple[Path, int] | None]:
    """Remove all leftovers but the one with the most whole shards, if there is any."""
    found = [
        (0 if restart else whole_shards(path), path.name, path, fd)
        for path, fd in leftovers(target)
    ]
    found.sort()
    taken = found.pop() if found and found[-1][0] else None
    for _, _, path, fd in found:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)
    return tuple(name for _, name, _, _ in found), taken and (taken[2], taken[3])


def _remove_finished(target: Path) -> None:
    """Remove the journals of runs that were killed after their result had got its name."""
    for path, fd in leftovers(target):
        if (path / STATE).is_dir() and not os.path.lexists(path / SEALED):
            shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def _tidy(folder: Path, count: int) -> None:
    """Keep the first ``count`` shards with their records, and the head of the journal."""
    shards = {shard_name(number) for number in range(count)}
    records = {record_name(number) for number in range(count)} | {KEY_NAME, PLAN_NAME}
    for part, wanted in ((folder / SEALED, shards), (folder / STATE, records)):
        with os_errors(part):
            for path in part.iterdir():
                if path.name not in wanted:
                    path.unlink()
