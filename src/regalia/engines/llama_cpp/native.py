"""llama.cpp itself: a model on given pages, its vocabulary, and contexts that read tokens."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

from regalia.core.errors import UnavailableError, UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.engines.llama_cpp.memory import SharedFile

_MAPPED = 1  # LLAMA_LOAD_MODE_MMAP
_ERROR = 4  # GGML_LOG_LEVEL_ERROR
_WORDS_MAX = 300  # characters of the library's own message about a model
_SWITCHES = ("LLAMA_", "GGML_")  # variables that the library obeys
_ROUNDED = 256  # tokens that the library rounds the length of a context up to
_CONTROL, _USER_DEFINED = 1 << 3, 1 << 4  # LLAMA_TOKEN_ATTR_*
_UNKNOWN = 1 << 0
_SPARE = 64  # bytes

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fdopen.restype = ctypes.c_void_p
_LIBC.fdopen.argtypes = [ctypes.c_int, ctypes.c_char_p]
_LIBC.fclose.argtypes = [ctypes.c_void_p]


def library() -> Any:  # noqa: ANN401 - untyped library
    """Import the bindings, deaf to the environment and mute. Raises ImportError."""
    # One of the variables names another library to load, others write dumps.
    for name in [name for name in os.environ if name.startswith(_SWITCHES)]:
        del os.environ[name]
    import llama_cpp.llama_cpp as bindings

    _LOG.attach(bindings)
    return bindings


class _Log:
    """Takes the library's log, which may quote prompts, and keeps what a failed load says."""

    def __init__(self) -> None:
        self._callback: Any = None
        self._level = 0
        self._kept: list[str] | None = None

    def attach(self, bindings: Any) -> None:  # noqa: ANN401
        if self._callback is None:
            bindings.llama_backend_init()
            self._callback = bindings.llama_log_callback(self._take)
            bindings.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: object) -> None:
        if self._kept is not None and level == _ERROR and len(self._kept) < _SPARE:
            self._kept.append(text.decode("utf-8", "replace"))

    def keep(self) -> None:
        self._kept = []

    def kept(self) -> str:
        found, self._kept = " ".join(self._kept or []), None
        return "".join(char if char.isprintable() else " " for char in found)[:_WORDS_MAX]


_LOG = _Log()


class Model:
    """A model whose weights are mapped from a file of memory."""

    def __init__(self, file: SharedFile, what: str) -> None:
        """Load it. The file's descriptor is closed in any case.

        Args:
            file: a GGUF file whose head was checked.
            what: its name for error messages.

        Raises:
            UsageError: ENGINE_MODEL_UNSUPPORTED.
        """
        self._lib = library()
        settings = self._lib.llama_model_default_params()
        settings.load_mode = _MAPPED
        settings.n_gpu_layers = 0
        # These would repack matrices into copies on the heap, which nobody wipes.
        settings.use_extra_bufts = False
        _LOG.keep()
        stream = _LIBC.fdopen(file.fd, b"rb")
        try:
            self.handle = self._lib.llama_model_load_from_file_ptr(stream, settings)
            words = _LOG.kept()
            if not self.handle:
                raise _unsupported(what, f"llama.cpp does not load it: {words}")
            file.protect_mappings()
        finally:
            _LIBC.fclose(stream)
            file.fd = -1
        if self._lib.llama_model_has_encoder(self.handle) or not (
            self._lib.llama_model_has_decoder(self.handle)
        ):
            raise _unsupported(what, "it is no language model that only decodes")
        self.vocabulary = Vocabulary(self._lib, self._lib.llama_model_get_vocab(self.handle))
        self.context_length = int(self._lib.llama_model_n_ctx_train(self.handle))

    def context(self, length: int, *, step: int, threads: int) -> Context:
        """A context with nothing read.

        Args:
            length: tokens that it holds at most.
            step: tokens that are read at once at most.
            threads: of the computation.

        Raises:
            UnavailableError: ENGINE_MEMORY_SHORT.
        """
        settings = self._lib.llama_context_default_params()
        settings.n_ctx = length + -length % _ROUNDED
        settings.n_batch = settings.n_ubatch = step
        settings.n_threads = settings.n_threads_batch = threads
        settings.n_seq_max = 1
        settings.no_perf = True
        handle = self._lib.llama_init_from_model(self.handle, settings)
        if not handle:
            raise UnavailableError(
                EngineCode.ENGINE_MEMORY_SHORT, f"there is no room for a context of {length} tokens"
            )
        return Context(self._lib, handle, self.vocabulary.size)


