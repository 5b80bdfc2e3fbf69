"""An adapter that is merged into the tensors of its base on their way into vLLM.

vLLM gives modules names and shapes of its own, and each rank takes its part of a tensor. So the
adapter is held against the tensors of the checkpoint, and each of them is changed as it is handed
out: the whole of it, or the part that a rank has decrypted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from regalia.core.weights import FilePart
from regalia.engines.lora.fit import fitting_change, require_whole
from regalia.engines.lora.products import Change, Workspace, apply_change, apply_to_part
from regalia.engines.lora.settings import ADAPTER_CONFIG, read_settings, unsupported
from regalia.engines.lora.tensors import ADAPTER_WEIGHTS, misfit, read_tensors
from regalia.engines.vllm.staging import StagingArea
from regalia.engines.vllm.tensors import TORCH_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.core.weights import FileReader
    from regalia.engines.lora.settings import LoraSettings
    from regalia.engines.lora.tensors import LoraTensors
    from regalia.engines.vllm.tensors import SealedTensor

_MATRIX = 2  # dimensions
# Kinds of models whose checkpoints have matrices of inputs times outputs.
_TRANSPOSED = frozenset({"gpt2"})


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What vLLM knows of the base, and its tensors do not tell.

    Attributes:
        kind: ``model_type`` of its configuration.
        quantization: vLLM's name of the checkpoint's, or None.
        tied: whether output and input embeddings are one tensor.
        vocabulary: number of tokens.
    """

    kind: str
    quantization: str | None
    tied: bool
    vocabulary: int

    @classmethod
    def of(cls, model_config: Any) -> BaseFacts:  # noqa: ANN401 - vLLM's
        """Read vLLM's configuration of a model."""
        whole, text = model_config.hf_config, model_config.hf_text_config
        return cls(
            kind=str(text.model_type),
            quantization=model_config.quantization,
            tied=any(getattr(each, "tie_word_embeddings", False) for each in (whole, text)),
            vocabulary=int(model_config.get_vocab_size()),
        )


class StagedAdapter:
    """The two files of an adapter in staging memory. Implements ``core.weights.ModelFiles``.

    Args:
        files: the adapter's plaintext.
    """

    def __init__(self, files: FileReader) -> None:
        self._staging = StagingArea()
        self._areas: list[memoryview] = []
        self._files: dict[str, memoryview] = {}
        sizes = files.sizes()
        try:
            for path in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                if path in sizes:
                    self._files[path] = self.allocate(sizes[path])
            files.read([FilePart(path, 0, out) for path, out in self._files.items() if out.nbytes])
        except BaseException:
            self.wipe()
            raise

    def paths(self) -> tuple[str, ...]:
        """Names of the files."""
        return tuple(self._files)

    def view(self, path: str) -> memoryview:
        """A read-only view on a file's bytes."""
        return self._files[path].toreadonly()

    def allocate(self, size: int) -> memoryview:
        """More memory, wiped with the files. Raises LocalError."""
        area = memoryview(self._staging.take(size))
        self._areas.append(area)
        return area

    def discard(self, path: str, start: int, stop: int) -> None:
        """Overwrite a part of a file that nothing uses any more; arguments as ``ModelFiles``."""
        self._files[path][start:stop] = bytes(stop - start)

    def wipe(self) -> None:
        """Overwrite all of it. Tensors on it stay valid, and are zero."""
        for area in self._areas:
            if area.nbytes:
                torch.frombuffer(area, dtype=torch.uint8).zero_()


