"""The plug-in: builds an embedder from the files of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.engines.chat_template import TOKENIZER_CONFIG
from regalia.engines.codes import EngineCode
from regalia.engines.model_files import read_object
from regalia.engines.options import read_options
from regalia.engines.tokenizer import TOKENIZER, TOKENIZER_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.core.weights import ModelFiles
    from regalia.engines.onnx.embedder import OnnxEmbedder

CONFIG = "config.json"
SENTENCE_CONFIG = "sentence_bert_config.json"
USUAL = ("model.onnx", "onnx/model.onnx")
# Architectures whose first position is not 0 but the number after that of the padding token.
_SHIFTED = ("camembert", "mpnet", "roberta", "xlm-roberta")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[engine.options]`` of the runtime's configuration."""

    file: str | None = None  # the ONNX file, if there are several
    threads: int = 1  # of the library; more help only if their cores are not shared
    context_max: int = 8192  # tokens; the model's own limit applies if it is lower
    pooling: Literal["mean", "cls"] | None = None  # None: as modules.json says
    normalize: bool | None = None  # likewise; without that file vectors have length 1


class OnnxBuilder:
    """The plug-in. Implements ``engines.base.BuildEngine`` and ``ChecksOptions``."""

    def check(self, options: Mapping[str, object]) -> None:
        """Check the options, and import the libraries.

        Raises:
            UsageError: ENGINE_OPTION_UNKNOWN or ENGINE_NOT_INSTALLED.
        """
        read_options(options, Options)
        try:
            import numpy as np
            import onnxruntime
            import tokenizers
        except ImportError as exc:
            raise UsageError(
                EngineCode.ENGINE_NOT_INSTALLED, f"{exc.name or 'a library'} does not import"
            ) from exc
        _ = np, onnxruntime, tokenizers

    def __call__(
        self, files: ModelFiles, *, model_name: str, options: Mapping[str, object]
    ) -> OnnxEmbedder:
        """Build the embedder. Raises as ``engines.base.BuildEngine``.

        Args:
            files: the model's plaintext files in locked memory.
            model_name: name that the model is served under.
            options: ``[engine.options]`` of the configuration.
        """
        from regalia.engines.onnx.embedder import OnnxEmbedder
        from regalia.engines.onnx.graph import separate
        from regalia.engines.onnx.pooling import read_pooling
        from regalia.engines.onnx.session import open_session
        from regalia.engines.onnx.weights import map_weights

        chosen = read_options(options, Options)
        path = find_file(files, chosen.file)
        tokenizer = _tokenizer(files)
        config = read_object(files, CONFIG) or {}
        pooling = read_pooling(files, chosen.pooling, normalize=chosen.normalize)
        graph = separate(files, path)
        weights = map_weights(files, graph.weights)
        session = open_session(graph, weights, threads=chosen.threads, what=path)
        vocabulary = tokenizer.get_vocab_size(with_added_tokens=True)
        return OnnxEmbedder(
            session,
            tokenizer,
            pooling,
            model_name=model_name,
            context_length=min(chosen.context_max, *_limits(files, config)),
            vocabulary=min(vocabulary, _number(config, "vocab_size") or vocabulary),
        )


build_engine = OnnxBuilder()


def find_file(files: ModelFiles, named: str | None) -> str:
    """The model's ONNX file: the one that is named, the only one, or one with a usual name.

    Args:
        files: the model's files.
        named: the operator's choice, if there is one.

    Raises:
        UsageError: ENGINE_FORMAT_MISSING.
    """
    found = [path for path in files.paths() if path.endswith(".onnx")]
    if named is not None:
        if named in found:
            return named
        what = f"there is no {named[:200]!r} in the model; ONNX files: {found[:20]}"
        raise UsageError(EngineCode.ENGINE_FORMAT_MISSING, what)
    if len(found) == 1:
        return found[0]
    usual = [path for path in USUAL if path in found]
    if len(usual) == 1:
        return usual[0]
    what = f"the model has {len(found)} ONNX files: {found[:20]}"
    raise UsageError(EngineCode.ENGINE_FORMAT_MISSING, what)


def _tokenizer(files: ModelFiles) -> Any:  # noqa: ANN401 - untyped library
    import tokenizers

    if TOKENIZER not in files.paths():
        what = f"the model has no {TOKENIZER}"
        raise UsageError(EngineCode.ENGINE_NEEDS_FAST_TOKENIZER, what)
    view = files.view(TOKENIZER)
    if len(view) > TOKENIZER_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{TOKENIZER}: {len(view)} bytes")
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(view.tobytes())
        tokenizer.no_truncation()
        tokenizer.no_padding()
    except Exception as exc:  # the Rust library raises bare Exception for a bad file
        raise ParseError(CoreCode.MALFORMED, f"{TOKENIZER} does not load") from exc
    return tokenizer


def _number(settings: dict[str, Any], name: str) -> int | None:
    value = settings.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _limits(files: ModelFiles, config: dict[str, Any]) -> list[int]:
    """Numbers of tokens that the model's files name as the most."""
    positions = _number(config, "max_position_embeddings")
    if positions is not None and config.get("model_type") in _SHIFTED:
        positions = max(1, positions - 1 - (_number(config, "pad_token_id") or 0))
    sentence = read_object(files, SENTENCE_CONFIG) or {}
    tokenizer = read_object(files, TOKENIZER_CONFIG) or {}
    found = (
        positions,
        _number(sentence, "max_seq_length"),
        _number(tokenizer, "model_max_length"),
    )
    return [item for item in found if item is not None]
