"""How a configuration names a local store of several versions: dir:PATH[:TAG|@DIGEST]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from regalia.core.errors import CoreCode, UsageError
from regalia.store.reference import split_reference

SCHEME = "dir:"


@dataclass(frozen=True, slots=True)
class DirAddress:
    """A folder with versions and their blobs, and one of the versions if one is named."""

    folder: Path
    reference: str | None = None

    @classmethod
    def parse(cls, text: str, beside: Path) -> Self:
        """Parse dir:PATH[:TAG|@DIGEST].

        Args:
            text: as configured.
            beside: folder that a relative path starts from.

        Raises:
            UsageError: BAD_CONFIG.
        """
        try:
            place, reference = split_reference(text.removeprefix(SCHEME))
        except ValueError as exc:
            raise UsageError(CoreCode.BAD_CONFIG, f"store {text[:200]!r}: {exc}") from None
        if not place or (place.endswith("/") and place != "/" and reference is not None):
            raise UsageError(CoreCode.BAD_CONFIG, f"store {text[:200]!r}: want dir:PATH:VERSION")
        return cls(beside / Path(place), reference)

    def describe(self) -> str:
        """The folder."""
        return f"{SCHEME}{self.folder}"
