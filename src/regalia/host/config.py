"""Configuration: TOML files read once, at the rim, into frozen structs. Unknown keys are errors."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, TypeVar

import msgspec

from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
_LIMIT = 1 << 20  # bytes


def load_toml(path: Path, kind: type[T]) -> T:
    """Read ``path`` into ``kind``, a frozen msgspec struct that forbids unknown fields.

    Args:
        path: of the file.
        kind: of the struct.

    Raises:
        UsageError: BAD_CONFIG, naming the file and the setting.
        LocalError: the file cannot be read.
    """
    data = read_file(path, limit=_LIMIT)
    try:
        return msgspec.convert(tomllib.loads(data.decode("utf-8")), type=kind, strict=True)
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError, UnicodeError) as exc:
        raise UsageError(CoreCode.BAD_CONFIG, f"{path}: {exc}") from exc
