"""Which file names a sealed model may hold. Spec: docs/spec/sealed-model.md, "Paths".

The same rules bind the writer, which refuses to seal such a name, and the reader, which does
not trust that every writer did.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from regalia.core.errors import ParseError
from regalia.seal.format.sealed import SealedCode

if TYPE_CHECKING:
    from collections.abc import Iterable

PATH_LIMIT = 1024  # bytes of UTF-8
COMPONENT_LIMIT = 255  # bytes of UTF-8
DEPTH_MAX = 32  # components

# C0, DEL and C1 controls; the backslash, which separates directories elsewhere; and the
# bidirectional controls, with which one name shows as another.
_FORBIDDEN = frozenset(
    [
        *map(chr, range(0x20)),
        *map(chr, range(0x7F, 0xA0)),
        "\\",
        *map(chr, range(0x202A, 0x202F)),
        *map(chr, range(0x2066, 0x206A)),
        *"\u061c\u200e\u200f",
    ]
)


def check_path(path: str) -> None:
    """Accept a relative POSIX path of plain components.

    Raises:
        ParseError: PATH_REFUSED.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError as exc:
        raise ParseError(SealedCode.PATH_REFUSED, f"{path!a}: not UTF-8") from exc
    parts = path.split("/")
    if not 1 <= len(encoded) <= PATH_LIMIT or len(parts) > DEPTH_MAX:
        raise ParseError(
            SealedCode.PATH_REFUSED,
            f"{path[:80]!a}: 1 to {PATH_LIMIT} bytes in at most {DEPTH_MAX} levels are allowed",
        )
    if any(part in {"", ".", ".."} for part in parts):
        raise ParseError(
            SealedCode.PATH_REFUSED, f"{path!a}: absolute, or with an empty, . or .. component"
        )
    if any(len(part.encode()) > COMPONENT_LIMIT for part in parts):
        raise ParseError(
            SealedCode.PATH_REFUSED, f"{path!a}: a component of more than {COMPONENT_LIMIT} bytes"
        )
    if not _FORBIDDEN.isdisjoint(path):
        raise ParseError(
            SealedCode.PATH_REFUSED, f"{path!a}: control character or backslash in the name"
        )


def check_collisions(paths: Iterable[str]) -> None:
    """Refuse paths that some file system takes for one another.

    Two spellings are the same place when they agree after NFC, case folding and NFC again. No
    place may have two spellings, directories included, and no file may also be a directory.

    Raises:
        ParseError: PATHS_COLLIDE.
    """
    spelling: dict[str, tuple[str, bool]] = {}  # folded place -> (as written, is a file)
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            written = "/".join(parts[:depth])
            is_file = depth == len(parts)
            place = _fold(written)
            seen = spelling.setdefault(place, (written, is_file))
            if seen != (written, is_file):
                raise ParseError(
                    SealedCode.PATHS_COLLIDE, f"{seen[0]!a} and {written!a} name the same place"
                )


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
