"""A store that can be read only while the lease holds, so that losing it stops every reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.weights import HasCopies

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.weights import BlobSource


class WatchedBlobs:
    """Implements ``BlobSource`` on another one.

    Args:
        source: the store.
        require_lease: raises once the lease is lost. It is asked before and after every read, so
            that what a slow store delivers late is not decrypted.
    """

    def __init__(self, source: BlobSource, require_lease: Callable[[], None]) -> None:
        self._source = source
        self._require_lease = require_lease

    def size(self, name: str) -> int:
        """Size of the blob in bytes."""
        self._require_lease()
        return self._source.size(name)

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer, or raise.

        Args:
            name: name of the blob.
            offset: offset in the blob of the first byte to read.
            buffer: buffer to fill.
        """
        self._require_lease()
        self._source.read_into(name, offset, buffer)
        self._require_lease()

    def distrust(self) -> bool:
        """Give up copies that the store reads from; arguments and errors as ``HasCopies``."""
        return self._source.distrust() if isinstance(self._source, HasCopies) else False

    def describe(self) -> str:
        """Location of the blobs, for messages."""
        return self._source.describe()
