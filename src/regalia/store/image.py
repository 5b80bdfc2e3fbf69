"""A version in a store: which files a sealed model consists of, by digest and size.

The document is an OCI image manifest, in registries and in all other stores, so that there is one
parser. It is not signed and not trusted: it says what to fetch, and the signed manifest among the
files says what the model is. Spec: docs/spec/stores.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from regalia.core.codec import at_most, canonical_json
from regalia.core.errors import CoreCode, IntegrityError, ParseError, UnavailableError
from regalia.core.types import Digest
from regalia.core.weights import reading_of
from regalia.store.names import BLOB_NAME, INDEX, MANIFEST, StoreCode

if TYPE_CHECKING:
    from types import TracebackType

    from regalia.core.weights import Reading

IMAGE_TYPE = "application/vnd.oci.image.manifest.v1+json"
# What registries keep besides, which a reader may find under a name: never a sealed model.
OTHER_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ARTIFACT_TYPE = "application/vnd.regalia.sealed-model.image.v1+json"
MANIFEST_TYPE = "application/vnd.regalia.sealed-model.manifest.v1+json"
DATA_TYPE = "application/vnd.regalia.sealed-model.data.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"  # the config of an image that has none
IMAGE_MAX = 4 << 20  # bytes of a document; registries accept no larger one
MANIFEST_MAX = 24 << 20  # bytes of the signed manifest, as the sealed model's specification has it
FILE_MAX = 1 << 46  # bytes
FILES_MAX = 10_002  # manifest, index and shards
_TITLE = "org.opencontainers.image.title"
_MODEL_ID = "org.regalia.model-id"
_MODEL_VERSION = "org.regalia.model-version"


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of a sealed model: its name there, its SHA-256, and its size in bytes."""

    name: str
    digest: Digest
    size: int

    @property
    def stored(self) -> str:
        """Its name in a store that names what it keeps by digest."""
        return stored_name(self.digest)


def stored_name(digest: Digest) -> str:
    """Name of a blob: ``sha256-`` and hexadecimal digits."""
    return f"sha256-{digest.raw.hex()}"


@dataclass(frozen=True, slots=True)
class Label:
    """What a version says of itself, for people only. Untrusted; empty if it says nothing."""

    model_id: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """The files of one version, and its label."""

    blobs: tuple[Blob, ...]
    label: Label = field(default_factory=Label)

    def encode(self) -> bytes:
        """The document, in canonical JSON. ``parse_image`` gives an equal image back."""
        said = {_MODEL_ID: self.label.model_id, _MODEL_VERSION: self.label.version}
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": IMAGE_TYPE,
                "artifactType": ARTIFACT_TYPE,
                "config": {
                    "mediaType": EMPTY_TYPE,
                    "digest": str(Digest.of(EMPTY)),
                    "size": len(EMPTY),
                    "data": "e30=",
                },
                "layers": [_layer(blob) for blob in self.blobs],
                "annotations": {name: text for name, text in said.items() if text},
            }
        )


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    media_type: str = IMAGE_TYPE
    artifact_type: str = ""


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    layers: list[_Layer]
    annotations: dict[str, str] = {}


def _layer(blob: Blob) -> dict[str, object]:
    return {
        "mediaType": MANIFEST_TYPE if blob.name == MANIFEST else DATA_TYPE,
        "digest": str(blob.digest),
        "size": blob.size,
        "annotations": {_TITLE: blob.name},
    }


def parse_image(data: bytes, *, where: str) -> Image:
    """Parse a version's document. Members that the image specification adds are skipped.

    Args:
        data: raw, untrusted.
        where: address of the version, for messages.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
        IntegrityError: NOT_A_SEALED_MODEL.
    """
    at_most(data, IMAGE_MAX, what=where)
    try:
        # The kind comes first: an index of images, say, has no layers, and is not malformed.
        _refuse_other_kinds(msgspec.json.decode(data, type=_Kind), where)
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{where}: {exc}") from exc
    if len(document.layers) > FILES_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{where}: more than {FILES_MAX} files")
    blobs = tuple(_blob(layer, where) for layer in document.layers)
    names = {blob.name for blob in blobs}
    if len(names) != len(blobs) or not {MANIFEST, INDEX} <= names:
        raise ParseError(CoreCode.MALFORMED, f"{where}: files twice, or no manifest or index")
    said = document.annotations
    return Image(blobs, Label(said.get(_MODEL_ID, "")[:100], said.get(_MODEL_VERSION, "")[:20]))


