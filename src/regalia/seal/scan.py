"""Lists the files of a model directory, which must be regular files with acceptable names."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from regalia.core.errors import LocalError, ParseError
from regalia.host.localfs import os_errors
from regalia.seal.codes import SealCode
from regalia.seal.contents import (
    check_complete,
    check_is_no_cache,
    hub_blobs,
    is_pickle,
    may_be_pickle_by_head,
    unneeded,
)
from regalia.seal.format.paths import check_collisions, check_path
from regalia.seal.format.sealed import FILES_MAX, INDEX_NAME, MANIFEST_NAME

# Left out at any depth: what version control, downloads and desktops keep beside a model. They
# differ between copies of one model, and a repository's configuration may hold a password.
_LEFT_OUT = frozenset(
    {".git", ".hg", ".svn", ".cache", "__pycache__", ".ipynb_checkpoints", ".ds_store", "thumbs.db"}
)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HEAD = 4096  # bytes that are looked at
_KEY_MAX = 64 * 1024  # bytes; larger than any key in PEM form
_PRIVATE_KEY = re.compile(rb"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----", re.MULTILINE)
_LFS_POINTER_MAX = 1024  # bytes; the specification's own limit


@dataclass(frozen=True, slots=True, order=True)
class FoundFile:
    """A regular file, with the attributes that reveal a later change."""

    path: str  # relative POSIX path
    size: int
    device: int
    inode: int
    modified_ns: int
    changed_ns: int
    source: Path  # the file to open, which has another name if a link was followed

    @classmethod
    def of(cls, path: str, source: Path, info: os.stat_result) -> FoundFile:
        """Build from a stat result.

        Args:
            path: path relative to the model directory.
            source: the file itself.
            info: stat result of that file.
        """
        return cls(
            path,
            info.st_size,
            info.st_dev,
            info.st_ino,
            info.st_mtime_ns,
            info.st_ctime_ns,
            source,
        )


@dataclass(frozen=True, slots=True)
class Scanned:
    """The files of a model in ascending order of their paths, and what is not a part of it."""

    files: tuple[FoundFile, ...]
    left_out: tuple[str, ...]
    unneeded: tuple[str, ...]  # paths among the files that no engine needs


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What belongs to a model.

    Attributes:
        links_into: symbolic links to files in this directory are followed. Those of a hub cache's
            snapshot into its blobs always are; None refuses all others.
        leave_out_unneeded: leave out what no engine needs; see ``contents.unneeded``.
    """

    links_into: Path | None = None
    leave_out_unneeded: bool = False


DEFAULT = ScanOptions()


def scan(model: Path, options: ScanOptions = DEFAULT) -> Scanned:
    """List the files of a model directory.

    Empty directories, modes, owners and times are not part of a model, and neither are the files
    of version control and of downloads.

    Args:
        model: the model directory.
        options: what belongs to it.

    Raises:
        LocalError: NOT_A_PLAIN_FILE, GIT_LFS_POINTER, PRIVATE_KEY_INSIDE, PICKLED_WEIGHTS,
            INCOMPLETE_MODEL, IS_A_CACHE, MODEL_EMPTY, ALREADY_SEALED, MODEL_TOO_LARGE, or a file
            cannot be read.
        ParseError: PATH_REFUSED or PATHS_COLLIDE, or a list of parts is malformed.
    """
    check_is_no_cache(model)
    links = [each for each in (options.links_into, hub_blobs(model)) if each is not None]
    scanner = _Scanner(model, tuple(Path(os.path.realpath(each)) for each in links))
    while scanner.pending:
        folder = scanner.pending.pop()
        with os_errors(model / folder), os.scandir(model / folder) as items:
            for item in items:
                scanner.visit(item, folder)
        if len(scanner.found) > FILES_MAX:
            raise LocalError(
                SealCode.MODEL_TOO_LARGE, f"{model}: more than {FILES_MAX} files in one model"
            )
    if not scanner.found:
        raise LocalError(SealCode.MODEL_EMPTY, f"{model}: no files in it")
    if {MANIFEST_NAME, INDEX_NAME} <= {file.path for file in scanner.found}:
        raise LocalError(
            SealCode.ALREADY_SEALED, f"{model}: has {MANIFEST_NAME} and {INDEX_NAME} of a sealing"
        )
    check_collisions(file.path for file in scanner.found)
    return _sorted_out(scanner, options)


