"""Opens the store that a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, UsageError
from regalia.store.local import LocalBlobs

if TYPE_CHECKING:
    from regalia.store.http import HttpBlobs


def open_store(text: str, folder: Path) -> LocalBlobs | HttpBlobs:
    """Open a store, which the caller closes; both kinds are context managers.

    Args:
        text: configured path of a directory, or http or https URL.
        folder: folder that a relative path starts from.

    Raises:
        UsageError: BAD_CONFIG, the text is neither a path nor a valid URL.
        LocalError: the directory does not exist.
    """
    if text.startswith(("http://", "https://")):
        from regalia.store.http import HttpBlobs  # noqa: PLC0415

        return HttpBlobs(text)
    if "://" in text or not text:
        raise UsageError(CoreCode.BAD_CONFIG, f"store {text[:80]!r}: want a directory or a URL")
    return LocalBlobs(folder / Path(text))
