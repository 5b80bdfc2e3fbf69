"""Rules for the file names in a sealed model. Spec: docs/spec/sealed-model.md, "Paths".

The writer applies them to refuse such a name, and the reader because it does not trust that
every writer did.
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

# C0, DEL and C1 controls; the backslash, which separates directories on Windows; and Unicode's
# bidirectional controls, which make a name display as another.
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
    """Check that a path is a relative POSIX path without special components.

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
    """Refuse different paths that some file system treats as the same.

    Two spellings collide if they are equal after NFC, case folding and NFC again, as on file
    systems that ignore case or normalize Unicode. This includes directories, and no file may
    also be a directory.

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
    # Case folding can leave a string that is not in NFC, hence the second normalization.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
