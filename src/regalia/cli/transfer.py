"""What push and pull have in common: a verified manifest, and the files that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.cli.sealing import manifest_files, read_signers, warn_of_any_signer
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest
from regalia.seal.manifest import verify_manifest
from regalia.store.image import MANIFEST_MAX, Blob, Image, Label
from regalia.store.names import MANIFEST

if TYPE_CHECKING:
    from regalia.core.weights import BlobSource
    from regalia.seal.manifest import VerifiedManifest


def read_verified(
    source: BlobSource, signers: tuple[str, ...], minimum_version: int
) -> tuple[bytes, VerifiedManifest]:
    """Read a sealed model's manifest from a store, and verify it.

    Args:
        source: untrusted.
        signers: files of public keys, or the word any.
        minimum_version: lowest accepted version.

    Raises:
        ParseError: TOO_LARGE, or the manifest is malformed.
        IntegrityError: as ``verify_manifest``.
        LocalError, UnavailableError: it cannot be read.
    """
    trusted = read_signers(signers)
    size = source.size(MANIFEST)
    if size > MANIFEST_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"manifest: {size} bytes, at most {MANIFEST_MAX}")
    data = bytearray(size)
    source.read_into(MANIFEST, 0, memoryview(data))
    manifest = verify_manifest(bytes(data), signers=trusted, minimum_version=minimum_version)
    warn_of_any_signer(manifest)
    return bytes(data), manifest


def blobs_of(manifest: VerifiedManifest) -> tuple[Blob, ...]:
    """The encrypted files, as the owner signed them."""
    files = manifest_files(manifest.content)
    return tuple(Blob(name, file.digest, file.size) for name, file in files.items())


def image_of(data: bytes, manifest: VerifiedManifest) -> Image:
    """The version that a sealed model is in a store.

    Args:
        data: the manifest's file.
        manifest: what was verified of it.
    """
    first = Blob(MANIFEST, Digest.of(data), len(data))
    content = manifest.content
    label = Label(str(content.model_id), str(content.version))
    return Image((first, *blobs_of(manifest)), label)