def _refuse_other_kinds(kind: _Kind, where: str) -> None:
    if (kind.schema_version, kind.media_type, kind.artifact_type) == (2, IMAGE_TYPE, ARTIFACT_TYPE):
        return
    found = f"artifact type {kind.artifact_type[:100]!r}"
    if (kind.schema_version, kind.media_type) != (2, IMAGE_TYPE):
        found = f"media type {kind.media_type[:100]!r}, schema version {kind.schema_version}"
    raise IntegrityError(
        StoreCode.NOT_A_SEALED_MODEL, f"{where}: {found}, want artifact type {ARTIFACT_TYPE}"
    )


def _blob(layer: _Layer, where: str) -> Blob:
    name = layer.annotations.get(_TITLE, "")
    most = MANIFEST_MAX if name == MANIFEST else FILE_MAX
    kind = MANIFEST_TYPE if name == MANIFEST else DATA_TYPE
    if layer.media_type != kind or not BLOB_NAME.fullmatch(name):
        raise ParseError(CoreCode.MALFORMED, f"{where}: {name[:80]!r} is no file of a sealed model")
    if not 0 < layer.size <= most:
        raise ParseError(CoreCode.MALFORMED, f"{where}: {name} has {layer.size} bytes")
    return Blob(name, Digest.parse(layer.digest), layer.size)


class ClosingSource(Protocol):
    """A ``BlobSource`` that is closed at the end."""

    def size(self, name: str) -> int:
        """As ``BlobSource.size``."""

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """As ``BlobSource.read_into``."""

    def describe(self) -> str:
        """As ``BlobSource.describe``."""

    def close(self) -> None:
        """Close files and connections."""


class ImageBlobs:
    """A ``BlobSource`` of a version's files, on a source of blobs that are named by digest.

    Args:
        image: the version.
        source: knows blobs by ``stored_name``. Closed with this.
        where: address of the version, for messages.
    """

    def __init__(self, image: Image, source: ClosingSource, where: str) -> None:
        self.image = image
        self._source = source
        self._where = where
        self._blobs = {blob.name: blob for blob in image.blobs}

    def size(self, name: str) -> int:
        """As ``BlobSource``. Raises IntegrityError if store and version name different sizes."""
        blob = self._blob(name)
        self._check_size(blob)
        return blob.size

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """As ``BlobSource``.

        Args:
            name: name of the file.
            offset: offset of the first byte.
            buffer: buffer to fill.
        """
        blob = self._blob(name)
        self._check_size(blob)
        self._source.read_into(blob.stored, offset, buffer)

    def reading(self) -> Reading | None:
        """As ``IsDistant``: what it reads from says it."""
        return reading_of(self._source)

    def names(self) -> frozenset[str]:
        """Names of all files."""
        return frozenset(self._blobs)

    def describe(self) -> str:
        """Address of the version."""
        return self._where

    def close(self) -> None:
        """Close what it reads from."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _blob(self, name: str) -> Blob:
        blob = self._blobs.get(name)
        if blob is None:
            raise UnavailableError(
                StoreCode.BLOB_MISSING, f"{self._where} has no file {name[:80]!r}"
            )
        return blob

    def _check_size(self, blob: Blob) -> None:
        found = self._source.size(blob.stored)  # remembered by the source
        if found != blob.size:
            raise IntegrityError(
                StoreCode.STORE_ANSWER_WRONG,
                f"{self._where}: {blob.name} has {found} bytes, the version says {blob.size}",
            )
