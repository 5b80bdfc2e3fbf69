"""Opens the store that a configuration or a command line names."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regalia.core.errors import CoreCode, UsageError
from regalia.core.extras import missing_extra
from regalia.store import dir_address, oci_address
from regalia.store.dir_address import DirAddress
from regalia.store.local import LocalBlobs
from regalia.store.local_objects import LocalObjects
from regalia.store.names import MANIFEST
from regalia.store.oci_address import OciAddress
from regalia.store.repository import VERSIONS, ObjectRepository
from regalia.store.s3_address import SCHEME, S3Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.store.cached import CachedBlobs
    from regalia.store.image import ImageBlobs
    from regalia.store.oci import OciRepository
    from regalia.store.ranges import RangedBlobs
    from regalia.store.s3 import S3Blobs
    from regalia.store.s3_objects import S3Objects

    Source = LocalBlobs | RangedBlobs | ImageBlobs

_HTTP = ("http://", "https://")
_KINDS = "want a directory, http(s)://…, s3://…, oci://… or dir:…"


class Named(NamedTuple):
    """A store of several versions, and the version that its address names, if it names one."""

    repository: ObjectRepository | OciRepository
    reference: str | None


def open_store(text: str, folder: Path, *, helpers: bool = False) -> Source:
    """Open one sealed model to be read; the caller closes it. All kinds are context managers.

    Args:
        text: configured path of a directory, http or https URL of one, s3://BUCKET/PREFIX; or a
            version: s3://BUCKET/PREFIX:TAG, oci://HOST/REPOSITORY:TAG, dir:PATH:TAG.
        folder: folder that a relative path starts from.
        helpers: whether a program may be run that Docker's configuration names; never in a TEE.

    Raises:
        UsageError: BAD_CONFIG, the text is neither a path nor a valid address; of S3 also
            EXTRA_MISSING and STORE_CREDENTIALS_MISSING; CREDENTIAL_HELPER_REFUSED.
        KeyAccessError: CREDENTIAL_HELPER_FAILED.
        LocalError: the directory does not exist.
        UnavailableError, IntegrityError, ParseError: the version cannot be read, or is none.
    """
    if text.startswith(_HTTP):
        from regalia.store.http import HttpBlobs  # noqa: PLC0415

        return HttpBlobs(text)
    if text.startswith(SCHEME) and (address := S3Address.parse(text)).reference is None:
        return _s3_blobs(address)
    if is_versioned(text):
        return _open_version(text, folder, helpers=helpers)
    if "://" in text or not text:
        raise UsageError(CoreCode.BAD_CONFIG, f"store {text[:80]!r}: {_KINDS}")
    place = folder / Path(text)
    if (place / VERSIONS).is_dir() and not (place / MANIFEST).exists():
        raise UsageError(
            CoreCode.BAD_CONFIG, f"{text[:80]!r} is a store of versions: write dir:{text[:80]}:TAG"
        )
    return LocalBlobs(place)


def open_cached(
    text: str, folder: Path, *, cache: str = "", cache_bytes: int = 0, peers: Sequence[str] = ()
) -> Source | CachedBlobs:
    """As ``open_store``, through a cache on this machine and through peers.

    Args:
        text: as ``open_store``. A local directory is read without cache and peers.
        folder: folder that relative paths start from.
        cache: path of the cache's folder; empty for none.
        cache_bytes: bound on what the cache holds.
        peers: http or https addresses of other machines' caches.

    Raises:
        UsageError: as ``open_store``; BAD_CONFIG for cache and peers.
        LocalError, UnavailableError, IntegrityError, ParseError: as ``open_store``; the cache's
            folder is none.
    """
    from regalia.store.cached import CachedBlobs  # noqa: PLC0415
    from regalia.store.peers import Peers  # noqa: PLC0415
    from regalia.store.piece_cache import LEAST, PieceCache  # noqa: PLC0415

    if cache and cache_bytes < LEAST:
        raise UsageError(CoreCode.BAD_CONFIG, f"cache_bytes: {cache_bytes}, at least {LEAST}")
    with ExitStack() as cleanup:
        others = Peers(peers) if peers else None
        if others is not None:
            cleanup.callback(others.close)
        pieces = PieceCache(folder / cache, cache_bytes) if cache else None
        origin = open_store(text, folder)
        if isinstance(origin, LocalBlobs) or (pieces is None and others is None):
            return origin
        cleanup.pop_all()
        return CachedBlobs(origin, pieces, others)


def is_versioned(text: str) -> bool:
    """Whether an address is that of a store of several versions, or of a version there."""
    return text.startswith((oci_address.SCHEME, dir_address.SCHEME, SCHEME))


def open_versions(text: str, folder: Path, *, write: bool = False, helpers: bool = True) -> Named:
    """Open a store of several versions; the caller closes the repository.

    Args:
        text: oci://HOST/REPOSITORY, s3://BUCKET/PREFIX or dir:PATH; a version may be named.
        folder: folder that a relative path starts from.
        write: ask for what writing needs, and make a local store that is missing.
        helpers: whether a program may be run that Docker's configuration names.

    Raises:
        UsageError, KeyAccessError, LocalError: as ``open_store``.
    """
    if text.startswith(oci_address.SCHEME):
        from regalia.store.oci import OciRepository  # noqa: PLC0415

        oci = OciAddress.parse(text)
        return Named(OciRepository(oci, write=write, helpers=helpers), oci.reference)
    if text.startswith(dir_address.SCHEME):
        local = DirAddress.parse(text, folder)
        objects = LocalObjects(local.folder, local.describe(), create=write)
        return Named(ObjectRepository(objects), local.reference)
    if text.startswith(SCHEME):
        address = S3Address.parse(text)
        return Named(ObjectRepository(_s3_objects(address)), address.reference)
    raise UsageError(
        CoreCode.BAD_CONFIG,
        f"{text[:80]!r} is no store of versions: want oci://…, s3://… or dir:…",
    )


def _open_version(text: str, folder: Path, *, helpers: bool) -> ImageBlobs:
    repository, reference = open_versions(text, folder, helpers=helpers)
    with ExitStack() as cleanup:
        cleanup.callback(repository.close)
        blobs = repository.open(_required(reference, text))
        if not isinstance(repository, ObjectRepository):
            cleanup.pop_all()  # a registry's connections go on with its blobs
    return blobs


def _required(reference: str | None, text: str) -> str:
    if reference is None:
        raise UsageError(
            CoreCode.BAD_CONFIG, f"store {text[:80]!r} names no version: add :TAG or @sha256:…"
        )
    return reference


def _s3_blobs(address: S3Address) -> S3Blobs:
    try:
        from regalia.store.s3 import S3Blobs  # noqa: PLC0415
    except ImportError as exc:
        raise _without_extra(exc) from exc
    return S3Blobs(address)


def _s3_objects(address: S3Address) -> S3Objects:
    try:
        from regalia.store.s3_objects import S3Objects  # noqa: PLC0415
    except ImportError as exc:
        raise _without_extra(exc) from exc
    return S3Objects(address)


def _without_extra(error: ImportError) -> Exception:
    return missing_extra(error) or error
