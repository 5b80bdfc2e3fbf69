"""vLLM's loader for sealed models; registered under the load format ``regalia``.

It runs in each worker. It receives the key from Regalia's runtime, decrypts tensors batch by batch
into staging memory, and lets the model's own ``load_weights`` take what this worker needs. An
adapter, whose key comes in the same way, is merged into the tensors before they are taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from regalia.core.errors import IntegrityError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.vllm.engine import CHANNEL, LOAD_FORMAT
from regalia.engines.vllm.staging import StagingArea
from regalia.engines.vllm.tensors import TensorStream, list_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.weights import FileReader
    from regalia.engines.vllm.adapter import Merging
    from regalia.engines.vllm.slices import SlicedStream
    from regalia.engines.vllm.tensors import SealedTensor


class Weights(Protocol):
    """A worker's access to the sealed model."""

    @property
    def files(self) -> FileReader:
        """The model's plaintext."""

    @property
    def adapter(self) -> FileReader | None:
        """The plaintext of the adapter that is merged into it; None if there is none."""

    def loaded(self, tensors: int, size: int, read: int) -> None:
        """Tell the runtime that this worker is done.

        Args:
            tensors: number of tensors that were loaded.
            size: bytes of them that this worker wanted.
            read: bytes of ciphertext that it read for that.
        """

    def failed(self, error: Exception) -> None:
        """Tell the runtime why this worker cannot go on."""


class OpenWeights(Protocol):
    """Gets the key from the runtime, and opens the model."""

    def __call__(self, channel: str, rank: int, workers: int) -> Weights:
        """Open the model for one worker of a group. Raises RegaliaError or OSError."""


def open_stream(
    files: FileReader, tensors: list[SealedTensor], merging: Merging | None, *, sliced: bool
) -> TensorStream | SlicedStream:
    """The tensors of a model.

    Args:
        files: the model's plaintext.
        tensors: all of them, in the order in which they are stored.
        merging: of an adapter; None if there is none.
        sliced: whether this worker wants a part of each. Otherwise they are decrypted ahead of it.
    """
    if not sliced:
        return TensorStream(files, tensors, merging)
    # It imports torch, which the runtime that also imports this package does not need.
    from regalia.engines.vllm.slices import SlicedStream

    return SlicedStream(files, tensors, StagingArea(), merging)


def _open_merging(
    adapter: FileReader | None,
    tensors: list[SealedTensor],
    model_config: Any,  # noqa: ANN401
) -> Merging | None:
    if adapter is None:
        return None
    from regalia.engines.vllm.adapter import BaseFacts, read_merging  # as above

    return read_merging(adapter, tensors, BaseFacts.of(model_config))


def fill_model(model: Any, model_config: Any, weights: Weights, *, sliced: bool) -> None:  # noqa: ANN401
    """Load all weights into a model of vLLM's.

    Args:
        model: built, on its device.
        model_config: vLLM's configuration of it.
        weights: of the sealed model. Its runtime is told how it ended.
        sliced: whether this worker wants a part of each tensor.

    Raises:
        RegaliaError: the model cannot be read, or is not whole, or its adapter does not fit it.
    """
    merging: Merging | None = None
    try:
        tensors = list_tensors(weights.files)
        merging = _open_merging(weights.adapter, tensors, model_config)
        stream = open_stream(weights.files, tensors, merging, sliced=sliced)
        loaded = model.load_weights(iter(stream))
        _require_whole(model, model_config, loaded)
    except Exception as exc:
        weights.failed(exc)
        raise
    finally:
        if merging is not None:
            merging.wipe()
    readers = (weights.files, weights.adapter)
    read = sum(reader.bytes_read for reader in readers if reader is not None)
    weights.loaded(stream.taken, stream.size, read)


def _require_whole(model: Any, model_config: Any, loaded: set[str] | None) -> None:  # noqa: ANN401
    """Refuse a model some of whose parameters were not in the checkpoint."""
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    if loaded is None:
        raise UsageError(
            EngineCode.ENGINE_MODEL_UNSUPPORTED,
            f"{type(model).__name__} does not say which of its parameters it has loaded",
        )
    # vLLM knows which parameters of its quantizations no checkpoint has.
    whole = DefaultModelLoader.__new__(DefaultModelLoader)
    try:
        whole.track_weights_loading(
            model, set(loaded), quantized=model_config.quantization is not None
        )
    except ValueError as exc:
        raise IntegrityError(EngineCode.ENGINE_MODEL_INCOMPLETE, str(exc)[:300]) from exc


def register_loader(open_weights: OpenWeights) -> None:
    """Register the load format with the vLLM of this process.

    Args:
        open_weights: called in a worker, when its model is to be filled.
    """
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    class SealedModelLoader(BaseModelLoader):  # type: ignore[misc]
        """Fills a model from a sealed one."""

        def download_model(self, model_config: Any) -> None:  # noqa: ANN401 - vLLM's
            """Do nothing: ciphertext is read where it lies."""

        def load_weights(self, model: Any, model_config: Any) -> None:  # noqa: ANN401 - vLLM's
            """Fill the model."""
            channel = self.load_config.model_loader_extra_config[CHANNEL]
            rank, workers = _place_in_group()
            weights = open_weights(channel, rank, workers)
            fill_model(model, model_config, weights, sliced=workers > 1)

    register_model_loader(LOAD_FORMAT)(SealedModelLoader)


def look_at_models_with(run: Callable[[Callable[[], Any]], Any]) -> None:
    """Have vLLM look at a model's class without a new interpreter, which would import vLLM again.

    vLLM remembers what it saw in a file, and forgets it here with its folder.

    Args:
        run: computes in another process; raises RuntimeError if it cannot.
    """
    from vllm.model_executor.models import registry

    as_it_comes = getattr(registry, "_run_in_subprocess", None)
    if as_it_comes is None:
        return  # another version, which does it in its own way

    def look(compute: Callable[[], Any]) -> Any:  # noqa: ANN401 - vLLM's
        try:
            return run(compute)
        except RuntimeError:
            return as_it_comes(compute)

    registry._run_in_subprocess = look  # noqa: SLF001 - no other way


def _place_in_group() -> tuple[int, int]:
    """Rank of this worker, and number of workers."""
    from vllm.distributed.parallel_state import get_world_group

    group = get_world_group()
    return group.rank_in_group, group.world_size
