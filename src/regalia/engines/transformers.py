"""The default engine: Hugging Face transformers on torch, with weights in locked memory.

Configuration, tokenizer, chat template and weights are all read from memory. The architecture is
built on the meta device, and its parameters become views on the locked memory, so the plaintext
exists only once. Nothing is downloaded, and no code of the model is executed.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.language_model import LanguageModel
from regalia.engines.options import read_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from regalia.core.weights import ModelFiles
    from regalia.engines.base import GenerationRequest
    from regalia.engines.sampling import Sampler
    from regalia.engines.tokenizer import TextCodec
    from regalia.engines.trial import CachedModel

GENERATION_CONFIG = "generation_config.json"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[engine.options]`` of the runtime's configuration."""

    threads: int = 1  # torch's threads; more help only if their cores are not shared
    prefill_step: int = 32  # prompt tokens that are read before others have their turn
    context_max: int = 32768  # tokens; the model's own limit applies if it is lower


def _quiet_libraries() -> None:
    # The libraries read these variables when they are first imported. They disable network access,
    # telemetry, forks and the compiler. Torch creates the compiler's cache folder if it does not
    # exist, so name one that exists and in which no file can be created.
    os.environ.update(
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        TRANSFORMERS_OFFLINE="1",
        TRANSFORMERS_VERBOSITY="error",
        DO_NOT_TRACK="1",
        TOKENIZERS_PARALLELISM="false",
        TORCHDYNAMO_DISABLE="1",
        TORCHINDUCTOR_CACHE_DIR="/proc/self",
        MKL_DISABLE_FAST_MM="1",  # MKL frees what it packed a matrix into, and keeps no pool of it
    )


def _keep_weights_in_place(torch: Any) -> None:  # noqa: ANN401 - imported late
    # oneDNN and NNPACK copy matrices into layouts of their own, on the heap: weights that outlive
    # the wiping of the model's memory.
    torch.backends.mkldnn.set_flags(False)
    torch.backends.nnpack.set_flags(False)


def _end_tokens(*sources: object) -> frozenset[int]:
    found: set[int] = set()
    for source in sources:
        for item in source if isinstance(source, list) else [source]:
            if isinstance(item, int) and not isinstance(item, bool):
                found.add(item)
    return frozenset(found)


class TransformersBuilder:
    """The plug-in. Implements ``engines.base.BuildEngine`` and ``ChecksOptions``."""

    def check(self, options: Mapping[str, object]) -> None:
        """Check the options, and import the libraries.

        Raises:
            UsageError: ENGINE_OPTION_UNKNOWN or ENGINE_NOT_INSTALLED.
        """
        read_options(options, Options)
        _quiet_libraries()
        try:
            import torch
            import transformers
        except ImportError as exc:
            raise UsageError(
                EngineCode.ENGINE_NOT_INSTALLED, f"{exc.name or 'a library'} does not import"
            ) from exc
        _ = torch, transformers

    def __call__(
        self, files: ModelFiles, *, model_name: str, options: Mapping[str, object]
    ) -> TransformersEngine:
        """Build the engine. Raises as ``engines.base.BuildEngine``.

        Args:
            files: the model's plaintext files in locked memory.
            model_name: name that the model is served under.
            options: ``[engine.options]`` of the configuration.
        """
        return _build(files, None, model_name=model_name, options=options)

    def with_adapter(
        self,
        files: ModelFiles,
        adapter: ModelFiles,
        *,
        model_name: str,
        options: Mapping[str, object],
    ) -> TransformersEngine:
        """Build the engine on merged weights. Raises as ``engines.base.MergesAdapters``.

        Args:
            files: the model's plaintext files in locked memory, which is written to.
            adapter: the adapter's plaintext files in locked memory.
            model_name: name that the model is served under.
            options: ``[engine.options]`` of the configuration.
        """
        return _build(files, adapter, model_name=model_name, options=options)


build_engine = TransformersBuilder()


def _build(
    files: ModelFiles,
    adapter: ModelFiles | None,
    *,
    model_name: str,
    options: Mapping[str, object],
) -> TransformersEngine:
    """Build the engine, on weights that an adapter has changed if there is one."""
    # torch and the modules that import it come after _quiet_libraries.
    chosen = read_options(options, Options)
    _quiet_libraries()
    import torch

    from regalia.engines.model_files import read_object
    from regalia.engines.skeleton import build_skeleton, check_places, fill, read_config
    from regalia.engines.tensors import map_tensors
    from regalia.engines.tokenizer import build_codec
    from regalia.engines.trial import try_out

    torch.set_num_threads(chosen.threads)
    _keep_weights_in_place(torch)
    mapped = map_tensors(files)
    config = read_config(files)
    codec = build_codec(files)
    model = build_skeleton(config, mapped.dtype())
    inside = fill(model, mapped, files)
    if adapter is not None:
        from regalia.engines.lora.merge import merge_adapter

        merge_adapter(model, mapped, files, adapter)
        inside = check_places(model, mapped)
    interleaves = try_out(model, vocabulary_of(model))
    text = config.get_text_config()  # of a model that also sees or hears: its language part
    own_limit = getattr(text, "max_position_embeddings", None)
    context = min(own_limit or chosen.context_max, chosen.context_max)
    generation = read_object(files, GENERATION_CONFIG) or {}
    own_ends = [getattr(item, "eos_token_id", None) for item in (config, text)]
    ends = _end_tokens(generation.get("eos_token_id"), *own_ends, codec.eos_token_id)
    return TransformersEngine(
        model,
        codec,
        model_name=model_name,
        context_length=context,
        ends=ends,
        inside=inside,
        interleaves=interleaves,
        prefill_step=chosen.prefill_step,
    )


def vocabulary_of(model: Any) -> int:  # noqa: ANN401 - untyped library
    """Number of tokens that a model has an embedding for."""
    return int(model.get_input_embeddings().weight.shape[0])


class TransformersEngine(LanguageModel[Any]):
    """An engine on transformers. Implements ``engines.base.Engine``."""

    def __init__(  # noqa: PLR0913 - each is one property of the engine
        self,
        model: Any,  # noqa: ANN401 - untyped library
        codec: TextCodec,
        *,
        model_name: str,
        context_length: int,
        ends: frozenset[int],
        inside: int,
        interleaves: bool,
        prefill_step: int,
    ) -> None:
        super().__init__(
            codec,
            model_name=model_name,
            context_length=context_length,
            vocabulary=vocabulary_of(model),
            ends=ends,
            prefill_step=prefill_step,
        )
        self._model = model
        self._interleaves = interleaves
        self.tensors_inside = inside

    @property
    def interleaves(self) -> bool:
        """Whether the steps of several generations may alternate."""
        return self._interleaves

    def _reader(self, length: int) -> AbstractContextManager[CachedModel]:  # noqa: ARG002
        from regalia.engines.trial import CachedModel

        return nullcontext(CachedModel(self._model))  # its memory grows with what it reads

    def _sampler(self, request: GenerationRequest) -> Sampler:
        from regalia.engines.sampling import Sampler

        return Sampler(request)