def _sorted_out(scanner: _Scanner, options: ScanOptions) -> Scanned:
    """Tell what engines need from what they do not, and refuse what none of them takes."""
    needless = unneeded(file.path for file in scanner.found)
    left_out = needless if options.leave_out_unneeded else frozenset[str]()
    files = sorted(file for file in scanner.found if file.path not in left_out)
    pickles = scanner.pickles - left_out
    if pickles:
        raise LocalError(SealCode.PICKLED_WEIGHTS, f"{min(pickles)!a} is a pickle")
    check_complete({file.path: file.source for file in files})
    return Scanned(
        tuple(files),
        tuple(sorted({*scanner.left_out, *left_out})),
        tuple(sorted(needless - left_out)),
    )


class _Scanner:
    """Collects the files of one model directory."""

    def __init__(self, model: Path, links_into: tuple[Path, ...]) -> None:
        self._model = model
        self._links_into = links_into
        self.pending = [""]  # directories that are still to be listed
        self.found: list[FoundFile] = []
        self.left_out: list[str] = []
        self.pickles: set[str] = set()

    def visit(self, item: os.DirEntry[str], folder: str) -> None:
        path = f"{folder}/{item.name}" if folder else item.name
        if _beside(item.name):
            self.left_out.append(path)
            return
        # Python decodes a name that is not UTF-8 to surrogates, which ``check_path`` refuses.
        check_path(path)
        source = self._model / path
        info = item.stat(follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode) and self._links_into:
            source = self._follow(path)
            info = source.lstat()
        if stat.S_ISDIR(info.st_mode) and source == self._model / path:
            self.pending.append(path)
        elif stat.S_ISREG(info.st_mode):
            if _look_at_head(path, source, info.st_size):
                self.pickles.add(path)
            self.found.append(FoundFile.of(path, source, info))
        else:
            raise LocalError(SealCode.NOT_A_PLAIN_FILE, f"{path!a}: a {_kind(info.st_mode)}")

    def _follow(self, path: str) -> Path:
        """The file that a link leads to, which must lie in the directory that was allowed."""
        target = Path(os.path.realpath(self._model / path))
        allowed = next((each for each in self._links_into if target.is_relative_to(each)), None)
        if allowed is None:
            outside = " and ".join(map(str, self._links_into))
            raise LocalError(
                SealCode.NOT_A_PLAIN_FILE, f"{path!a}: a link to a file outside {outside}"
            )
        if any(map(_beside, target.relative_to(allowed).parts)):
            raise LocalError(SealCode.NOT_A_PLAIN_FILE, f"{path!a}: a link to {target.name!a}")
        if not os.path.lexists(target):
            raise LocalError(
                SealCode.INCOMPLETE_MODEL, f"{path!a}: a link to {target.name!a}, which is missing"
            )
        return target


def _beside(name: str) -> bool:
    # Some file systems take names for the same that differ in case, or in dots at the end.
    return name.casefold().rstrip(". ") in _LEFT_OUT or name.casefold().startswith("git~")


def _look_at_head(path: str, source: Path, size: int) -> bool:
    """Refuse a small file that is a pointer to one, or a key. Returns whether it is a pickle."""
    small = len(_LFS_POINTER) <= size <= _KEY_MAX
    if not small and not may_be_pickle_by_head(path):
        return is_pickle(path, b"")
    with os_errors(source):
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            head = os.read(fd, _HEAD)
        finally:
            os.close(fd)
    if small and _PRIVATE_KEY.search(head):
        raise LocalError(SealCode.PRIVATE_KEY_INSIDE, f"{path!a} is a private key")
    if head.startswith(_LFS_POINTER) and size <= _LFS_POINTER_MAX:
        raise LocalError(SealCode.GIT_LFS_POINTER, f"{path!a}: {size} bytes")
    return is_pickle(path, head)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "symbolic link",
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def check_unchanged(model: Path, before: Scanned, options: ScanOptions = DEFAULT) -> None:
    """Scan again, and refuse if any file was added, removed, replaced or modified meanwhile.

    Args:
        model: the model directory.
        before: result of the first scan.
        options: as for the first scan.

    Raises:
        LocalError: MODEL_CHANGED.
    """
    try:
        after = scan(model, options)
    except (LocalError, ParseError) as exc:
        raise LocalError(SealCode.MODEL_CHANGED, f"{model}: {exc.what}") from exc
    differing = sorted({file.path for file in set(before.files) ^ set(after.files)})
    if differing:
        raise LocalError(
            SealCode.MODEL_CHANGED, f"{model}: {differing[0]!a} changed while it was being sealed"
        )
