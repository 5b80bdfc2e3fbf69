"""One session of onnxruntime whose weights are inputs, bound once to the model's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.engines.onnx.graph import Graph

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
_KNOWN = (IDS, MASK, TYPES)
_SENTENCE = "sentence_embedding"  # an output that is one vector for each text
_HIDDEN = ("last_hidden_state", "token_embeddings")  # outputs that are one vector for each token
_RANK_OF_SENTENCES, _RANK_OF_TOKENS = 2, 3
_FATAL = 4  # level of the library's log; its errors are raised, and may quote what it was given
_WORDS_MAX = 300  # characters of a message of the library about a graph


class Session:
    """Runs the graph on one text at a time."""

    def __init__(self, session: Any, weights: Mapping[str, Any], what: str) -> None:  # noqa: ANN401
        """Bind the weights, and choose the output. Raises UsageError ENGINE_MODEL_UNSUPPORTED.

        Args:
            session: of the library.
            weights: arrays by name; kept, because the library only borrows them.
            what: name of the file for error messages.
        """
        import onnxruntime

        self._session = session
        self._weights = weights
        self._what = what
        wanted = [item.name for item in session.get_inputs() if item.name not in weights]
        if IDS not in wanted or not set(wanted) <= set(_KNOWN):
            raise _unsupported(what, f"its inputs are {wanted}, and known are {list(_KNOWN)}")
        self._wanted = wanted
        self.output, self.whole_text = self._choose(session.get_outputs())
        self._binding = session.io_binding()
        for name, array in weights.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            self._binding.bind_ortvalue_input(name, value)

    def _choose(self, outputs: Any) -> tuple[str, bool]:  # noqa: ANN401
        """Name of the output to use, and whether it is a vector of the whole text."""
        ranks = {item.name: len(item.shape) for item in outputs}
        if ranks.get(_SENTENCE) == _RANK_OF_SENTENCES:
            return _SENTENCE, True
        named = [name for name in _HIDDEN if ranks.get(name) == _RANK_OF_TOKENS]
        others = [name for name, rank in ranks.items() if rank == _RANK_OF_TOKENS]
        if not named and len(others) != 1:
            raise _unsupported(self._what, f"no output is known to be vectors: {list(ranks)}")
        return (named or others)[0], False

    def run(self, tokens: tuple[int, ...]) -> Any:  # noqa: ANN401
        """The output for one text: vectors of (tokens, dimensions), or one of (dimensions,)."""
        import numpy as np

        ids = np.array([tokens], dtype=np.int64)
        values = {IDS: ids, MASK: np.ones_like(ids), TYPES: np.zeros_like(ids)}
        for name in self._wanted:
            self._binding.bind_cpu_input(name, values[name])
        self._binding.clear_binding_outputs()
        self._binding.bind_output(self.output)
        self._session.run_with_iobinding(self._binding)
        (output,) = self._binding.copy_outputs_to_cpu()
        return output[0]


def open_session(graph: Graph, weights: Mapping[str, Any], *, threads: int, what: str) -> Session:
    """Let the library parse the graph, which has no weights in it.

    Args:
        graph: the file without its weights.
        weights: arrays by name.
        threads: of the library.
        what: name of the file for error messages.

    Raises:
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            graph.rest, settings, providers=["CPUExecutionProvider"]
        )
    except Exception as exc:  # the library has one class for each of its status codes
        words = "".join(char if char.isprintable() else " " for char in str(exc))
        raise _unsupported(what, words[:_WORDS_MAX]) from exc
    return Session(session, weights, what)


def _unsupported(what: str, why: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, f"{what}: {why}")
