"""Takes the weights out of an ONNX file, so that they stay where they lie.

onnxruntime copies what it finds in a file, and also what it is given as external data, to its own
heap. Inputs of a graph it uses in place. So every large initializer becomes an input of the same
name and shape, and the rest of the file, without weights, is what the library parses.

Nothing that is left may refer to a file or to an address: the library would follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING, NoReturn

from regalia.core.codec import MIB, decimal
from regalia.core.errors import CoreCode, IntegrityError, ParseError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.onnx.tensor import ELEMENTS, parse_tensor
from regalia.engines.onnx.wire import BYTES, fields, length_delimited, varint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.core.weights import ModelFiles
    from regalia.engines.onnx.tensor import Tensor
    from regalia.engines.onnx.wire import Field

GRAPH_MAX = 64 * MIB  # bytes of what is left without weights
INLINE_MAX = (
    1024  # bytes of an initializer that stays: shapes and scales, which graphs compute with
)
TENSORS_MAX = 200_000
DEPTH_MAX = 16  # graphs in graphs
_FILE_MAX = 1 << 48  # bytes

# Fields of the messages in onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_FUNCTION_NODE, _FUNCTION_ATTRIBUTE = 7, 11
_NODE, _INITIALIZER, _INPUT, _SPARSE = 1, 5, 11, 15  # of a graph
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a tensor lie in the model."""

    path: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Weight:
    """An initializer that became an input."""

    name: str
    kind: int  # a key of ELEMENTS
    shape: tuple[int, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Graph:
    """A file without its weights, and the weights."""

    rest: bytes
    weights: tuple[Weight, ...]


def separate(files: ModelFiles, path: str) -> Graph:
    """Take the large initializers out of an ONNX file.

    Args:
        files: the model's files, untrusted as to their form.
        path: the ONNX file. Its external data must lie beside or below it.

    Raises:
        ParseError: MALFORMED or TOO_LARGE.
        IntegrityError: ENGINE_MODEL_INCOMPLETE, a file with external data is missing or too short.
        UsageError: ENGINE_MODEL_UNSUPPORTED, weights have a form that cannot stay in place.
    """
    return _Separation(files, path).run()


class _Separation:
    """The work on one file."""

    def __init__(self, files: ModelFiles, path: str) -> None:
        self._files = files
        self._path = path
        self._data = files.view(path)
        self._weights: dict[str, Weight] = {}
        self._left = 0  # bytes that are kept

    def run(self) -> Graph:
        pieces: list[bytes] = []
        found = False
        for item in fields(self._data, self._path):
            if item.number == _MODEL_TRAINING:
                self._unsupported("it has instructions for training")
            if item.number == _MODEL_FUNCTIONS:
                self._check_function(item.data)
            if item.number == _MODEL_GRAPH:
                if found:
                    self._bad("several graphs")
                found = True
                body = b"".join(self._graph(item))
                pieces.append(length_delimited(_MODEL_GRAPH, body))
            else:
                pieces.append(self._keep(item))
        if not found:
            self._bad("no graph")
        self._check_apart()
        return Graph(b"".join(pieces), tuple(self._weights.values()))

    def _check_apart(self) -> None:
        """Check that no byte belongs to two tensors: one that moves takes its bytes along."""
        places = sorted((w.place for w in self._weights.values()), key=lambda place: place.start)
        ends: dict[str, int] = {}
        for place in places:
            if place.start < ends.get(place.path, 0):
                self._bad(f"two tensors overlap in {place.path[:200]}")
            ends[place.path] = place.stop

    def _graph(self, graph: Field) -> Iterator[bytes]:
        """The parts of the main graph that are left, and inputs for what is taken out."""
        inputs: set[bytes] = set()
        for item in fields(graph.data, self._path):
            if item.number == _INITIALIZER and item.kind == BYTES:
                kept = self._initializer(item, graph.at)
                if kept is not None:
                    yield kept
                continue
            self._check_part(item, DEPTH_MAX)
            if item.number == _INPUT:
                # Older files declare each initializer as an input, too.
                inputs |= {bytes(part.data) for part in fields(item.data, self._path)
                           if part.number == 1}  # fmt: skip
            yield self._keep(item)
        for weight in self._weights.values():
            if weight.name.encode() not in inputs:
                yield length_delimited(_INPUT, _value_info(weight))

    def _keep(self, item: Field) -> bytes:
        self._left += len(item.whole)
        if self._left > GRAPH_MAX:
            self._unsupported(
                f"more than {GRAPH_MAX} bytes that are no initializers, which would be copied"
            )
        return bytes(item.whole)

    def _initializer(self, item: Field, base: int) -> bytes | None:
        """What is kept of an initializer; None if it is taken out."""
        tensor = parse_tensor(item.data, self._path)
        if not tensor.name:
            self._bad("an initializer has no name")
        if tensor.kind not in ELEMENTS:
            self._unsupported(f"tensor {tensor.name[:80]!r} is of type {tensor.kind}")
        if not tensor.in_file and tensor.size <= INLINE_MAX:
            return self._keep(item)
        if tensor.name in self._weights:
            self._bad(f"two initializers are called {tensor.name[:80]!r}")
        if len(self._weights) >= TENSORS_MAX:
            raise ParseError(CoreCode.TOO_LARGE, f"{self._path}: more than {TENSORS_MAX} tensors")
        place = self._external(tensor) if tensor.in_file else self._inline(tensor, base + item.at)
        shape = tuple(tensor.shape)
        self._weights[tensor.name] = Weight(tensor.name, tensor.kind, shape, place)
        return None

    def _inline(self, tensor: Tensor, base: int) -> Place:
        if tensor.raw is None or tensor.typed:
            self._unsupported(
                f"tensor {tensor.name[:80]!r} has its numbers as fields of their own; save it"
                " with raw data"
            )
        if len(tensor.raw.data) != tensor.size:
            self._bad(f"tensor {tensor.name[:80]!r} does not have the size of its shape")
        start = base + tensor.raw.at
        return Place(self._path, start, start + tensor.size)

    def _external(self, tensor: Tensor) -> Place:
        known = tensor.external
        if tensor.raw is not None or tensor.typed:
            self._bad(f"tensor {tensor.name[:80]!r} is here and in another file")
        what = f"{self._path}: tensor {tensor.name[:80]!r}"
        given = known.get("location", "")
        path = normpath(join(dirname(self._path), given)) if given else ""
        if not given or given.startswith("/") or ".." in given.split("/") or "\\" in given:
            raise ParseError(CoreCode.MALFORMED, f"{what}: its file is outside of the model")
        if path not in self._files.paths():
            raise IntegrityError(
                EngineCode.ENGINE_MODEL_INCOMPLETE, f"{what}: there is no {path[:200]}"
            )
        start = decimal(known.get("offset", "0"), what=what, maximum=_FILE_MAX)
        size = decimal(known.get("length", str(tensor.size)), what=what, maximum=_FILE_MAX)
        if size != tensor.size or not size:
            self._bad(f"tensor {tensor.name[:80]!r} does not have the size of its shape")
        if start + size > len(self._files.view(path)):
            raise IntegrityError(
                EngineCode.ENGINE_MODEL_INCOMPLETE, f"{what} reaches past the end of {path[:200]}"
            )
        return Place(path, start, start + size)

    # What stays must lie in the file itself ----------------------------------------------------

    def _check_part(self, item: Field, depth: int) -> None:
        """Check a field of a graph, and what is nested in it."""
        if not depth:
            self._bad("graphs are nested too deeply")
        if item.number == _SPARSE:
            self._unsupported("it has sparse tensors")
        if item.number == _NODE:
            self._check_attributes(item.data, _NODE_ATTRIBUTE, depth)
        if item.number == _INITIALIZER:
            self._check_here(item.data)

    def _check_function(self, data: memoryview) -> None:
        for item in fields(data, self._path):
            if item.number == _FUNCTION_NODE:
                self._check_attributes(item.data, _NODE_ATTRIBUTE, DEPTH_MAX)
        self._check_attributes(data, _FUNCTION_ATTRIBUTE, DEPTH_MAX)

    def _check_attributes(self, data: memoryview, number: int, depth: int) -> None:
        for attribute in fields(data, self._path):
            if attribute.number != number:
                continue
            for item in fields(attribute.data, self._path):
                if item.number in _ATTRIBUTE_SPARSE:
                    self._unsupported("it has sparse tensors")
                if item.number in _ATTRIBUTE_TENSORS:
                    self._check_here(item.data)
                if item.number in _ATTRIBUTE_GRAPHS:
                    for part in fields(item.data, self._path):
                        self._check_part(part, depth - 1)

    def _check_here(self, data: memoryview) -> None:
        tensor = parse_tensor(data, self._path)
        if tensor.in_file or tensor.external:
            self._unsupported("a tensor of a nested graph or of a constant lies in another file")

    def _bad(self, why: str) -> NoReturn:
        raise ParseError(CoreCode.MALFORMED, f"{self._path}: {why}")

    def _unsupported(self, why: str) -> NoReturn:
        raise UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, f"{self._path}: {why}")


def _value_info(weight: Weight) -> bytes:
    """A ValueInfoProto: name, element type and shape."""
    dims = b"".join(length_delimited(1, varint(1 << 3) + varint(size)) for size in weight.shape)
    kind = varint(1 << 3) + varint(weight.kind) + length_delimited(2, dims)
    return length_delimited(1, weight.name.encode()) + length_delimited(
        2, length_delimited(1, kind)
    )
