"""Errors in the shape that OpenAI's clients parse: ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from regalia.engines.codes import EngineCode
from regalia.runtime.codes import RequestCode

if TYPE_CHECKING:
    from regalia.core.errors import Code, RegaliaError

# HTTP status, OpenAI's error type, and OpenAI's error code, or our code where OpenAI has none.
_WIRE: dict[Code, tuple[int, str, str]] = {
    RequestCode.REQUEST_INVALID: (400, "invalid_request_error", "invalid_request"),
    RequestCode.SERVED_NAME_UNKNOWN: (404, "invalid_request_error", "model_not_found"),
    RequestCode.ROUTE_NOT_FOR_MODEL: (404, "invalid_request_error", "ROUTE_NOT_FOR_MODEL"),
    RequestCode.ROUTE_UNKNOWN: (404, "invalid_request_error", "unknown_url"),
    RequestCode.QUEUE_FULL: (429, "rate_limit_error", "rate_limit_exceeded"),
    RequestCode.CALLER_UNKNOWN: (401, "invalid_request_error", "invalid_api_key"),
    RequestCode.CALLER_BUSY: (429, "rate_limit_error", "CALLER_BUSY"),
    RequestCode.ANSWER_NOT_READ: (503, "server_error", "ANSWER_NOT_READ"),
    RequestCode.ANSWER_TIMEOUT: (504, "server_error", "ANSWER_TIMEOUT"),
    RequestCode.TOO_MANY_CHALLENGES: (429, "rate_limit_error", "TOO_MANY_CHALLENGES"),
    RequestCode.NOT_SERVING: (503, "server_error", "NOT_SERVING"),
    RequestCode.REPLAY_MEMORY_FULL: (503, "server_error", "REPLAY_MEMORY_FULL"),
    RequestCode.GENERATION_FAILED: (500, "server_error", "GENERATION_FAILED"),
    EngineCode.ENGINE_MEMORY_SHORT: (503, "server_error", "ENGINE_MEMORY_SHORT"),
    EngineCode.PROMPT_TOO_LONG: (400, "invalid_request_error", "context_length_exceeded"),
    EngineCode.PROMPT_UNUSABLE: (400, "invalid_request_error", "PROMPT_UNUSABLE"),
}
_OTHER = (400, "invalid_request_error")


_RETRY_S = 2  # seconds until there may be room again
_ABSENT_RETRY_S = 10  # seconds; an engine that is started again takes some of these


def retry_after(code: Code) -> int:
    """Seconds after which a client may ask again that was told to wait."""
    return _ABSENT_RETRY_S if code is RequestCode.NOT_SERVING else _RETRY_S


class ApiError(Exception):
    """A refused request, to be answered in OpenAI's shape.

    Args:
        code: why the request is refused.
        message: explanation for the client; must not contain text of the prompt.
        param: name of the request parameter that is at fault, if there is one.
    """

    def __init__(self, code: Code, message: str, *, param: str | None = None) -> None:
        super().__init__(code.name)
        status, kind, wire = _WIRE.get(code, (*_OTHER, code.name))
        self.code = code
        self.status = status
        self.body = {"message": message, "type": kind, "param": param, "code": wire}

    def encode(self) -> bytes:
        """Encode the JSON body."""
        return msgspec.json.encode({"error": self.body})

    def response(self) -> Response:
        """Build the HTTP response; 429 and 503 tell the client when to retry."""
        again = {"retry-after": str(retry_after(self.code))}
        headers = again if self.status in (429, 503) else {}
        return Response(self.encode(), self.status, media_type="application/json", headers=headers)


def from_regalia(error: RegaliaError) -> ApiError:
    """Convert one of our errors, whose texts are written for people and contain no secret."""
    return ApiError(error.code, f"{error.what}. {error.code.fix}")
