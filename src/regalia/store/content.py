"""Reads a blob to send it, and refuses to give its last part if it is not what its digest says."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError
from regalia.store.names import StoreCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.weights import BlobSource
    from regalia.store.image import Blob


class StoppedError(Exception):
    """Another file failed or the run was interrupted, and this one is not sent to its end."""


class Content:
    """The bytes of one file, from its first to its last.

    Args:
        source: holds the file under its name.
        blob: name, digest and size.
        count: called with the number of bytes that were sent.
        stopped: asked before each part; whoever sends it is then interrupted.
    """

    def __init__(
        self,
        source: BlobSource,
        blob: Blob,
        count: Callable[[int], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source = source
        self.blob = blob
        self.count = count
        self._stopped = stopped

    def parts(self, size: int) -> Iterator[bytearray]:
        """Yield the file in parts of ``size`` bytes; the last one may be smaller.

        The digest is compared before the last part is given, so that no receiver can have all of
        a file that is another one.

        Raises:
            IntegrityError: BLOB_CHANGED.
            LocalError, UnavailableError: it cannot be read.
            StoppedError: nobody wants it any more.
        """
        hasher = hashlib.sha256()
        for offset in range(0, self.blob.size, size):
            if self._stopped():
                raise StoppedError
            part = bytearray(min(size, self.blob.size - offset))
            self._source.read_into(self.blob.name, offset, memoryview(part))
            hasher.update(part)
            if offset + len(part) == self.blob.size and hasher.digest() != self.blob.digest.raw:
                raise IntegrityError(
                    StoreCode.BLOB_CHANGED,
                    f"{self._source.describe()}: {self.blob.name} is sha256:{hasher.hexdigest()},"
                    f" the manifest says {self.blob.digest}",
                )
            yield part
