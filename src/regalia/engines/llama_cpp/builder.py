"""The plug-in: builds an engine from a model's GGUF file."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.engines.chat_template import TOKENIZER_CONFIG, file_template
from regalia.engines.codes import EngineCode
from regalia.engines.llama_cpp.gguf import ARCHITECTURE, KIND, PRE, SPLITS, TEMPLATE, parse_gguf
from regalia.engines.model_files import JSON_MAX, read_object
from regalia.engines.options import read_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.core.weights import ModelFiles
    from regalia.engines.llama_cpp.engine import LlamaCppEngine
    from regalia.engines.llama_cpp.gguf import Head

SUFFIX = ".gguf"
_MODEL = "model"  # value of general.type; others are adapters, projectors and the like
_BYTE_PAIRS = "gpt2"  # value of tokenizer.ggml.model: texts are split into words first
_TOKENIZER = "tokenizer.ggml.model"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[engine.options]`` of the runtime's configuration."""

    file: str | None = None  # the GGUF file, if there are several
    threads: int = 1  # of the computation; more help only if their cores are not shared
    prefill_step: int = 32  # prompt tokens that are read before others have their turn
    context_max: int = 8192  # tokens; the model's own limit applies if it is lower


class LlamaCppBuilder:
    """The plug-in. Implements ``engines.base.BuildEngine`` and ``ChecksOptions``."""

    def check(self, options: Mapping[str, object]) -> None:
        """Check the options, and load the libraries.

        Raises:
            UsageError: ENGINE_OPTION_UNKNOWN or ENGINE_NOT_INSTALLED.
        """
        from regalia.engines.llama_cpp.native import library

        read_options(options, Options)
        try:
            import jinja2
            import numpy as np

            library()
        except (ImportError, OSError, RuntimeError) as exc:  # a shared library may be missing
            what = getattr(exc, "name", None) or "llama.cpp's shared library"
            raise UsageError(EngineCode.ENGINE_NOT_INSTALLED, f"{what} does not load") from exc
        _ = jinja2, np

    def __call__(
        self, files: ModelFiles, *, model_name: str, options: Mapping[str, object]
    ) -> LlamaCppEngine:
        """Build the engine. Raises as ``engines.base.BuildEngine``, and LocalError.

        Args:
            files: the model's plaintext files in locked memory.
            model_name: name that the model is served under.
            options: ``[engine.options]`` of the configuration.
        """
        from regalia.engines.llama_cpp.codec import GgufCodec
        from regalia.engines.llama_cpp.engine import LlamaCppEngine
        from regalia.engines.llama_cpp.memory import SharedFile
        from regalia.engines.llama_cpp.native import Model

        chosen = read_options(options, Options)
        path = find_file(files, chosen.file)
        head = parse_gguf(files.view(path), what=path)
        require_whole_model(head, path)
        template = find_template(files, head)
        with closing(SharedFile(files, path)) as file:
            model = Model(file, path)
        splits = head.text(_TOKENIZER) == _BYTE_PAIRS
        codec = GgufCodec(
            model.vocabulary,
            template=template,
            splitter=(head.text(PRE) or "") if splits else None,
        )
        limit = min(chosen.context_max, model.context_length or chosen.context_max)
        engine = LlamaCppEngine(
            model,
            codec,
            model_name=model_name,
            context_length=limit,
            prefill_step=chosen.prefill_step,
            threads=chosen.threads,
        )
        engine.try_out()
        return engine


build_engine = LlamaCppBuilder()


def find_file(files: ModelFiles, named: str | None) -> str:
    """The model's GGUF file: the one that is named, or the only one.

    Args:
        files: the model's files.
        named: the operator's choice, if there is one.

    Raises:
        UsageError: ENGINE_FORMAT_MISSING.
    """
    found = [path for path in files.paths() if path.endswith(SUFFIX)]
    if named in found:
        return str(named)
    if named is None and len(found) == 1:
        return found[0]
    wanted = "" if named is None else f"no {named[:200]!r}; "
    what = f"{wanted}the model has {len(found)} GGUF files: {found[:20]}"
    raise UsageError(EngineCode.ENGINE_FORMAT_MISSING, what)


def require_whole_model(head: Head, path: str) -> None:
    """Refuse a part of a model, and what is no model.

    Args:
        head: of the file.
        path: its name for error messages.

    Raises:
        ParseError: MALFORMED, it does not say what it is.
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    if not head.text(ARCHITECTURE):
        raise ParseError(CoreCode.MALFORMED, f"{path}: no {ARCHITECTURE}")
    if (kind := head.text(KIND) or _MODEL) != _MODEL:
        raise UsageError(
            EngineCode.ENGINE_MODEL_UNSUPPORTED, f"{path} is no model but of type {kind[:80]!r}"
        )
    if (parts := head.number(SPLITS) or 1) > 1:
        raise UsageError(
            EngineCode.ENGINE_MODEL_UNSUPPORTED,
            f"{path} is one of {parts} parts; join them with llama-gguf-split --merge, then seal",
        )


def find_template(files: ModelFiles, head: Head) -> str | None:
    """The chat template: of the GGUF file, or of files beside it; None if there is none.

    Args:
        files: the model's files.
        head: of the GGUF file.

    Raises:
        ParseError: a file beside it is malformed, or the template is too long.
    """
    own = head.text(TEMPLATE)
    if own is None:
        return file_template(files, read_object(files, TOKENIZER_CONFIG) or {})
    if len(own) > JSON_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"a chat template of {len(own)} characters")
    return own
