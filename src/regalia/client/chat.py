"""A small chat client for OpenAI-compatible runtimes, for the terminal. Needs no ``openai``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import msgspec

from regalia.client.errors import ClientCode, RuntimeNotVerifiedError, SealedChannelError
from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TEMPERATURE = 0.0  # the likeliest answer, and the same one when asked again
MAX_TOKENS = 512  # of one answer

_OK = 200
_DOCUMENT_MAX = 8 * MIB
_LINE_MAX = 1 * MIB
_DATA = "data:"
_DONE = "[DONE]"


class Message(msgspec.Struct, frozen=True):
    """One turn."""

    role: str
    content: str


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Problem(msgspec.Struct):
    message: str
    code: str | int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Problem | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Refusal(msgspec.Struct):
    error: _Problem


class ChatClient:
    """Speaks ``/v1/models`` and ``/v1/chat/completions`` over a given HTTP client.

    Args:
        http: with a ``RegaliaTransport``.
        base_url: the runtime's, without ``/v1``.
        temperature: 0 is greedy.
        max_tokens: most tokens of one answer.
    """

    def __init__(
        self,
        http: httpx.Client,
        base_url: str,
        *,
        temperature: float = TEMPERATURE,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._http = http
        self._base = base_url.rstrip("/")
        self._temperature = temperature
        self._max_tokens = max_tokens

    def models(self) -> list[str]:
        """Names of the served models. Raises RegaliaError.

        Raises:
            ParseError: the answer is not understood.
        """
        with (
            _our_errors(self._base),
            self._http.stream("GET", f"{self._base}/v1/models") as response,
        ):
            data = _read(response)
            _check(response, data)
        try:
            return [model.id for model in msgspec.json.decode(data, type=_Models).data]
        except msgspec.MsgspecError as exc:
            raise ParseError(CoreCode.MALFORMED, f"list of models: {exc}") from exc

    def stream(self, model: str, messages: Sequence[Message]) -> Iterator[str]:
        """The answer, piece by piece, as it arrives.

        Args:
            model: the served name.
            messages: the conversation so far.

        Raises:
            AttestationError, PolicyDenied, LogError: the runtime was refused; nothing was sent.
            IntegrityError, ParseError: the answer was cut, altered or is not understood.
            UnavailableError: PEER_UNREACHABLE, or CHAT_REFUSED with the runtime's own words.
        """
        body = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "temperature": self._temperature,
            "max_tokens": self._max_tokens,
        }
        with (
            _our_errors(self._base),
            self._http.stream(
                "POST",
                f"{self._base}/v1/chat/completions",
                content=msgspec.json.encode(body),
                headers={"content-type": "application/json"},
            ) as response,
        ):
            if response.status_code != _OK:
                _check(response, _read(response))
            yield from _deltas(response)


@contextmanager
def _our_errors(base_url: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeNotVerifiedError, SealedChannelError) as exc:
        raise exc.error from exc
    except httpx.HTTPError as exc:
        raise UnavailableError(
            CoreCode.PEER_UNREACHABLE, f"{base_url}: {type(exc).__name__}: {str(exc)[:200]}"
        ) from exc


def _read(response: httpx.Response) -> bytes:
    data = bytearray()
    for piece in response.iter_bytes():
        data += piece
        if len(data) > _DOCUMENT_MAX:
            raise ParseError(CoreCode.TOO_LARGE, f"answer of more than {_DOCUMENT_MAX} bytes")
    return bytes(data)


def _check(response: httpx.Response, data: bytes) -> None:
    if response.status_code == _OK:
        return
    try:
        said = msgspec.json.decode(data, type=_Refusal).error.message
    except msgspec.MsgspecError:
        said = "no reason given"
    raise UnavailableError(
        ClientCode.CHAT_REFUSED, f"status {response.status_code}: {printable(said)[:500]}"
    )


def _deltas(response: httpx.Response) -> Iterator[str]:
    done = False
    for line in response.iter_lines():
        if len(line) > _LINE_MAX:
            raise ParseError(CoreCode.TOO_LARGE, f"event of more than {_LINE_MAX} characters")
        if done or not line.startswith(_DATA):
            continue
        data = line.removeprefix(_DATA).strip()
        if data == _DONE:
            # Read on: only the end of the sealed stream proves that nothing is missing.
            done = True
            continue
        try:
            event = msgspec.json.decode(data, type=_Event)
        except msgspec.MsgspecError as exc:
            raise ParseError(CoreCode.MALFORMED, f"event of the answer: {exc}") from exc
        if event.error is not None:
            raise UnavailableError(ClientCode.CHAT_REFUSED, printable(event.error.message)[:500])
        for choice in event.choices:
            if choice.delta.content:
                yield choice.delta.content
    if not done:
        raise ParseError(CoreCode.MALFORMED, "the answer ends without its [DONE] event")


def printable(text: str) -> str:
    """Text without control characters: a model must not steer the reader's terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
