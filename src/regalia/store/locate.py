"""From the text in a configuration to a source of blobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, UsageError
from regalia.store.local import LocalBlobs

if TYPE_CHECKING:
    from regalia.store.http import HttpBlobs


def open_store(text: str, folder: Path) -> LocalBlobs | HttpBlobs:
    """Open a store: a directory, or an http(s) URL. The caller closes it (both are contexts).

    Args:
        text: as configured.
        folder: relative directories start here.

    Raises:
        UsageError: BAD_CONFIG.
        LocalError: the directory is not there.
    """
    if text.startswith(("http://", "https://")):
        from regalia.store.http import HttpBlobs  # noqa: PLC0415

        return HttpBlobs(text)
    if "://" in text or not text:
        raise UsageError(CoreCode.BAD_CONFIG, f"store {text[:80]!r}: want a directory or a URL")
    return LocalBlobs(folder / Path(text))
