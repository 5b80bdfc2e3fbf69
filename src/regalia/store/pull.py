"""Fetches a sealed model into a new folder, which appears when everything in it was compared.

What has arrived lies in ``.NAME.regalia-pull`` beside the folder. A pull that is killed leaves it
there, and the next one reads it again, compares it, and fetches the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from regalia.core.errors import CoreCode, IntegrityError, LocalError
from regalia.host.localfs import os_errors, write_new
from regalia.store.names import MANIFEST, StoreCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from regalia.core.weights import BlobSource
    from regalia.store.image import Blob

PIECE = 8 << 20  # bytes of one request
_OTHERS_WRITE = 0o022  # permission bits
_SPARE = 1 << 20  # bytes beside the blobs, for the manifest and names


class Pulled(NamedTuple):
    """What a pull did.

    Attributes:
        fetched_bytes: bytes that came from the store.
        resumed_bytes: bytes that an earlier pull had left, and that were compared again.
    """

    fetched_bytes: int
    resumed_bytes: int


def pull(  # noqa: PLR0913 - where from, what, where to, and how
    source: BlobSource,
    blobs: Sequence[Blob],
    manifest: bytes,
    folder: Path,
    *,
    threads: int,
    progress: Callable[[int, int], None],
) -> Pulled:
    """Fetch a sealed model.

    Args:
        source: store of the files, untrusted.
        blobs: names, digests and sizes of all files but the manifest, from a verified manifest.
        manifest: that manifest's file.
        folder: new; appears at the end.
        threads: requests under way at the same time.
        progress: called with bytes done and bytes in all.

    Raises:
        IntegrityError: BLOB_CHANGED or STORE_ANSWER_WRONG.
        UnavailableError: the store fails or refuses.
        LocalError: FILE_EXISTS, TRANSFER_RUNNING, TRANSFER_NO_SPACE or another.
    """
    if os.path.lexists(folder):
        raise LocalError(CoreCode.FILE_EXISTS, f"{folder}: already exists")
    total = sum(blob.size for blob in blobs)
    with _work_folder(folder) as work, ThreadPoolExecutor(threads) as pool:
        _tidy(work, blobs)
        _require_space(work, blobs)
        done = fetched = 0

        def count(size: int, *, new: bool) -> None:
            nonlocal done, fetched
            done += size
            fetched += size if new else 0
            progress(done, total)

        for blob in blobs:
            _Arrival(source, blob, work / _partial(blob), pool, 2 * threads).fetch(count)
        _finish(work, blobs, manifest, folder)
    return Pulled(fetched, total - min(total, fetched))


class _Arrival:
    """One file that arrives in pieces, written and hashed in their order."""

    def __init__(
        self, source: BlobSource, blob: Blob, path: Path, pool: ThreadPoolExecutor, ahead: int
    ) -> None:
        self._source = source
        self._blob = blob
        self._path = path
        self._pool = pool
        self._ahead = ahead

    def fetch(self, count: Callable[..., None]) -> None:
        """Fetch what is missing, and compare all of it.

        What an earlier run left may be damaged: then the file is fetched once more from its
        beginning.
        """
        with _no_space(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._path, flags, 0o644)
            try:
                start, hasher = self._kept(fd)
                count(start, new=False)
                if self._rest(fd, start, hasher, count):
                    return
                if start == 0:
                    raise self._changed(hasher.hexdigest())
                os.ftruncate(fd, 0)
                count(-self._blob.size, new=False)
                hasher = hashlib.sha256()
                if not self._rest(fd, 0, hasher, count):
                    raise self._changed(hasher.hexdigest())
            except IntegrityError as exc:
                if exc.code is StoreCode.BLOB_CHANGED:  # nobody should go on with this
                    self._path.unlink(missing_ok=True)
                raise
            finally:
                os.close(fd)

    def _kept(self, fd: int) -> tuple[int, hashlib._Hash]:
        """Size and hash of what is there."""
        hasher = hashlib.sha256()
        size = os.fstat(fd).st_size
        if size > self._blob.size:
            os.ftruncate(fd, 0)
            return 0, hasher
        offset = 0
        while piece := os.pread(fd, PIECE, offset):
            hasher.update(piece)
            offset += len(piece)
        return offset, hasher

    def _rest(self, fd: int, start: int, hasher: hashlib._Hash, count: Callable[..., None]) -> bool:
        """Fetch from an offset on; whether the whole file then has its digest."""
        waiting: deque[Future[bytearray]] = deque()
        offsets = iter(range(start, self._blob.size, PIECE))
        place = start
        try:
            for offset in offsets:
                waiting.append(self._pool.submit(self._piece, offset))
                if len(waiting) >= self._ahead:
                    place = _keep(fd, place, waiting.popleft().result(), hasher, count)
            while waiting:
                place = _keep(fd, place, waiting.popleft().result(), hasher, count)
        finally:
            for future in waiting:
                future.cancel()
        os.fsync(fd)
        return hasher.digest() == self._blob.digest.raw

    def _piece(self, offset: int) -> bytearray:
        piece = bytearray(min(PIECE, self._blob.size - offset))
        self._source.read_into(self._blob.name, offset, memoryview(piece))
        return piece

    def _changed(self, found: str) -> IntegrityError:
        return IntegrityError(
            StoreCode.BLOB_CHANGED,
            f"{self._source.describe()}: {self._blob.name} is sha256:{found},"
            f" the manifest says {self._blob.digest}",
        )


def _keep(
    fd: int, place: int, piece: bytearray, hasher: hashlib._Hash, count: Callable[..., None]
) -> int:
    """Write and hash the next piece; returns where the one after it goes."""
    hasher.update(piece)
    view, done = memoryview(piece), 0
    while done < len(piece):
        done += os.pwrite(fd, view[done:], place + done)
    count(len(piece), new=True)
    return place + len(piece)


def _partial(blob: Blob) -> str:
    """Name of a file while it arrives. Its digest tells it from that of another version."""
    return f"{blob.name}.{blob.digest.raw.hex()[:32]}"


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """Make or take over the folder where files arrive, which one process at a time may have."""
    work = folder.with_name(f".{folder.name}.regalia-pull")
    with os_errors(work):
        work.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(
                StoreCode.TRANSFER_RUNNING, f"another process pulls into {folder}"
            ) from None
        with os_errors(work):
            _require_own(fd, work, folder)
        yield work
    finally:
        os.close(fd)


def _require_own(fd: int, work: Path, folder: Path) -> None:
    """Refuse a folder of arrival that others may write to, or that became somebody's result.

    Args:
        fd: the folder, locked.
        work: its path.
        folder: what it becomes.
    """
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or info.st_mode & _OTHERS_WRITE:
        raise LocalError(
            CoreCode.FILE_EXISTS, f"{work}: others could change there what was compared"
        )
    if os.path.lexists(folder):  # another pull came to its end between our look and our lock
        raise LocalError(CoreCode.FILE_EXISTS, f"{folder}: already exists")
    if not os.path.samestat(info, work.stat()):
        raise LocalError(StoreCode.TRANSFER_RUNNING, f"another process pulls into {folder}")


def _tidy(work: Path, blobs: Sequence[Blob]) -> None:
    """Remove what is of no use; files that were whole get their names of arrival back."""
    with os_errors(work):
        for blob in blobs:
            whole = work / blob.name
            if whole.is_file() and not whole.is_symlink():
                whole.replace(work / _partial(blob))
        wanted = {_partial(blob) for blob in blobs}
        for path in work.iterdir():
            if path.name in wanted and path.is_file() and not path.is_symlink():
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _require_space(work: Path, blobs: Sequence[Blob]) -> None:
    with os_errors(work):
        there = sum(path.stat().st_size for path in work.iterdir())
        free = os.statvfs(work)
    missing = sum(blob.size for blob in blobs) - there + _SPARE
    room = free.f_bavail * free.f_frsize
    if missing > room:
        raise LocalError(
            StoreCode.TRANSFER_NO_SPACE, f"{work}: {missing} bytes are to come, {room} are free"
        )


@contextmanager
def _no_space(path: Path) -> Iterator[None]:
    """As ``os_errors``, and says of a full disk that what has arrived is kept."""
    try:
        with os_errors(path):
            yield
    except LocalError as exc:
        if exc.code is not CoreCode.DISK_FULL:
            raise
        raise LocalError(StoreCode.TRANSFER_NO_SPACE, exc.what) from exc


def _finish(work: Path, blobs: Sequence[Blob], manifest: bytes, folder: Path) -> None:
    with _no_space(work):
        for blob in blobs:
            (work / _partial(blob)).replace(work / blob.name)
        write_new(work / MANIFEST, manifest)
        work.chmod(0o755)
        fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        work.rename(folder)
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
