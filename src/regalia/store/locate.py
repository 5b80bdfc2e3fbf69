"""Opens the store that a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, UsageError
from regalia.core.extras import missing_extra
from regalia.store.local import LocalBlobs
from regalia.store.s3_address import SCHEME, S3Address

if TYPE_CHECKING:
    from regalia.store.ranges import RangedBlobs


def open_store(text: str, folder: Path) -> LocalBlobs | RangedBlobs:
    """Open a store, which the caller closes; all kinds are context managers.

    Args:
        text: configured path of a directory, http or https URL, or s3://BUCKET/PREFIX.
        folder: folder that a relative path starts from.

    Raises:
        UsageError: BAD_CONFIG, the text is neither a path nor a valid URL; of S3 also
            EXTRA_MISSING and STORE_CREDENTIALS_MISSING.
        LocalError: the directory does not exist.
    """
    if text.startswith(("http://", "https://")):
        from regalia.store.http import HttpBlobs  # noqa: PLC0415

        return HttpBlobs(text)
    if text.startswith(SCHEME):
        return _open_s3(S3Address.parse(text))
    if "://" in text or not text:
        raise UsageError(CoreCode.BAD_CONFIG, f"store {text[:80]!r}: want a directory or a URL")
    return LocalBlobs(folder / Path(text))


def _open_s3(address: S3Address) -> RangedBlobs:
    try:
        from regalia.store.s3 import S3Blobs  # noqa: PLC0415
    except ImportError as exc:
        missing = missing_extra(exc)
        if missing is None:
            raise
        raise missing from exc
    return S3Blobs(address)
