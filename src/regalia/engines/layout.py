"""Gives a checkpoint's tensors the names and the layout that the architecture wants.

Checkpoints are older than the code that runs them, or of another school: names have a prefix more
or less, and each expert of a mixture has matrices of its own where the code has one for all. The
installed library says for every architecture how one becomes the other (its conversion mapping),
and that is what is done here: names are changed in place; tensors that have to be stacked are
copied once, into more memory of the same kind, and their first copy is overwritten.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from regalia.core.errors import IntegrityError, UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.core.weights import ModelFiles
    from regalia.engines.tensors import MappedTensors


@dataclass(frozen=True, slots=True)
class _Conversion:
    """Tensors of the checkpoint that together become one of the architecture, or the reverse.

    Attributes:
        target: name in the architecture; of the first tensor, if there are several.
        rule: the library's ``WeightConverter``.
        groups: names in the checkpoint, a list for each source pattern of the rule.
    """

    target: str
    rule: Any
    groups: list[list[str]]

    @property
    def sources(self) -> list[str]:
        """All names in the checkpoint."""
        return [name for group in self.groups for name in group]


def arrange(model: Any, mapped: MappedTensors, files: ModelFiles) -> None:  # noqa: ANN401
    """Rename and stack ``mapped`` in place, as the library's mapping for ``model`` says.

    Args:
        model: model on the meta device.
        mapped: tensors by their names in the checkpoint.
        files: the model's files, for more memory.

    Raises:
        IntegrityError: ENGINE_MODEL_INCOMPLETE, parts of a stack are missing or do not fit.
        UsageError: ENGINE_MODEL_UNSUPPORTED, the layout needs a conversion that is not known.
    """
    names, conversions = _targets(model, mapped)
    taken: dict[str, torch.Tensor] = {}
    for source, target in names.items():
        if target in taken:
            raise IntegrityError(
                EngineCode.ENGINE_MODEL_INCOMPLETE,
                f"two tensors are {target[:120]}: {source[:120]}",
            )
        taken[target] = mapped.tensors[source]
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for conversion in conversions:
        for name, tensor in _convert(conversion, shapes[conversion.target], mapped, files):
            if name in taken:
                raise IntegrityError(
                    EngineCode.ENGINE_MODEL_INCOMPLETE, f"{name[:120]} is there, and its parts too"
                )
            taken[name] = tensor
    mapped.tensors = taken


def _targets(
    model: Any,  # noqa: ANN401 - untyped library
    mapped: MappedTensors,
) -> tuple[dict[str, str], list[_Conversion]]:
    """What becomes of every tensor: another name, or a part of a conversion."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    mapping = get_model_conversion_mapping(model)
    renamings = [item for item in mapping if isinstance(item, WeightRenaming)]
    converters = [item for item in mapping if isinstance(item, WeightConverter)]
    by_pattern = {pattern: item for item in converters for pattern in item.source_patterns}
    wanted = dict(model.state_dict())
    prefix = model.base_model_prefix
    names: dict[str, str] = {}
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for source in sorted(mapped.tensors, key=dot_natural_key):  # experts in the order of numbers
        target, pattern = rename_source_key(source, renamings, converters, prefix, wanted)
        if target not in wanted and source in wanted:
            target, pattern = source, None
        if pattern is None or target not in wanted:
            names[source] = target
        else:
            groups[target][pattern].append(source)
    conversions = []
    for target, parts in groups.items():
        rule = by_pattern[next(iter(parts))]
        ordered = [parts.get(pattern, []) for pattern in rule.source_patterns]
        conversions.append(_Conversion(target, rule, ordered))
    return names, conversions


def _convert(
    conversion: _Conversion, shape: torch.Size, mapped: MappedTensors, files: ModelFiles
) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors that a conversion results in; ``shape`` is of its target."""
    target = conversion.target
    operations = {type(item).__name__: item for item in conversion.rule.operations}
    sources = [[mapped.tensors[name] for name in group] for group in conversion.groups]
    kinds = {tensor.dtype for group in sources for tensor in group}
    if len(kinds) != 1:
        raise _unsupported(f"{target} is made of tensors of several types")
    if operations.keys() == {"Chunk"} and len(conversion.sources) == 1:
        yield from _chunks(conversion, operations["Chunk"].dim, sources[0][0])
        return
    if not operations.keys() <= {"MergeModulelist", "Concatenate"}:
        raise _unsupported(f"{target} is made by {' and '.join(operations)}")
    merge, concatenate = operations.get("MergeModulelist"), operations.get("Concatenate")
    # First without memory: sizes of the configuration are untrusted until the parts fill them.
    for part, tensor in _parts(torch.empty(shape, device="meta"), merge, concatenate, sources):
        if part is None or part.shape != tensor.shape:
            raise IntegrityError(
                EngineCode.ENGINE_MODEL_INCOMPLETE, f"the parts of {target} do not fit together"
            )
    out = mapped.allocate(files, shape, kinds.pop())
    for part, tensor in _parts(out, merge, concatenate, sources):
        if part is not None:
            part.copy_(tensor)
    yield target, out
    for name in conversion.sources:
        place = mapped.places[name]
        files.discard(place.path, place.start, place.stop)


def _chunks(
    conversion: _Conversion, dim: int, tensor: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    """Parts of one tensor. Along the first dimension they lie one after the other already."""
    patterns = conversion.rule.target_patterns
    pieces = torch.chunk(tensor, len(patterns), dim=dim)
    if len(pieces) != len(patterns) or not all(piece.is_contiguous() for piece in pieces):
        raise _unsupported(f"{conversion.target} is cut out of a tensor along dimension {dim}")
    for pattern, piece in zip(patterns, pieces, strict=True):
        yield conversion.target.replace(patterns[0], pattern), piece


def _parts(
    out: torch.Tensor,
    merge: Any,  # noqa: ANN401 - untyped library
    concatenate: Any,  # noqa: ANN401
    groups: list[list[torch.Tensor]],
) -> Iterator[tuple[torch.Tensor | None, torch.Tensor]]:
    """Pairs of a part of ``out`` and the tensor that belongs there; None if there is no room.

    Ends with a pair that does not fit if a part of ``out`` would be left empty.
    """
    along = None if concatenate is None else concatenate.dim % out.dim()
    at = 0
    if merge is not None and len({tensor.shape for tensors in groups for tensor in tensors}) > 1:
        yield None, out  # matrices of experts are all alike
    for tensors in groups:
        width = 0
        for number, tensor in enumerate(tensors):
            region: torch.Tensor | None = out
            if along is not None:
                shape = list(tensor.shape)
                if merge is not None:
                    shape.insert(merge.dim, len(tensors))
                width = shape[along] if along < len(shape) else 0
                inside = 0 < width <= out.shape[along] - at
                region = out.narrow(along, at, width) if inside else None
            if region is not None and merge is not None:
                fits = len(tensors) == region.shape[merge.dim]
                region = region.select(merge.dim, number) if fits else None
            yield region, tensor
            if merge is None:
                at += width
        at += width if merge is not None else 0
    if along is not None and at != out.shape[along]:
        yield None, out


def _unsupported(what: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, f"the checkpoint's layout: {what}")
