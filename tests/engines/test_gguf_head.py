"""The head of a GGUF file is read strictly, before llama.cpp sees it."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, IntegrityError, ParseError, RegaliaError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.llama_cpp import build_engine, gguf
from regalia.engines.llama_cpp.builder import find_file, find_template, require_whole_model
from regalia.engines.llama_cpp.gguf import Head, parse_gguf
from regalia_testing.models import FilesInMemory
from tests.engines.gguf_files import (
    ARRAY,
    F32,
    TEXT,
    Gguf,
    TensorInfo,
    array,
    number,
    text,
    text_value,
    value,
)


def parse(data: bytes) -> Head:
    return parse_gguf(memoryview(data), what="m.gguf")


def refused(data: bytes, kind: type[RegaliaError], match: str | None = None) -> RegaliaError:
    with pytest.raises(kind, match=match) as caught:
        parse(data)
    return caught.value


def test_a_whole_file() -> None:
    data = Gguf().written()
    head = parse(data)
    assert head.tensors == 2
    assert data[head.data :].startswith(bytes(range(256)))
    assert head.text("general.architecture") == "llama"
    assert head.number("general.alignment") == 32
    assert head.values["llama.rope.finetuned"] is True
    assert head.number("llama.rope.finetuned") is None
    assert "tokenizer.ggml.tokens" not in head.values, "arrays are checked and left out"
    assert parse(Gguf(version=2).written()).tensors == 2
    assert parse(data + bytes(24)).tensors == 2, "padding after the last tensor"


SCALARS = [
    (0, "<B", 200), (1, "<b", -100), (2, "<H", 60_000), (3, "<h", -30_000),
    (4, "<I", 4_000_000_000), (5, "<i", -2_000_000_000), (6, "<f", 0.5), (7, "<?", True),
    (10, "<Q", 1 << 63),
    (11, "<q", -(1 << 62)), (12, "<d", 0.1),
]  # fmt: skip


def test_values_of_every_type() -> None:
    values = [(f"v{kind}", value(kind, struct.pack(form, it))) for kind, form, it in SCALARS]
    arrays = [(f"a{kind}", array(kind, 3, 3 * struct.pack(form, it))) for kind, form, it in SCALARS]
    head = parse(Gguf(values=[*values, *arrays, ("end", text_value("here"))]).written())
    assert head.values == {f"v{kind}": it for kind, _, it in SCALARS} | {"end": "here"}


def test_the_usual_alignment() -> None:
    data = Gguf(values=[("x", number(1))]).written()
    assert parse(data).data % 32 == 0
    for alignment in (1, 64, 1 << 16):
        values = [("general.alignment", number(alignment))]
        info = [
            TensorInfo(shape=(32, 2)),
            TensorInfo("b", (2,), offset=-(-256 // alignment) * alignment),
        ]
        padding = bytes(-256 % alignment)
        made = Gguf(
            values=values, tensors=info, alignment=alignment, data=bytes(256) + padding + bytes(8)
        )
        assert parse(made.written()).data % alignment == 0
    refused(with_values(("general.alignment", number(1 << 17))), ParseError, "power of two")


def test_what_is_just_small_enough() -> None:
    values = [("k" * 1024, number(1)), ("t", text_value("x" * (4 << 20)))]
    info = [TensorInfo("n" * 63, (32, 2, 1, 1)), TensorInfo("output.weight", (64,), 3, 256)]
    head = parse(Gguf(values=values, tensors=info).written())
    assert len(head.text("t") or "") == 4 << 20


def test_sizes_of_blocks_are_those_of_the_formats_own_package() -> None:
    sizes = pytest.importorskip("gguf", reason="the package gguf is the oracle").GGML_QUANT_SIZES
    known = {int(kind): tuple(size) for kind, size in sizes.items()}
    assert {kind: known[kind] for kind in gguf.BLOCKS} == gguf.BLOCKS


@pytest.mark.parametrize("cut", range(0, len(Gguf().written()), 7))
def test_a_file_that_is_cut_off(cut: int) -> None:
    refused(Gguf().written()[:cut], (ParseError, IntegrityError))  # type: ignore[arg-type]


def with_values(*values: tuple[str | bytes, bytes]) -> bytes:
    return Gguf(values=list(values)).written()


def with_tensors(*tensors: TensorInfo) -> bytes:
    return Gguf(tensors=list(tensors)).written()


HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (Gguf(magic=b"GGML").written(), "does not begin"),
        (b"", "past the end"),
        (with_values(("", number(1))), "empty or appears twice"),
        (with_values(("a", number(1)), ("a", number(1))), "appears twice"),
        (with_values((b"\xff", number(1))), "not UTF-8"),
        (with_values(("a", text_value(b"\xff"))), "not UTF-8"),
        (with_values(("a", value(13, b""))), "unknown type 13"),
        (with_values(("a", array(ARRAY, 0, b""))), "array of arrays"),
        (with_values(("a", array(13, 0, b""))), "unknown type"),
        (with_values(("a", array(TEXT, 1, struct.pack("<Q", HUGE)))), "past the end"),
        (with_values(("a", array(F32, 1 << 24, b""))), "past the end"),
        (with_values(("general.alignment", number(0))), "power of two"),
        (with_values(("general.alignment", number(48))), "power of two"),
        (with_values(("general.alignment", number(1 << 31))), "power of two"),
        (with_values(("general.alignment", text_value("32"))), "power of two"),
        (with_tensors(TensorInfo(name="")), "empty or appears twice"),
        (with_tensors(TensorInfo(shape=(32,)), TensorInfo(offset=128)), "appears twice"),
        (with_tensors(TensorInfo(shape=())), "0 dimensions"),
        (with_tensors(TensorInfo(shape=(1,) * 5)), "5 dimensions"),
        (with_tensors(TensorInfo(shape=(0,))), "out of bounds"),
        (with_tensors(TensorInfo(shape=(HUGE,))), "out of bounds"),
        (with_tensors(TensorInfo(shape=(1 << 40, 1 << 40))), "out of bounds"),
        (with_tensors(TensorInfo(kind=3, shape=(33,))), "whole number of blocks"),
        (with_tensors(TensorInfo(offset=32)), "gap or an overlap"),
        (with_tensors(TensorInfo(), TensorInfo("b", offset=0)), "gap or an overlap"),
        (with_tensors(TensorInfo(shape=(4,)), TensorInfo("b", (4,), offset=16)), "gap or an over"),
        (Gguf(tensors=[]).written(), "after the last tensor"),
        (Gguf().written() + bytes(32), "after the last tensor"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_malformed(data: bytes, why: str) -> None:
    assert refused(data, ParseError, why).code is CoreCode.MALFORMED


@pytest.mark.parametrize(
    "data",
    [
        Gguf(counts=(HUGE, 0)).written(),
        Gguf(counts=(0, HUGE)).written(),
        with_values(("a", array(F32, HUGE, b""))),
        with_values(("a" * 1025, number(1))),
        with_values(("a", value(TEXT, struct.pack("<Q", HUGE)))),
        with_values(("a", text_value("x" * ((4 << 20) + 1)))),
        with_tensors(TensorInfo(name="x" * 64)),
    ],
    ids=range(7),
)
def test_sizes_are_bounded_before_anything_is_made_of_them(data: bytes) -> None:
    tracemalloc.start()
    assert refused(data, ParseError).code is CoreCode.TOO_LARGE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "data", [Gguf(version=1).written(), Gguf(version=4).written(), with_tensors(TensorInfo(kind=4))]
)
def test_unknown_versions_and_types_are_named(data: bytes) -> None:
    assert refused(data, UsageError).code is EngineCode.ENGINE_MODEL_UNSUPPORTED


def test_a_pointer_in_place_of_the_file() -> None:
    error = refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:00", IntegrityError)
    assert error.code is EngineCode.ENGINE_MODEL_INCOMPLETE


def test_a_long_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "HEAD_MAX", 100)
    assert refused(Gguf().written(), ParseError).code is CoreCode.TOO_LARGE


@given(st.data())
def test_any_bytes_may_change(data: st.DataObject) -> None:
    whole = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 300))] = data.draw(st.integers(0, 255))
    try:
        head = parse(bytes(whole))
    except RegaliaError:
        pass
    else:
        assert 0 <= head.data <= len(whole)


WHOLE = Gguf().written()


# The files of a model -----------------------------------------------------------------------


def files(**named: bytes) -> FilesInMemory:
    return FilesInMemory({name.replace("_DOT_", "."): data for name, data in named.items()})


@pytest.mark.parametrize(
    ("given_files", "option"),
    [
        (files(config_DOT_json=b"{}"), None),
        (files(a_DOT_gguf=WHOLE, b_DOT_gguf=WHOLE), None),
        (files(a_DOT_gguf=WHOLE), "b.gguf"),
        (files(a_DOT_gguf=WHOLE, config_DOT_json=b"{}"), "config.json"),
    ],
    ids=range(4),
)
def test_which_file_is_meant(given_files: FilesInMemory, option: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        find_file(given_files, option)
    assert caught.value.code is EngineCode.ENGINE_FORMAT_MISSING
    assert find_file(files(a_DOT_gguf=WHOLE, b_DOT_gguf=WHOLE), "b.gguf") == "b.gguf"
    assert find_file(files(a_DOT_gguf=WHOLE), None) == "a.gguf"


def test_parts_and_adapters_are_refused_by_name() -> None:
    def head(**values: Any) -> Head:  # noqa: ANN401
        return Head({"general.architecture": "llama"} | values)

    require_whole_model(head(), "m.gguf")
    require_whole_model(head(**{"split.count": 1, "general.type": "model"}), "m.gguf")
    for values, word in (
        ({"split.count": 3}, "one of 3 parts"),
        ({"general.type": "adapter"}, "adapter"),
        ({"general.type": "mmproj"}, "mmproj"),
    ):
        with pytest.raises(UsageError, match=word) as caught:
            require_whole_model(head(**values), "m.gguf")
        assert caught.value.code is EngineCode.ENGINE_MODEL_UNSUPPORTED
    with pytest.raises(ParseError):
        require_whole_model(Head({}), "m.gguf")


def test_where_the_template_comes_from() -> None:
    beside = files(
        chat_template_DOT_jinja=b"beside", tokenizer_config_DOT_json=b'{"chat_template": "older"}'
    )
    assert find_template(beside, Head({"tokenizer.chat_template": "own"})) == "own"
    assert find_template(beside, Head({})) == "beside"
    older = files(tokenizer_config_DOT_json=b'{"chat_template": "older"}')
    assert find_template(older, Head({})) == "older"
    assert find_template(files(), Head({})) is None
    with pytest.raises(ParseError):
        find_template(files(), Head({"tokenizer.chat_template": "x" * (4 << 20) + "y"}))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"thread": 2}, "thread"),
        ({"threads": 0}, "positive"),
        ({"prefill_step": 0}, "positive"),
        ({"context_max": "9"}, "context_max"),
        ({"file": 5}, "file"),
    ],
)
def test_options_are_checked_before_there_is_a_key(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        build_engine.check(options)
    assert caught.value.code is EngineCode.ENGINE_OPTION_UNKNOWN


def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp.llama_cpp", None)
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp", None)
    with pytest.raises(UsageError) as caught:
        build_engine.check({})
    assert caught.value.code is EngineCode.ENGINE_NOT_INSTALLED
    assert "llama_cpp" in str(caught.value)
    del request


def test_text_helpers() -> None:
    """The writer of these tests is right about lengths."""
    assert text("ä") == b"\x02" + bytes(7) + "ä".encode()
