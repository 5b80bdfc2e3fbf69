"""Makes text of the tokens of one generation, up to its end."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from regalia.engines.base import Finish, TextDelta, Usage
from regalia.engines.detokenize import Detokenizer, StopScanner

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from collections.abc import Set as AbstractSet

    from regalia.engines.base import GenerationRequest


def deltas(
    request: GenerationRequest,
    tokens: Generator[int | None],
    decode: Callable[[list[int]], str],
    ends: AbstractSet[int],
) -> Iterator[TextDelta]:
    """Yield the pieces of an answer.

    Args:
        request: what is answered.
        tokens: the new ones; None where nothing is said yet. Closed at the end.
        decode: makes text of tokens, without control tokens.
        ends: tokens that end an answer.
    """
    text = Detokenizer(decode, request.tokens)
    scanner = StopScanner(request.stop)
    count = 0
    finish = Finish.LENGTH
    with closing(tokens):
        for token in tokens:
            if token is None:
                yield TextDelta("")
                continue
            count += 1
            if token in ends:
                finish = Finish.STOP
                break
            shown, stopped = scanner.push(text.push(token))
            if stopped:
                yield TextDelta(shown, Finish.STOP, Usage(len(request.tokens), count))
                return
            yield TextDelta(shown)
    shown, stopped = scanner.push(text.flush())
    if stopped:
        finish = Finish.STOP
    rest = shown if stopped else shown + scanner.flush()
    yield TextDelta(rest, finish, Usage(len(request.tokens), count))