class Merging:
    """Changes tensors of the base on their way.

    Args:
        adapter: its files.
        changes: what becomes of which tensors, by their names in the checkpoint.
    """

    def __init__(self, adapter: StagedAdapter, changes: Mapping[str, Change]) -> None:
        """Use ``read_merging`` instead."""
        self._adapter = adapter
        self._changes = changes
        self._space = Workspace(adapter)

    def change(self, name: str, tensor: torch.Tensor) -> None:
        """Change a whole tensor in place, if the adapter does.

        Args:
            name: in the checkpoint.
            tensor: the base's values.

        Raises:
            LocalError: there is no memory for what is computed.
        """
        if name in self._changes:
            apply_change(self._changes[name], tensor, self._space)

    def change_part(self, name: str, part: torch.Tensor, first: int, columns: int) -> None:
        """Change a part of a tensor in place, if the adapter changes the tensor.

        Args:
            name: of the whole in the checkpoint.
            part: values of a view on the whole, with the strides that it has there.
            first: number of the whole's element that is the view's first one.
            columns: in a row of the whole.

        Raises:
            LocalError: there is no memory for what is computed.
        """
        if name in self._changes:
            apply_to_part(self._changes[name], part, first, columns, self._space)

    def wipe(self) -> None:
        """Overwrite the adapter, and all that was computed of it."""
        self._adapter.wipe()


def read_merging(files: FileReader, tensors: list[SealedTensor], base: BaseFacts) -> Merging:
    """Read an adapter, once all of it is known to fit its base.

    Args:
        files: the adapter's plaintext, untrusted.
        tensors: of the base's checkpoint.
        base: what vLLM knows of it.

    Raises:
        IntegrityError: ENGINE_ADAPTER_MISFIT.
        ParseError: a file of the adapter is malformed.
        UsageError: ENGINE_ADAPTER_UNSUPPORTED.
        LocalError, KeyAccessError, UnavailableError: as ``FileReader.read``.
    """
    if base.quantization is not None:
        raise unsupported(
            f"the base is quantized ({base.quantization}): nothing can be added to it"
        )
    if base.kind in _TRANSPOSED:
        raise unsupported(f"a base of the kind {base.kind!r} stores its matrices transposed")
    adapter = StagedAdapter(files)
    try:
        return Merging(adapter, _changes(adapter, tensors, base))
    except BaseException:
        adapter.wipe()
        raise


def _changes(
    adapter: StagedAdapter, tensors: list[SealedTensor], base: BaseFacts
) -> dict[str, Change]:
    settings, found = read_settings(adapter), read_tensors(adapter)
    if base.tied:
        _refuse_embeddings(found, base)
    weights = {
        tensor.entry.name: torch.empty(
            tensor.entry.shape, dtype=getattr(torch, TORCH_TYPES[tensor.entry.dtype]), device="meta"
        )
        for tensor in tensors
    }
    require_whole(settings, found, weights, _modules(weights))
    replaced = {name: Change(new, None, 0.0) for name, new in found.whole.items()}
    return replaced | {
        f"{module}.weight": _change(settings, found, module, weights)
        for module in sorted(found.pairs)
    }


def _change(
    settings: LoraSettings, found: LoraTensors, module: str, weights: Mapping[str, torch.Tensor]
) -> Change:
    weight = weights.get(f"{module}.weight")
    if weight is None:
        raise misfit(f"the model has no tensor {module[:120]!r} + '.weight'")
    if weight.dim() != _MATRIX:
        raise unsupported(f"the weight of {module[:120]!r} is no matrix, but {list(weight.shape)}")
    return fitting_change(settings, found, module, weight, weight)


def _modules(names: Mapping[str, object]) -> set[str]:
    """Names of all modules that have one of these tensors, at any depth."""
    found: set[str] = set()
    for name in names:
        parts = name.split(".")[:-1]
        found.update(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return found


def _refuse_embeddings(found: LoraTensors, base: BaseFacts) -> None:
    """Refuse to change tied embeddings: vLLM keeps one tensor, of which merging makes two."""
    rows = {module: len(pair.b) for module, pair in found.pairs.items()}
    rows |= {name: len(whole) for name, whole in found.whole.items() if whole.dim() == _MATRIX}
    for name, count in sorted(rows.items()):
        if count == base.vocabulary:
            raise unsupported(
                f"{name[:120]!r} is changed, and input and output embeddings are one tensor"
                " (tie_word_embeddings), which vLLM cannot part"
            )
