"""Reads the small text and JSON files of a model, which are already in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from regalia.core.weights import ModelFiles

JSON_MAX = 4 * MIB  # bytes of config.json, tokenizer_config.json or a chat template


def read_text(files: ModelFiles, path: str, *, limit: int = JSON_MAX) -> str | None:
    """Read a small text file of the model; None if there is no such file. Raises ParseError.

    Args:
        files: the model's files.
        path: path of the file in the model.
        limit: maximum size in bytes.
    """
    if path not in files.paths():
        return None
    view = files.view(path)
    if len(view) > limit:
        raise ParseError(CoreCode.TOO_LARGE, f"{path}: {len(view)} bytes, at most {limit}")
    try:
        return str(view, "utf-8")
    except UnicodeDecodeError as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path}: not UTF-8") from exc


def read_object(files: ModelFiles, path: str) -> dict[str, Any] | None:
    """Read a file that holds a JSON object; None if there is no such file. Raises ParseError.

    Args:
        files: the model's files.
        path: path of the file in the model.
    """
    text = read_text(files, path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path}: not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ParseError(CoreCode.MALFORMED, f"{path}: not a JSON object")
    return value
