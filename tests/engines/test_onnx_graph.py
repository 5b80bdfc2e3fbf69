"""ONNX files are taken apart strictly: weights stay in place, and nothing refers elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import IntegrityError, ParseError, RegaliaError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.onnx import graph as graph_module
from regalia.engines.onnx.graph import separate
from regalia.engines.onnx.wire import fields, length_delimited, read_varint, varint
from tests.engines.onnx_models import tiny_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engines.onnx_models import TinyOnnx

onnx = pytest.importorskip("onnx", reason="the package onnx makes the files")
KINDS = onnx.TensorProto


def refused(
    tiny: TinyOnnx, kind: type[RegaliaError], match: str | None = None, **changes: bytes | None
) -> None:
    with pytest.raises(kind, match=match):
        separate(tiny.files(**changes), "model.onnx")


@pytest.mark.parametrize("external", [False, True])
def test_weights_become_inputs(external: bool) -> None:  # noqa: FBT001
    tiny = tiny_onnx(external=external, lead=8)
    files = tiny.files()
    found = separate(files, "model.onnx")
    rest = onnx.load_from_string(found.rest)
    onnx.checker.check_model(rest)
    assert [item.name for item in rest.graph.initializer] == ["zero"], "small ones stay"
    inputs = {item.name: item for item in rest.graph.input}
    assert set(inputs) == {"input_ids", "attention_mask", "embedding", "matrix"}
    for weight, array in zip(found.weights, (tiny.embedding, tiny.matrix), strict=True):
        place = weight.place
        assert bytes(files.view(place.path)[place.start : place.stop]) == array.tobytes()
        assert weight.shape == array.shape
        declared = inputs[weight.name].type.tensor_type
        assert declared.elem_type == KINDS.FLOAT
        assert [dim.dim_value for dim in declared.shape.dim] == list(array.shape)
    assert tiny.embedding.tobytes()[:64] not in found.rest


def test_an_input_that_is_declared_stays_one() -> None:
    tiny = tiny_onnx()
    tiny.model.graph.input.append(
        onnx.helper.make_tensor_value_info("matrix", KINDS.FLOAT, tiny.matrix.shape)
    )
    rest = onnx.load_from_string(separate(tiny.files(), "model.onnx").rest)
    assert [item.name for item in rest.graph.input].count("matrix") == 1


def edit_external(key: str, value: str) -> Callable[[TinyOnnx], None]:
    def edit(tiny: TinyOnnx) -> None:
        for entry in tiny.model.graph.initializer[1].external_data:
            if entry.key == key:
                entry.value = value

    return edit


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("location", "../weights.bin", ParseError),
        ("location", "/etc/passwd", ParseError),
        ("location", "a/../../weights.bin", ParseError),
        ("location", "..\\weights.bin", ParseError),
        ("location", "*/_ORT_MEM_ADDR_/*", IntegrityError),
        ("location", "absent.bin", IntegrityError),
        ("offset", "999999999", IntegrityError),
        ("offset", "9" * 5000, ParseError),
        ("offset", "-4", ParseError),
        ("offset", "0x10", ParseError),
        ("offset", "4", ParseError),  # overlaps with the embedding
        ("length", "4", ParseError),
        ("length", "18446744073709551616", ParseError),
    ],
)
def test_external_data_stays_in_the_model(key: str, value: str, kind: type[RegaliaError]) -> None:
    tiny = tiny_onnx(external=True)
    edit_external(key, value)(tiny)
    refused(tiny, kind)


def test_external_data_may_lie_below_the_file() -> None:
    tiny = tiny_onnx(external=True)
    files = tiny.files(model_DOT_onnx=None, onnx__model_DOT_onnx=tiny.model.SerializeToString())
    with pytest.raises(IntegrityError):
        separate(files, "onnx/model.onnx")
    files = tiny.files(
        model_DOT_onnx=None, weights_DOT_bin=None,
        onnx__model_DOT_onnx=tiny.model.SerializeToString(), onnx__weights_DOT_bin=tiny.external,
    )  # fmt: skip
    assert {w.place.path for w in separate(files, "onnx/model.onnx").weights} == {
        "onnx/weights.bin"
    }


def external_tensor() -> Any:  # noqa: ANN401
    tensor = onnx.numpy_helper.from_array(np.zeros(2, np.float32), "small")
    tensor.ClearField("raw_data")
    tensor.data_location = KINDS.EXTERNAL
    tensor.external_data.add(key="location", value="*/_ORT_MEM_ADDR_/*")
    return tensor


def in_constant(model: Any) -> None:  # noqa: ANN401
    node = onnx.helper.make_node("Constant", [], ["c"], value=external_tensor())
    model.graph.node.append(node)


def in_list_of_tensors(model: Any) -> None:  # noqa: ANN401
    node = onnx.helper.make_node("X", [], ["c"])
    node.attribute.append(onnx.helper.make_attribute("a", [external_tensor()]))
    model.graph.node.append(node)


def in_nested_graph(model: Any) -> None:  # noqa: ANN401
    inner = onnx.helper.make_graph([], "inner", [], [], [external_tensor()])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner))


def in_constant_of_nested_graph(model: Any) -> None:  # noqa: ANN401
    node = onnx.helper.make_node("Constant", [], ["c"], value=external_tensor())
    inner = onnx.helper.make_graph([node], "inner", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner))


def in_function(model: Any) -> None:  # noqa: ANN401
    node = onnx.helper.make_node("Constant", [], ["c"], value=external_tensor())
    model.functions.append(
        onnx.helper.make_function("d", "f", [], ["c"], [node], [onnx.helper.make_opsetid("", 17)])
    )


def in_default_of_function(model: Any) -> None:  # noqa: ANN401
    made = onnx.helper.make_function("d", "f", [], [], [], [onnx.helper.make_opsetid("", 17)])
    made.attribute_proto.append(onnx.helper.make_attribute("a", external_tensor()))
    model.functions.append(made)


def sparse(model: Any) -> None:  # noqa: ANN401
    model.graph.sparse_initializer.add()


def sparse_attribute(model: Any) -> None:  # noqa: ANN401
    node = model.graph.node.add(op_type="Constant", output=["c"])
    node.attribute.add(name="sparse_value", type=11).sparse_tensor.dims.append(1)


def training(model: Any) -> None:  # noqa: ANN401
    model.training_info.add()


@pytest.mark.parametrize(
    "hide",
    [in_constant, in_list_of_tensors, in_nested_graph, in_constant_of_nested_graph, in_function,
     in_default_of_function, sparse, sparse_attribute, training],
)  # fmt: skip
def test_what_stays_refers_to_nothing(hide: Callable[[Any], None]) -> None:
    tiny = tiny_onnx()
    hide(tiny.model)
    refused(tiny, UsageError)


def typed(tensor: Any) -> None:  # noqa: ANN401
    tensor.float_data.extend(np.frombuffer(tensor.raw_data, np.float32))
    tensor.ClearField("raw_data")


def text(tensor: Any) -> None:  # noqa: ANN401
    tensor.data_type = KINDS.STRING


def bfloat(tensor: Any) -> None:  # noqa: ANN401
    tensor.data_type = KINDS.BFLOAT16


def shorter(tensor: Any) -> None:  # noqa: ANN401
    tensor.raw_data = tensor.raw_data[:-1]


def huge(tensor: Any) -> None:  # noqa: ANN401
    tensor.dims[0] = 1 << 60


def negative(tensor: Any) -> None:  # noqa: ANN401
    tensor.dims[0] = -1


def many_dimensions(tensor: Any) -> None:  # noqa: ANN401
    tensor.dims.extend([1] * 9)


def both_places(tensor: Any) -> None:  # noqa: ANN401
    tensor.data_location = KINDS.EXTERNAL
    tensor.external_data.add(key="location", value="model.onnx")


def entry_without_location(tensor: Any) -> None:  # noqa: ANN401
    tensor.external_data.add(key="location", value="model.onnx")


def renamed(tensor: Any) -> None:  # noqa: ANN401
    tensor.name = "embedding"


def nameless(tensor: Any) -> None:  # noqa: ANN401
    tensor.name = ""


def long_name(tensor: Any) -> None:  # noqa: ANN401
    tensor.name = "x" * 600


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [(typed, UsageError), (text, UsageError), (bfloat, UsageError), (shorter, ParseError),
     (huge, ParseError), (negative, ParseError), (many_dimensions, ParseError),
     (both_places, ParseError), (entry_without_location, ParseError), (renamed, ParseError),
     (nameless, ParseError), (long_name, ParseError)],
)  # fmt: skip
def test_odd_tensors_are_refused(spoil: Callable[[Any], None], kind: type[RegaliaError]) -> None:
    tiny = tiny_onnx()
    spoil(tiny.model.graph.initializer[1])
    refused(tiny, kind)


def test_nesting_is_bounded() -> None:
    tiny = tiny_onnx()
    inner = onnx.helper.make_graph([], "inner", [], [])
    for _ in range(graph_module.DEPTH_MAX + 2):
        node = onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner)
        inner = onnx.helper.make_graph([node], "inner", [], [])
    tiny.model.graph.node.extend(inner.node)
    refused(tiny, ParseError, "too deeply")


def test_constants_that_would_be_copied_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_onnx()
    separate(tiny.files(), "model.onnx")
    monkeypatch.setattr(graph_module, "GRAPH_MAX", 200)
    refused(tiny, UsageError, "would be copied")


def test_numbers_of_tensors_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "TENSORS_MAX", 1)
    refused(tiny_onnx(), ParseError, "more than 1")


@pytest.mark.parametrize(("count", "why"), [(0, "no graph"), (2, "several graphs")])
def test_one_graph(count: int, why: str) -> None:
    data = length_delimited(7, tiny_onnx().model.graph.SerializeToString())
    refused(tiny_onnx(), ParseError, why, model_DOT_onnx=data * count)


@pytest.mark.parametrize(
    "data",
    [b"\x80", b"\xff" * 10 + b"\x01", b"\x0b", b"\x0c", b"\x0a\x05abc", b"\x09abc", b"\x0d",
     b"\x00\x01", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x08",
     b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"],
    ids=repr,
)  # fmt: skip
def test_broken_messages(data: bytes) -> None:
    with pytest.raises(ParseError):
        list(fields(memoryview(data), "x"))
    refused(tiny_onnx(), ParseError, model_DOT_onnx=data)


@given(st.integers(0, (1 << 64) - 1))
def test_varints_come_back(value: int) -> None:
    data = varint(value)
    assert read_varint(memoryview(data), 0, "x") == (value, len(data))


@given(st.data())
def test_any_byte_may_change(data: st.DataObject) -> None:
    """A changed file is refused with one of our errors, or taken apart; nothing else happens."""
    whole = bytearray(BYTES)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, HEAD))] = data.draw(st.integers(0, 255))
    files = TINY.files(model_DOT_onnx=bytes(whole))
    try:
        found = separate(files, "model.onnx")
    except RegaliaError:
        pass
    else:
        size = len(whole)
        assert all(0 <= w.place.start <= w.place.stop <= size for w in found.weights)


TINY = tiny_onnx()
BYTES = TINY.model.SerializeToString()
HEAD = BYTES.index(TINY.embedding.tobytes()[:16])  # the nodes and the first tensor's fields


def test_codes() -> None:
    with pytest.raises(IntegrityError) as caught:
        separate(tiny_onnx(external=True).files(weights_DOT_bin=b"short"), "model.onnx")
    assert caught.value.code is EngineCode.ENGINE_MODEL_INCOMPLETE
