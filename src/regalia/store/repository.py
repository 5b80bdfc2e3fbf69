"""A store of several versions: what push, ls and gc need of it, and its layout on objects.

    blobs/sha256-HEX     a file of a sealed model, or a version's document, named by its SHA-256
    versions/TAG         the digest of a version's document
    pushes/HEX           the document of a push under way, named by its own SHA-256

Spec: docs/spec/stores.md.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from regalia.core.errors import IntegrityError, ParseError, UnavailableError
from regalia.core.types import Digest
from regalia.store.image import IMAGE_MAX, ImageBlobs, parse_image, stored_name
from regalia.store.names import DIGEST, TAG, StoreCode
from regalia.store.reference import behind, is_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from regalia.store.content import Content
    from regalia.store.image import Blob, Image
    from regalia.store.objects import Found, Objects

BLOBS, VERSIONS, PUSHES = "blobs", "versions", "pushes"
_POINTER_MAX = 80  # bytes: a digest and a line's end
# A blob that no version holds may be collected once it is old. A push takes such a blob for
# present while it is younger than this, and sends it again otherwise, which makes it young.
REUSE_S = 6 * 3600.0


class Version(NamedTuple):
    """A version's name, its document's digest, and the document."""

    tag: str
    digest: Digest
    image: Image


class Repository(Protocol):
    """A store of several versions, whose blobs are named by digest."""

    def describe(self) -> str:
        """Address without a version."""

    def pushing(self, document: bytes) -> AbstractContextManager[None]:
        """Hold the blobs of a version that is about to be pushed against gc."""

    def has(self, blob: Blob) -> bool:
        """Whether a blob is there, and may be counted on until the version holds it."""

    def is_there(self, blob: Blob) -> bool:
        """Whether a blob is there at all, for a push that has looked for it or sent it."""

    def put(self, content: Content) -> None:
        """Send one blob. It appears whole, or not at all."""

    def resolve(self, tag: str) -> Digest | None:
        """The digest that a version's name stands for; None if there is no such name."""

    def publish(self, tag: str, document: bytes, *, replace: bool) -> None:
        """Make a version, whose blobs are there.

        Args:
            tag: its name.
            document: encoded ``Image``.
            replace: take the name from another version.

        Raises:
            UnavailableError: VERSION_EXISTS.
        """

    def tags(self) -> list[str]:
        """Names of all versions, sorted."""

    def load(self, reference: str) -> tuple[Digest, Image]:
        """A version's document, by tag or digest. Raises VERSION_MISSING."""

    def close(self) -> None:
        """Close connections."""


