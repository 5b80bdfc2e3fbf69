"""Paths and indexes of sealed models: the product agrees with every vector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import make_index_vectors
import pytest

from regalia.core.errors import ParseError
from regalia.seal.format.index import parse_index
from regalia.seal.format.paths import check_collisions, check_path

FOLDER = Path(__file__).parents[1] / "vectors" / "index"
PATHS: dict[str, Any] = json.loads((FOLDER / "paths.json").read_text(encoding="utf-8"))
INDEXES: dict[str, Any] = json.loads((FOLDER / "indexes.json").read_text(encoding="utf-8"))


def plaintext(case: dict[str, Any]) -> bytes:
    """The bytes that a case stands for, as docs/spec/sealed-model.md describes."""
    body = case["json"].encode()
    data = case.get("length", len(body)).to_bytes(8, "big") + body
    size = case.get("size", (len(data) + 65_535) // 65_536 * 65_536)
    data = (data + bytes(max(0, size - len(data))))[:size]
    last = case.get("last_byte")
    return data if last is None else data[:-1] + bytes([last])


def index_of(paths: list[str]) -> bytes:
    """An index of empty files with these paths."""
    return plaintext(
        {"json": make_index_vectors.index(*(make_index_vectors.file(path, 0) for path in paths))}
    )


@pytest.mark.parametrize("paths", PATHS["accepted"])
def test_paths(paths: list[str]) -> None:
    for path in paths:
        check_path(path)
    check_collisions(paths)
    assert [entry.path for entry in parse_index(index_of(paths)).entries] == paths


@pytest.mark.parametrize(
    ("code", "paths"),
    [
        pytest.param(code, paths, id=name)
        for code in ("PATH_REFUSED", "PATHS_COLLIDE")
        for name, paths in PATHS[code].items()
    ],
)
def test_paths_are_refused(code: str, paths: list[str]) -> None:
    with pytest.raises(ParseError) as caught:
        parse_index(index_of(paths))
    assert caught.value.code.name == code


@pytest.mark.parametrize("name", INDEXES["accepted"])
def test_indexes(name: str) -> None:
    case = INDEXES["accepted"][name]
    data = plaintext(case)
    assert data == make_index_vectors.plaintext(case)
    index = parse_index(data)
    assert index.encode() == data
    files = json.loads(case["json"])["files"]
    assert [(e.path, e.offset, e.length) for e in index.entries] == [
        (f["path"], f["offset"], f["length"]) for f in files
    ]


@pytest.mark.parametrize("name", INDEXES["refused"])
def test_indexes_are_refused(name: str) -> None:
    code, case = INDEXES["refused"][name]
    with pytest.raises(ParseError) as caught:
        parse_index(plaintext(case))
    assert caught.value.code.name == code
