"""Checks output paths before a command reads, asks or writes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, LocalError

if TYPE_CHECKING:
    from pathlib import Path


def must_be_new(*paths: Path) -> None:
    """Refuse a path that exists, or whose folder does not. Raises LocalError."""
    for path in paths:
        if path.exists():
            raise LocalError(CoreCode.FILE_EXISTS, f"{path} exists")
        if not path.absolute().parent.is_dir():
            raise LocalError(CoreCode.FILE_MISSING, f"{path}: its folder does not exist")
