"""The index, as somebody with the model key and the signing key could forge it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode
from regalia.core.types import Digest, ModelId
from regalia.seal.codes import SealCode
from regalia.seal.format.index import Index, parse_index
from regalia.seal.format.sealed import SealedCode
from regalia.seal.reader import open_sealed
from regalia.store.local import LocalBlobs
from regalia_testing.sealed import refused, refused_by_load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia.seal.format.index import Entry
    from regalia_testing.sealed import KeptMemory, OwnedModel


def index_of(sealed: OwnedModel) -> Index:
    with LocalBlobs(sealed.folder) as blobs:
        return open_sealed(blobs, sealed.verified(), sealed.key).index


def reseal_index(sealed: OwnedModel, plaintext: bytes, model_id: ModelId | None = None) -> None:
    sealed.write_index(plaintext)
    sealed.resign(lambda m: m if model_id is None else replace(m, model_id=model_id))


def renamed(index: Index, names: dict[str, str]) -> Index:
    entries = tuple(replace(e, path=names.get(e.path, e.path)) for e in index.entries)
    return replace(index, entries=entries)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ({"config.json": "../config.json"}, SealedCode.PATH_REFUSED),
        ({"config.json": "/etc/passwd"}, SealedCode.PATH_REFUSED),
        ({"config.json": "."}, SealedCode.PATH_REFUSED),
        ({"config.json": "a//b"}, SealedCode.PATH_REFUSED),
        ({"config.json": ""}, SealedCode.PATH_REFUSED),
        ({"config.json": "a\0b"}, SealedCode.PATH_REFUSED),
        ({"config.json": "a\\b"}, SealedCode.PATH_REFUSED),
        ({"config.json": "a\u202eb"}, SealedCode.PATH_REFUSED),
        ({"config.json": "Empty"}, SealedCode.PATHS_COLLIDE),
        ({"config.json": "SUB/x"}, SealedCode.PATHS_COLLIDE),
        ({"empty": "sub"}, SealedCode.PATHS_COLLIDE),  # a file and a directory
        ({"config.json": "zz"}, CoreCode.MALFORMED),
        ({"config.json": "empty"}, CoreCode.MALFORMED),
    ],
    ids=str,
)
def test_index_with_a_bad_name(
    sealed: OwnedModel, memory: KeptMemory, names: dict[str, str], code: Code
) -> None:
    bad = renamed(index_of(sealed), names)
    reseal_index(sealed, bad.encode(), bad.model_id())
    refused_by_load(sealed, memory, code)
    assert memory.allocated == 0


def test_renamed_and_permuted_files(sealed: OwnedModel, memory: KeptMemory) -> None:
    """Names are part of the model id: an index with other names does not fit the manifest."""
    bad = renamed(index_of(sealed), {"config.json": "conf1g.json"})
    reseal_index(sealed, bad.encode())
    refused_by_load(sealed, memory, SealCode.MODEL_ID_MISMATCH)


def test_model_id_changed(sealed: OwnedModel, memory: KeptMemory) -> None:
    sealed.resign(lambda m: replace(m, model_id=ModelId(bytes(32))))
    sealed.verify()  # nothing that a reader without the key could see
    refused_by_load(sealed, memory, SealCode.MODEL_ID_MISMATCH)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, offset=e.offset + 64),
        lambda e: replace(e, offset=e.offset - 64),
        lambda e: replace(e, length=e.length + 1),
        lambda e: replace(e, length=-1),
        lambda e: replace(e, offset=-64),
    ],
)
def test_index_with_misplaced_file(
    sealed: OwnedModel, memory: KeptMemory, change: Callable[[Entry], Entry]
) -> None:
    index = index_of(sealed)
    bad = replace(index, entries=(*index.entries[:-1], change(index.entries[-1])))
    reseal_index(sealed, bad.encode(), sealed.manifest().model_id)
    refused_by_load(sealed, memory, CoreCode.MALFORMED)


def test_index_of_another_stream_size(sealed: OwnedModel, memory: KeptMemory) -> None:
    index = index_of(sealed)
    last = index.entries[-1]
    entries = (*index.entries[:-1], replace(last, length=last.length - 1))
    bad = Index(entries, index.stream_size - 1)
    reseal_index(sealed, bad.encode(), bad.model_id())
    refused_by_load(sealed, memory, SealCode.MODEL_ID_MISMATCH)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: good + bytes(64 * 1024),
        lambda good: good[:-1] + b"\1",
        lambda good: good[:100],
        lambda _: b"",
        lambda good: b"\xff" * 8 + good[8:],
        lambda good: bytes(len(good)),
        lambda good: good.replace(b"regalia/sealed-index/v1", b"regalia/sealed-index/v2"),
    ],
)
def test_index_malformed(
    sealed: OwnedModel, memory: KeptMemory, spoil: Callable[[bytes], bytes]
) -> None:
    reseal_index(sealed, spoil(index_of(sealed).encode()))
    refused_by_load(sealed, memory, CoreCode.MALFORMED)


def test_index_limits(monkeypatch: pytest.MonkeyPatch, pristine: OwnedModel) -> None:
    data = index_of(pristine).encode()
    monkeypatch.setattr("regalia.seal.format.index.INDEX_LIMIT", len(data) - 1)
    refused(CoreCode.TOO_LARGE, lambda: parse_index(data))
    monkeypatch.undo()
    monkeypatch.setattr("regalia.seal.format.index.FILES_MAX", 3)
    refused(CoreCode.TOO_LARGE, lambda: parse_index(data))


def test_file_digest_is_checked_on_recovery(sealed: OwnedModel, tmp_path: Path) -> None:
    """Somebody with the model key could record a wrong digest; loading does not hash again."""
    index = index_of(sealed)
    wrong = replace(index.entries[-1], digest=Digest.of(b"something else"))
    bad = replace(index, entries=(*index.entries[:-1], wrong))
    reseal_index(sealed, bad.encode(), bad.model_id())
    sealed.load()
    refused(SealCode.FILE_CHANGED, lambda: sealed.recover(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sealed"]
