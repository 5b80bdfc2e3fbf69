"""The runtime's side of the release exchange over HTTP. Spec: docs/spec/release-exchange.md.

The broker's answers are untrusted: this module only parses them within limits, and
``runtime.release`` verifies the log proof and record that a released key must come with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import httpx

from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import (
    Code,
    CoreCode,
    ParseError,
    PolicyDenied,
    UnavailableError,
    UsageError,
)
from regalia.host.transports import HeadTransport
from regalia.runtime.codes import RuntimeCode
from regalia.wire.release import (
    RESPONSE_LIMIT,
    ChallengeRequest,
    ChallengeResponse,
    LeaseReturned,
    Refusal,
    ReleaseResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.core.errors import RegaliaError
    from regalia.core.types import ModelId
    from regalia.wire.release import LeaseReturn, ReleaseRequest

T = TypeVar("T")
TIMEOUT_S = 15.0
_STEPS = 4  # a place in the pool, connection, request and answer: each may take its time once
_DENIALS = (httpx.codes.FORBIDDEN, httpx.codes.CONFLICT)  # policy decisions, not failures
# Codes of refusals that pass.
_BUSY = ("BROKER_BUSY", "CHALLENGES_EXHAUSTED", "STATEMENT_INTERVENED")
_UNKNOWN = "CHALLENGE_UNKNOWN"
_TEXT_MAX = 500  # characters of the broker's untrusted text that are shown


class BrokerBusyError(UnavailableError):
    """The broker says that it is worth asking again: it has too much to do, or was overtaken."""


class ChallengeUnknownError(PolicyDenied):
    """The broker knows its own challenge no more: its key was renewed. Another one is good."""


class BrokerClient:
    """HTTP client for one broker.

    Args:
        url: base address of the broker, without the path.
        http: client to send requests with; see ``open_http``.
    """

    def __init__(self, url: str, http: httpx.Client) -> None:
        self._url = url.rstrip("/")
        self._http = http

    def challenge(self, model_id: ModelId) -> ChallengeResponse:
        """Request a fresh challenge for this model. Raises as ``release``."""
        return self._post(
            "/v1/challenge", ChallengeRequest(model_id=str(model_id)), ChallengeResponse
        )

    def release(self, request: ReleaseRequest) -> ReleaseResponse:
        """Request the model key.

        Raises:
            UnavailableError: PEER_UNREACHABLE, or the error code of a broker that failed.
            PolicyDenied: RELEASE_DENIED, with every reason that the broker gave.
            ParseError: the answer does not follow the protocol.
            UsageError: BAD_CONFIG, the configured address is not a URL.
        """
        return self._post("/v1/release", request, ReleaseResponse)

    def give_back(self, message: LeaseReturn) -> None:
        """Give a lease back. Raises as ``release``."""
        self._post("/v1/lease/return", message, LeaseReturned)

    def _post(self, path: str, message: object, kind: type[T]) -> T:
        """POST canonical JSON and parse the answer. Raises as ``release``."""
        url = self._url + path
        try:
            with self._http.stream(
                "POST",
                url,
                content=canonical_json(message),
                headers={"content-type": "application/json", "accept-encoding": "identity"},
            ) as response:
                data = _read(response, url)
        except httpx.InvalidURL as exc:
            raise UsageError(CoreCode.BAD_CONFIG, f"broker: {self._url!r} is no URL") from exc
        except httpx.HTTPError as exc:
            raise UnavailableError(
                CoreCode.PEER_UNREACHABLE, f"broker {url}: {type(exc).__name__}: {exc}"
            ) from exc
        if response.status_code != httpx.codes.OK:
            raise _refused(response.status_code, data, url)
        return parse_json(data, kind, limit=RESPONSE_LIMIT, what=f"answer of {url}")


def _read(response: httpx.Response, url: str) -> bytes:
    # Raw bytes: decoding a compressed body could expand it far beyond the limit.
    data = bytearray()
    for piece in response.iter_raw():
        data += piece
        if len(data) > RESPONSE_LIMIT:
            raise ParseError(CoreCode.TOO_LARGE, f"answer of {url}: over {RESPONSE_LIMIT} bytes")
    return bytes(data)


def _clean(text: str) -> str:
    """Make untrusted text safe for a terminal: one line, printable, and short."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)[
        :_TEXT_MAX
    ]


def _all_codes(base: type[Code]) -> Iterator[Code]:
    yield from base
    for kind in base.__subclasses__():
        yield from _all_codes(kind)


def known_code(name: str) -> Code | None:
    """Look up a code by name, so that a broker's refusal is explained locally; None if unknown.

    The explanation comes from this installation and not from the broker, which is untrusted.
    """
    # ``__subclasses__`` lists only enums whose modules are loaded, so import those that a broker
    # can answer with.
    import regalia.appraisal.codes
    import regalia.appraisal.policy_codes
    import regalia.control.codes
    import regalia.tlog.codes

    _ = (
        regalia.appraisal.codes,
        regalia.appraisal.policy_codes,
        regalia.control.codes,
        regalia.tlog.codes,
    )
    return next((code for code in _all_codes(Code) if code.name == name), None)


def _refused(status: int, data: bytes, url: str) -> RegaliaError:
    try:
        refusal = parse_json(data, Refusal, limit=RESPONSE_LIMIT, what="refusal")
    except ParseError:
        return UnavailableError(
            RuntimeCode.BROKER_REFUSED, f"broker {url} answered {status} and no reason"
        )
    what = f"broker: [{_clean(refusal.code)}] {_clean(refusal.what)}"
    if status in _DENIALS:
        given = [(item.code, item.what) for item in refusal.reasons]
        reasons = [_reason(*item) for item in given or [(refusal.code, refusal.what)]]
        denied = ChallengeUnknownError if refusal.code == _UNKNOWN else PolicyDenied
        return denied(RuntimeCode.RELEASE_DENIED, what, reasons)
    kind = BrokerBusyError if refusal.code in _BUSY else UnavailableError
    return kind(known_code(refusal.code) or RuntimeCode.BROKER_REFUSED, what)


def _reason(name: str, what: str) -> tuple[Code, str]:
    code = known_code(name)
    if code is None:
        return RuntimeCode.RELEASE_DENIED, f"[{_clean(name)}] {_clean(what)}"
    return code, _clean(what)


def open_http(timeout_s: float = TIMEOUT_S) -> httpx.Client:
    """An HTTP client that ignores proxy variables and follows no redirects.

    Args:
        timeout_s: seconds that the other side may take for each step; four times as many for a
            whole exchange.
    """
    transport = HeadTransport(_STEPS * timeout_s)
    return httpx.Client(
        transport=transport, timeout=timeout_s, trust_env=False, follow_redirects=False
    )