class ObjectRepository:
    """A ``Repository`` on objects: a folder, or a prefix of a bucket."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._held_once: frozenset[Digest] | None = None

    def describe(self) -> str:
        """Address without a version."""
        return self.objects.describe()

    @contextmanager
    def pushing(self, document: bytes) -> Iterator[None]:
        """As ``Repository``. What a killed push leaves is held until gc finds it old."""
        key = f"{PUSHES}/{Digest.of(document).raw.hex()}"
        self.objects.put(key, document, over=None)
        yield
        self.objects.delete(key)

    def has(self, blob: Blob) -> bool:
        """As ``Repository``."""
        found = self.objects.size(f"{BLOBS}/{blob.stored}")
        if found is None or found.size != blob.size:
            return False
        return self.objects.now() - found.modified < REUSE_S or blob.digest in self._held()

    def is_there(self, blob: Blob) -> bool:
        """As ``Repository``."""
        found = self.objects.size(f"{BLOBS}/{blob.stored}")
        return found is not None and found.size == blob.size

    def put(self, content: Content) -> None:
        """As ``Repository``."""
        self.objects.put_content(f"{BLOBS}/{content.blob.stored}", content)

    def resolve(self, tag: str) -> Digest | None:
        """As ``Repository``. Raises IntegrityError for a name that holds no digest."""
        found = self._pointer(tag)
        return None if found is None else self._parse_pointer(tag, found)

    def publish(self, tag: str, document: bytes, *, replace: bool) -> None:
        """As ``Repository``.

        Args:
            tag: its name.
            document: encoded ``Image``.
            replace: take the name from another version.

        Raises:
            UnavailableError: VERSION_EXISTS.
        """
        digest = Digest.of(document)
        self.objects.put(f"{BLOBS}/{stored_name(digest)}", document, over=None)
        found = self._pointer(tag)
        if found is not None:
            if self._parse_pointer(tag, found) == digest:
                return
            if not replace:
                raise taken(self.describe(), tag, self._parse_pointer(tag, found))
        over = "" if found is None else found.state
        if not self.objects.put(f"{VERSIONS}/{tag}", f"{digest}\n".encode(), over=over):
            now = self.resolve(tag)
            if now != digest:
                raise taken(self.describe(), tag, now)

    def tags(self) -> list[str]:
        """As ``Repository``."""
        names = (entry.key.rpartition("/")[2] for entry in self.objects.entries(VERSIONS))
        return sorted(name for name in names if TAG.fullmatch(name))

    def load(self, reference: str) -> tuple[Digest, Image]:
        """As ``Repository``.

        Raises:
            UnavailableError: VERSION_MISSING.
            IntegrityError: STORE_ANSWER_WRONG or NOT_A_SEALED_MODEL.
            ParseError: the document is malformed.
        """
        where = behind(self.describe(), reference)
        digest = Digest.parse(reference) if is_digest(reference) else self.resolve(reference)
        if digest is None:
            raise UnavailableError(StoreCode.VERSION_MISSING, f"{where} is not there")
        found = self.objects.get(f"{BLOBS}/{stored_name(digest)}", IMAGE_MAX)
        if found is None:
            raise UnavailableError(StoreCode.VERSION_MISSING, f"{where}: {digest} is not there")
        return digest, checked_image(found.data, digest, where)

    def open(self, reference: str) -> ImageBlobs:
        """The files of a version, to be read; closed apart from this. Raises as ``load``."""
        _, image = self.load(reference)
        where = behind(self.describe(), reference)
        return ImageBlobs(image, self.objects.blobs(BLOBS), where)

    def close(self) -> None:
        """Close connections."""
        self.objects.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _held(self) -> frozenset[Digest]:
        """Blobs of versions. One that cannot be read holds none, so its blobs are sent again."""
        if self._held_once is None:
            held: set[Digest] = set()
            for tag in self.tags():
                with suppress(IntegrityError, ParseError, UnavailableError):
                    held.update(blob.digest for blob in self.load(tag)[1].blobs)
            self._held_once = frozenset(held)
        return self._held_once

    def _pointer(self, tag: str) -> Found | None:
        return self.objects.get(f"{VERSIONS}/{tag}", _POINTER_MAX)

    def _parse_pointer(self, tag: str, found: Found) -> Digest:
        text = found.data.decode("ascii", "replace").removesuffix("\n")
        if not DIGEST.fullmatch(text):
            raise IntegrityError(
                StoreCode.STORE_ANSWER_WRONG,
                f"{self.describe()}: {VERSIONS}/{tag} does not hold a version's digest",
            )
        return Digest.parse(text)


def checked_image(data: bytes, digest: Digest, where: str) -> Image:
    """Parse a version's document, which must have this digest.

    Args:
        data: raw, untrusted.
        digest: of the document.
        where: address of the version, for messages.

    Raises:
        IntegrityError: STORE_ANSWER_WRONG or NOT_A_SEALED_MODEL.
        ParseError: as ``parse_image``.
    """
    found = Digest.of(data)
    if found != digest:
        raise IntegrityError(
            StoreCode.STORE_ANSWER_WRONG, f"{where}: the document is {found}, want {digest}"
        )
    return parse_image(data, where=where)


def taken(where: str, tag: str, digest: Digest | None) -> UnavailableError:
    """VERSION_EXISTS.

    Args:
        where: address of the store.
        tag: the name.
        digest: what it stands for; None if somebody has removed it meanwhile.
    """
    what = "was removed meanwhile" if digest is None else f"is there already, and is {digest}"
    return UnavailableError(StoreCode.VERSION_EXISTS, f"{behind(where, tag)} {what}")
