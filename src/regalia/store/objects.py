"""What a store of several versions needs of a folder or a bucket: objects under keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.store.content import Content
    from regalia.store.image import ClosingSource


class Entry(NamedTuple):
    """An object in a listing."""

    key: str
    size: int  # bytes
    modified: float  # seconds since 1970, by the clock that ``Objects.now`` reads


class Found(NamedTuple):
    """A small object, and what its store calls this state of it."""

    data: bytes
    state: str


class Objects(Protocol):
    """Objects under keys that consist of one folder and one name."""

    def describe(self) -> str:
        """Address, for messages."""

    def now(self) -> float:
        """The time by the clock that dates objects."""

    def get(self, key: str, limit: int) -> Found | None:
        """A small object; None if there is none. Raises RegaliaError.

        Args:
            key: of the object.
            limit: bytes; a larger object is refused.
        """

    def size(self, key: str) -> Entry | None:
        """An object's size and date; None if there is none."""

    def put(self, key: str, data: bytes, *, over: str | None) -> bool:
        """Write a small object, whole or not at all; False if it is in another state by now.

        Args:
            key: of the object.
            data: its content.
            over: state of the object that is replaced; empty: it must not exist; None: whatever
                there is is replaced.
        """

    def put_content(self, key: str, content: Content) -> None:
        """Write an object of any size, whole or not at all.

        Args:
            key: of the object.
            content: its bytes.
        """

    def entries(self, folder: str) -> Iterator[Entry]:
        """All objects of a folder."""

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""

    def abandoned(self, before: float) -> Iterator[str]:
        """Forget what unfinished uploads left; yields a name for each.

        Args:
            before: uploads that began before this time, by the clock of ``now``.
        """

    def blobs(self, folder: str) -> ClosingSource:
        """Reads the objects of a folder by name. Closed apart from this."""

    def close(self) -> None:
        """Close files and connections."""
