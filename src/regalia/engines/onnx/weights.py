"""Weights of an ONNX file as arrays on the model's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.engines.onnx.tensor import ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.core.weights import ModelFiles
    from regalia.engines.onnx.graph import Weight

_ALIGNMENT = 64  # bytes of tensors that are moved


def map_weights(files: ModelFiles, weights: Sequence[Weight]) -> dict[str, Any]:
    """Arrays by name. Nothing is copied but what is not aligned to its element type.

    ONNX files align nothing, so such weights move once, into more memory of the same kind, and
    their first copy is overwritten tensor by tensor.

    Args:
        files: the model's files.
        weights: from ``graph.separate``.

    Raises:
        LocalError: more memory cannot be had.
    """
    import numpy as np

    found = {weight.name: _array(files, weight) for weight in weights}
    astray = [weight for weight in weights if not found[weight.name].flags.aligned]
    room = files.allocate(sum(map(_padded, astray))) if astray else memoryview(b"")
    at = 0
    for weight in astray:
        old = found[weight.name]
        new = np.frombuffer(room, old.dtype, old.size, at).reshape(old.shape)
        new[...] = old
        found[weight.name] = new
        at += _padded(weight)
        files.discard(weight.place.path, weight.place.start, weight.place.stop)
    return found


def _array(files: ModelFiles, weight: Weight) -> Any:  # noqa: ANN401 - numpy comes late
    import numpy as np

    place = weight.place
    view = files.view(place.path)[place.start : place.stop]
    return np.frombuffer(view, np.dtype(ELEMENTS[weight.kind][0])).reshape(weight.shape)


def _padded(weight: Weight) -> int:
    size = weight.place.stop - weight.place.start
    return size + -size % _ALIGNMENT
