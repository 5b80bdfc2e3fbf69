"""What the routes share: the model, those who ask it, and how their requests are read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from regalia.host.shares import FairPlaces
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError
from regalia.runtime.openai.schema import Request as RequestBody
from regalia.runtime.openai.schema import parse_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from regalia.engines.base import ServedModel
    from regalia.runtime.callers import Callers
    from regalia.runtime.generation import Caller, Generations
    from regalia.runtime.metrics import Metrics

T = TypeVar("T")
READERS = 2  # prompts that are read at the same time
SMALL_BODY = 1 << 16  # bytes; decoding as many takes less than a millisecond
JSON = "application/json"
_Request = TypeVar("_Request", bound=RequestBody)


@dataclass(frozen=True, slots=True)
class Service:
    """The collaborators and settings of the routes.

    Attributes:
        engine: runs the model.
        generations: runs the requests to the engine.
        callers: tells callers from each other, where some are listed.
        metrics: counters to increment.
        fingerprint: OpenAI's ``system_fingerprint``; the model id.
        answer_tokens: maximum of new tokens in one answer.
        padding: streamed events are padded to multiples of this many bytes.
        started: Unix time of the start, in seconds.
        readers: threads of their own, so that long prompts do not hold up making of evidence.
        places: who may use these threads: callers in turn.
    """

    engine: ServedModel
    generations: Generations
    callers: Callers
    metrics: Metrics
    fingerprint: str
    answer_tokens: int
    padding: int
    started: int
    readers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(READERS, thread_name_prefix="prompts")
    )

    places: FairPlaces = field(default_factory=lambda: FairPlaces(READERS))

    async def read(self, caller: Caller, work: Callable[[], T]) -> T:
        """Decode a large body, or tokenize a prompt, outside the event loop.

        Args:
            caller: whose it is.
            work: what is done.
        """
        return await self.places.run(caller.name, work, self.readers)


def check_model(service: Service, name: str) -> None:
    """Check that a request is for the model that is served here.

    Args:
        service: serves one model.
        name: as the client sent it.

    Raises:
        ApiError: SERVED_NAME_UNKNOWN.
    """
    if name != service.engine.model_name:
        raise ApiError(
            RequestCode.SERVED_NAME_UNKNOWN,
            f"The model `{name[:100]}` does not exist.",
            param="model",
        )


async def parsed(service: Service, http: Request, kind: type[_Request], caller: Caller) -> _Request:
    """The body of a request, validated.

    Args:
        service: has the threads in which large bodies are decoded.
        http: the request.
        kind: type of its body.
        caller: whose it is.

    Raises:
        ApiError: as ``parse_request``.
    """
    body = await http.body()
    if len(body) <= SMALL_BODY:
        return parse_request(body, kind)
    return await service.read(caller, lambda: parse_request(body, kind))


def caller_of(service: Service, http: Request) -> Caller:
    """Who sent a request.

    Args:
        service: knows the listed callers.
        http: the request.

    Raises:
        ApiError: CALLER_UNKNOWN.
    """
    given = [value for name, value in http.headers.raw if name == b"authorization"]
    return service.callers.find(given, http.client.host if http.client else "")
