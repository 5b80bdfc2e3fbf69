"""Models as they are found: parts, pickles, and what no engine needs."""

from __future__ import annotations

import json
import pickle
import zipfile
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, RegaliaError
from regalia.seal.codes import SealCode
from regalia.seal.scan import ScanOptions, check_unchanged, scan
from regalia_testing.sealed import seal_testbed

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia.crypto.sign import SigningKey

LEAVE_OUT = ScanOptions(leave_out_unneeded=True)
WEIGHTS = "model.safetensors"


def write(folder: Path, *names: str, **contents: bytes) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents.get(name, name.encode()))
    return folder


def paths(folder: Path, options: ScanOptions | None = None) -> list[str]:
    return [file.path for file in scan(folder, options or ScanOptions()).files]


def refused(folder: Path, code: Code, *words: str, options: ScanOptions | None = None) -> None:
    with pytest.raises(RegaliaError) as caught:
        scan(folder, options or ScanOptions())
    assert caught.value.code is code, caught.value
    assert all(word in caught.value.what for word in words), caught.value.what


# --- parts


def part(number: int, count: int, stem: str = "model") -> str:
    return f"{stem}-{number:05}-of-{count:05}.safetensors"


def index(*parts: str) -> bytes:
    weights = {f"layer.{number}": name for number, name in enumerate(parts)}
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": weights}).encode()


@pytest.mark.parametrize("with_index", [True, False])
def test_parts_with_and_without_a_list_of_them(tmp_path: Path, *, with_index: bool) -> None:
    names = [part(number, 3) for number in (1, 2, 3)]
    write(tmp_path, *names, "config.json")
    if with_index:
        (tmp_path / "model.safetensors.index.json").write_bytes(index(*names))
    assert [name for name in paths(tmp_path) if name.endswith(".safetensors")] == names


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, part(1, 3), part(3, 3))
    refused(tmp_path, SealCode.INCOMPLETE_MODEL, repr(part(2, 3)), repr(part(1, 3)))


def test_a_part_that_the_list_names_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "sub", "a.safetensors")
    (tmp_path / "sub" / "model.safetensors.index.json").write_bytes(
        index("a.safetensors", "b.safetensors")
    )
    refused(tmp_path, SealCode.INCOMPLETE_MODEL, "'sub/b.safetensors'", "index.json")


def test_a_download_that_has_not_ended(tmp_path: Path) -> None:
    write(tmp_path, WEIGHTS, "tokenizer.json.incomplete")
    refused(tmp_path, SealCode.INCOMPLETE_MODEL, "tokenizer.json.incomplete")


@pytest.mark.parametrize(
    "name", [part(0, 3), part(4, 3), part(1, 99_999), part(0, 0), "model-1-of-2.safetensors"]
)
def test_a_name_that_only_looks_like_a_part(tmp_path: Path, name: str) -> None:
    assert paths(write(tmp_path, name)) == [name]


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"weight_map":[]}', b'{"weight_map":{"a":1}}', b"\xff", b"[" * 100_000],
)
def test_a_list_of_parts_that_is_none(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, WEIGHTS)
    (tmp_path / "model.safetensors.index.json").write_bytes(data)
    refused(tmp_path, CoreCode.MALFORMED, "model.safetensors.index.json")


def test_a_list_leads_nowhere_else(tmp_path: Path) -> None:
    """What it names is looked up among the files of the model, and not opened."""
    write(tmp_path, "model/" + WEIGHTS, "secret.safetensors")
    (tmp_path / "model" / "model.safetensors.index.json").write_bytes(
        index("../secret.safetensors")
    )
    refused(tmp_path / "model", SealCode.INCOMPLETE_MODEL, "../secret.safetensors")


# --- pickles


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "sub/Model.PT",
        "x.pth",
        "x.ckpt",
        "training_args.bin",
        "adapter_model.bin",
    ],
)
def test_a_pickle_by_its_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "config.json")
    refused(tmp_path, SealCode.PICKLED_WEIGHTS, repr(name))
    refused(tmp_path, SealCode.PICKLED_WEIGHTS, options=LEAVE_OUT)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("size", [1, 200_000])
def test_a_pickle_by_its_first_bytes(tmp_path: Path, protocol: int, size: int) -> None:
    write(tmp_path, "config.json")
    (tmp_path / "data.bin").write_bytes(pickle.dumps(b"x" * size, protocol=protocol))
    refused(tmp_path, SealCode.PICKLED_WEIGHTS, "'data.bin'")


def test_a_pickle_in_an_archive(tmp_path: Path) -> None:
    """As torch.save writes it."""
    with zipfile.ZipFile(tmp_path / "data.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(1))
        archive.writestr("archive/version", "3")
    refused(tmp_path, SealCode.PICKLED_WEIGHTS, "'data.bin'")


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x01", b"\x02\x09", b"PK\x03\x04", bytes(99)])
def test_other_files_of_that_ending_are_sealed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "data.bin").write_bytes(data)
    assert paths(tmp_path) == ["data.bin"]


# --- what no engine needs

DUPLICATES = [
    "flax_model.msgpack",
    "original/consolidated.00.pth",
    "original/params.json",
    "pytorch_model-00001-of-00001.bin",
    "pytorch_model.bin.index.json",
    "rust_model.ot",
    "tf_model.h5",
]
NEEDED = ["config.json", "model.gguf", "model.onnx", WEIGHTS, "sub/original/x", "tokenizer.json"]


def test_the_same_weights_in_other_formats_are_left_out_when_asked(tmp_path: Path) -> None:
    write(tmp_path, *DUPLICATES, *NEEDED)
    refused(tmp_path, SealCode.PICKLED_WEIGHTS)
    found = scan(tmp_path, LEAVE_OUT)
    assert [file.path for file in found.files] == NEEDED
    assert list(found.left_out) == DUPLICATES
    assert found.unneeded == ()
    check_unchanged(tmp_path, found, LEAVE_OUT)


def test_they_are_sealed_and_named_otherwise(tmp_path: Path) -> None:
    write(tmp_path, "tf_model.h5", "original/params.json", *NEEDED)
    found = scan(tmp_path)
    assert found.unneeded == ("original/params.json", "tf_model.h5")
    assert set(found.unneeded) < {file.path for file in found.files}
    assert found.left_out == ()


def test_without_safetensors_nothing_is_a_duplicate(tmp_path: Path) -> None:
    write(tmp_path, "tf_model.h5", "original/params.json", "sub/" + WEIGHTS)
    assert scan(tmp_path, LEAVE_OUT).left_out == ()


def test_what_is_left_out_is_not_a_part_of_the_model(tmp_path: Path, owner: SigningKey) -> None:
    write(tmp_path / "model", *DUPLICATES, *NEEDED)
    sealed = seal_testbed(tmp_path / "model", tmp_path / "sealed", owner, contents=LEAVE_OUT)
    assert list(sealed.load().paths()) == NEEDED