class Vocabulary:
    """The model's own tokenizer. Its functions may be called from several threads."""

    def __init__(self, lib: Any, handle: Any) -> None:  # noqa: ANN401
        """Read the texts of all tokens.

        Args:
            lib: the bindings.
            handle: of the vocabulary.
        """
        self._lib = lib
        self._handle = handle
        self.size = int(lib.llama_vocab_n_tokens(handle))
        self.texts = [
            bytes(lib.llama_vocab_get_text(handle, number) or b"").decode("utf-8", "replace")
            for number in range(self.size)
        ]
        kinds = [int(lib.llama_vocab_get_attr(handle, number)) for number in range(self.size)]
        self.special = frozenset(
            number for number, kind in enumerate(kinds) if kind & (_CONTROL | _UNKNOWN)
        )
        self.added = frozenset(number for number, kind in enumerate(kinds) if kind & _USER_DEFINED)
        self.ends = frozenset(
            number for number in range(self.size) if lib.llama_vocab_is_eog(handle, number)
        )
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(handle))
        self.bos, self.eos = lib.llama_vocab_bos(handle), lib.llama_vocab_eos(handle)

    def text(self, number: int) -> str:
        """Text of a token; empty if there is no such token."""
        return self.texts[number] if 0 <= number < self.size else ""

    def encode(self, text: str, most: int, *, around: bool) -> tuple[int, list[int]]:
        """Tokenize a text in which control tokens are recognized.

        Args:
            text: any.
            most: number of tokens to return at most.
            around: whether to add the tokens that the model wants around a text.

        Returns:
            The number of tokens, and the tokens themselves unless they are too many.
        """
        data = text.encode("utf-8", "surrogatepass")
        room = min(most, len(data) + _SPARE)
        buffer = (ctypes.c_int32 * max(room, 1))()
        arguments = (self._handle, data, len(data), buffer, room)
        count = int(self._lib.llama_tokenize(*arguments, around, True))  # noqa: FBT003 - a C call
        if count < 0:
            return -count, []
        return count, buffer[:count]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, without control tokens; U+FFFD for parts of characters."""
        tokens = (ctypes.c_int32 * len(ids))(*ids)
        size = _SPARE + sum(4 * len(self.text(number)) for number in ids)
        while True:
            buffer = ctypes.create_string_buffer(size)
            arguments = (self._handle, tokens, len(ids), buffer, size)
            found = int(self._lib.llama_detokenize(*arguments, False, False))  # noqa: FBT003
            if found >= 0:
                return buffer.raw[:found].decode("utf-8", "replace")
            size = -found


class Context:
    """What one generation has read: keys and values of its own, freed when it is closed."""

    def __init__(self, lib: Any, handle: Any, vocabulary: int) -> None:  # noqa: ANN401
        """Begin with nothing read.

        Args:
            lib: the bindings.
            handle: of the context.
            vocabulary: number of tokens.
        """
        self._lib = lib
        self._handle = handle
        self._vocabulary = vocabulary

    def read(self, tokens: Sequence[int]) -> Any:  # noqa: ANN401 - numpy comes late
        """Read more tokens. Returns the logits after the last, one for each token.

        Raises:
            RuntimeError: the library gave up; its contents are unknown then.
        """
        import numpy as np

        buffer = (ctypes.c_int32 * len(tokens))(*tokens)
        batch = self._lib.llama_batch_get_one(buffer, len(tokens))
        status = int(self._lib.llama_decode(self._handle, batch))
        if status != 0:
            raise RuntimeError(f"llama_decode: {status}")
        logits = self._lib.llama_get_logits_ith(self._handle, -1)
        return np.ctypeslib.as_array(logits, (self._vocabulary,)).copy()

    def close(self) -> None:
        """Overwrite keys and values with zeros, and free them. May be called again."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            memory = self._lib.llama_get_memory(handle)
            if memory:
                self._lib.llama_memory_clear(memory, True)  # noqa: FBT003 - a C call
            self._lib.llama_free(handle)


def _unsupported(what: str, why: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, f"{what}: {why}")
