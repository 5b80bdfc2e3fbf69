"""The strict safetensors reader: every defect refused, every file of the reference writer read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from regalia.core.errors import CoreCode, IntegrityError, ParseError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.safetensors import HEADER_MAX, ITEM_SIZES, parse_index, parse_safetensors

ENTRY = b'{"dtype":"U8","shape":[4],"data_offsets":[0,4]}'


def build(header: object, data: bytes = b"", *, raw: bytes | None = None) -> memoryview:
    text = json.dumps(header).encode() if raw is None else raw
    return memoryview(len(text).to_bytes(8, "little") + text + data)


def entry(
    begin: int, end: int, dtype: str = "U8", shape: list[Any] | None = None
) -> dict[str, Any]:
    size = end - begin
    return {
        "dtype": dtype,
        "shape": [size] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def test_reads_places() -> None:
    file = build(
        {"b": entry(4, 6), "a": entry(0, 4, "F32", [1]), "__metadata__": {"k": "v"}}, b"x" * 6
    )
    start = len(file) - 6
    found = parse_safetensors(file, what="f")
    assert [(t.name, t.dtype, t.shape, t.offset, t.size) for t in found] == [
        ("a", "F32", (1,), start, 4),
        ("b", "U8", (2,), start + 4, 2),
    ]
    assert found[0].count == 1


def test_scalars_and_empty_tensors() -> None:
    file = build({"s": entry(0, 2, "F16", []), "e": entry(0, 0, "F32", [0, 3])}, b"xy")
    assert {t.name: t.shape for t in parse_safetensors(file, what="f")} == {"s": (), "e": (0, 3)}


BAD_HEADERS: dict[str, object] = {
    "gap": {"a": entry(0, 2), "b": entry(3, 4)},
    "overlap": {"a": entry(0, 3), "b": entry(2, 4)},
    "data_left_over": {"a": entry(0, 3)},
    "data_missing": {"a": entry(0, 5)},
    "does_not_begin_at_zero": {"a": entry(1, 4)},
    "size_against_shape": {"a": entry(0, 4, "F32", [2])},
    "negative_dimension": {"a": entry(0, 4, "U8", [-4])},
    "two_negative_dimensions": {"a": entry(0, 4, "U8", [-2, -2])},
    "boolean_dimension": {"a": entry(0, 4, "F32", [True])},
    "float_dimension": {"a": entry(0, 4, "U8", [4.0])},
    "huge_dimension": {"a": entry(0, 4, "U8", [1 << 60, 0])},
    "too_many_dimensions": {"a": entry(0, 4, "U8", [4, 1, 1, 1, 1, 1, 1, 1, 1])},
    "negative_offset": {"a": {"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]}},
    "offsets_reversed": {"a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 0]}},
    "three_offsets": {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 2, 4]}},
    "missing_member": {"a": {"dtype": "U8", "shape": [4]}},
    "extra_member": {"a": entry(0, 4) | {"note": 1}},
    "entry_is_a_list": {"a": [0, 4]},
    "shape_is_text": {"a": entry(0, 4) | {"shape": "4"}},
    "type_is_a_number": {"a": entry(0, 4) | {"dtype": 8}},
    "empty_name": {"": entry(0, 4)},
    "long_name": {"n" * 513: entry(0, 4)},
    "metadata_is_a_list": {"a": entry(0, 4), "__metadata__": []},
    "metadata_of_numbers": {"a": entry(0, 4), "__metadata__": {"k": 1}},
    "header_is_a_list": [],
}


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("F8_E8M0", "quantized"),
        ("F8_E4M3", "quantized"),
        ("F4", "quantized"),
        ("F6_E2M3", "quantized"),
        ("C64", "does not know"),
        ("Q4_1", "does not know"),
    ],
)
def test_types_that_are_not_computed_with_are_named(dtype: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_safetensors(build({"a": entry(0, 4) | {"dtype": dtype}}, b"data"), what="f")
    assert caught.value.code is EngineCode.ENGINE_MODEL_UNSUPPORTED
    assert dtype in caught.value.what
    assert words in caught.value.what


def test_metadata_may_be_null() -> None:
    (tensor,) = parse_safetensors(
        build({"a": entry(0, 4), "__metadata__": None}, b"data"), what="f"
    )
    assert tensor.name == "a"


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_refuses_header(name: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_safetensors(build(BAD_HEADERS[name], b"data"), what="f")
    assert caught.value.code is CoreCode.MALFORMED


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b" {}",
        b'{"a":1,}',
        b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}",
        b'{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        b'{"a":NaN}',
        b"\xff\xfe",
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_refuses_bytes(raw: bytes) -> None:
    with pytest.raises(ParseError):
        parse_safetensors(build(None, b"data", raw=raw), what="f")


def test_limits_come_before_memory() -> None:
    with pytest.raises(ParseError) as caught:
        parse_safetensors(memoryview((HEADER_MAX + 1).to_bytes(8, "little") + b"{}"), what="f")
    assert caught.value.code is CoreCode.TOO_LARGE
    for short in (b"", b"\x02\x00", (3).to_bytes(8, "little") + b"{}"):
        with pytest.raises(ParseError):
            parse_safetensors(memoryview(short), what="f")


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(
            st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=20
        ).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from(["uint8", "int16", "float32", "float64", "bool"]),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        max_size=5,
    )
)
def test_agrees_with_the_reference_writer(tensors: dict[str, tuple[str, list[int]]]) -> None:
    arrays = {name: np.ones(shape, dtype) for name, (dtype, shape) in tensors.items()}
    file = save(arrays)
    found = parse_safetensors(memoryview(file), what="f")
    assert {t.name for t in found} == set(arrays)
    for tensor in found:
        want = arrays[tensor.name]
        assert tensor.shape == want.shape
        assert file[tensor.offset : tensor.offset + tensor.size] == want.tobytes()
        assert tensor.size == tensor.count * ITEM_SIZES[tensor.dtype]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_only_parse_errors(data: bytes) -> None:
    for raw in (data, build(None, b"", raw=data).tobytes()):
        try:
            parse_safetensors(memoryview(raw), what="f")
        except ParseError:
            continue
        except IntegrityError:
            assert raw.startswith(b"version https://git-lfs")  # a pointer, and told as one
            continue
        assert len(raw) >= 10  # only an empty table can get here


def test_index() -> None:
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": {"a": "x.safetensors"}})
    assert parse_index(memoryview(text.encode()), what="i") == {"a": "x.safetensors"}


@pytest.mark.parametrize(
    "value",
    [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 1}}, [],
     {"weight_map": {"a": ""}}, {"weight_map": {"a": "../x"}}, {"weight_map": {"a": "b\\x"}}],
)  # fmt: skip
def test_refuses_index(value: object) -> None:
    with pytest.raises(ParseError):
        parse_index(memoryview(json.dumps(value).encode()), what="i")
