"""Whatever a broker answers, the runtime ends with one clear refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.appraisal.codes import AttestCode
from regalia.control.codes import ControlCode
from regalia.core.codec import canonical_json
from regalia.core.errors import CoreCode, ParseError, PolicyDenied, UnavailableError, UsageError
from regalia.core.types import ModelId
from regalia.runtime.broker import (
    BrokerBusyError,
    BrokerClient,
    ChallengeUnknownError,
    known_code,
    open_http,
)
from regalia.runtime.codes import RuntimeCode
from regalia.tlog.codes import TlogCode
from regalia.wire.release import RESPONSE_LIMIT, ChallengeResponse, Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = ModelId(bytes(32))
GOOD = ChallengeResponse(challenge="x", audience="log", policy_id="p", expires_in_s=60)


def client(answer: Callable[[httpx.Request], httpx.Response]) -> BrokerClient:
    return BrokerClient("http://broker/", httpx.Client(transport=httpx.MockTransport(answer)))


def asked(status: int, body: bytes) -> ChallengeResponse:
    return client(lambda _: httpx.Response(status, stream=httpx.ByteStream(body))).challenge(MODEL)


def refusal(code: str, *reasons: Reason, what: str = "no") -> bytes:
    return canonical_json(
        Refusal(code=code, what=what, why="w", fix="f", reasons=list(reasons), log=None)
    )


def test_asks_in_canonical_json() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(canonical_json(GOOD)))

    assert client(answer).challenge(MODEL) == GOOD
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", "http://broker/v1/challenge")
    assert request.content == canonical_json({"model_id": str(MODEL)})


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", canonical_json(GOOD) + b" ", b"\xff"])
def test_answers_that_are_none(body: bytes) -> None:
    with pytest.raises(ParseError):
        asked(200, body)


def test_answers_without_end() -> None:
    class Endless(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def] # noqa: ANN204
            while True:
                yield b"x" * 65536

    with pytest.raises(ParseError) as caught:
        client(lambda _: httpx.Response(200, stream=Endless())).challenge(MODEL)
    assert caught.value.code is CoreCode.TOO_LARGE
    assert str(RESPONSE_LIMIT) in caught.value.what


@pytest.mark.parametrize("status", [403, 409])
def test_denials_bring_their_reasons(status: int) -> None:
    body = refusal(
        "RELEASE_DENIED_SOMEHOW",
        Reason(code="MEASUREMENT_UNKNOWN", what="not this one"),
        Reason(code="DEBUG_ENABLED", what="debug"),
        Reason(code="NEVER_HEARD_OF", what="\x1b[31mred"),
    )
    with pytest.raises(PolicyDenied) as caught:
        asked(status, body)
    assert caught.value.code is RuntimeCode.RELEASE_DENIED
    assert [what for _, what in caught.value.reasons] == [
        "not this one",
        "debug",
        "[NEVER_HEARD_OF] \ufffd[31mred",
    ]
    assert caught.value.reasons[2][0] is RuntimeCode.RELEASE_DENIED
    assert caught.value.exit_status == 6


@pytest.mark.parametrize(("status", "unknown"), [(409, True), (403, True), (503, False)])
def test_a_challenge_that_the_broker_forgot_can_be_told(status: int, *, unknown: bool) -> None:
    with pytest.raises((PolicyDenied, UnavailableError)) as caught:
        asked(status, refusal("CHALLENGE_UNKNOWN"))
    assert isinstance(caught.value, ChallengeUnknownError) is unknown


def test_codes_of_other_packages_explain_themselves_here() -> None:
    code = next(iter(AttestCode))
    assert known_code(code.name) is code
    assert known_code("MEASUREMENT_REVOKED") is ControlCode.MEASUREMENT_REVOKED
    assert known_code("NEVER_HEARD_OF") is None


def test_a_release_that_a_statement_overtook_is_asked_for_again() -> None:
    with pytest.raises(BrokerBusyError) as caught:
        asked(503, refusal("STATEMENT_INTERVENED"))
    assert caught.value.code is TlogCode.STATEMENT_INTERVENED


def test_failures_keep_the_brokers_code() -> None:
    with pytest.raises(UnavailableError) as caught:
        asked(503, refusal("NEVER_HEARD_OF", what="log\nfull"))
    assert caught.value.code is RuntimeCode.BROKER_REFUSED
    assert "[NEVER_HEARD_OF] log\ufffdfull" in caught.value.what
    with pytest.raises(UnavailableError) as caught:
        asked(503, refusal("TOO_LARGE"))
    assert caught.value.code is CoreCode.TOO_LARGE


@pytest.mark.parametrize("status", [302, 400, 403, 404, 500, 502])
def test_pages_of_strangers(status: int) -> None:
    with pytest.raises(UnavailableError) as caught:
        asked(status, b"<html>go away</html>")
    assert caught.value.code is RuntimeCode.BROKER_REFUSED


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("?")],
)
def test_nobody_answers(error: httpx.TransportError) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(UnavailableError) as caught:
        client(answer).challenge(MODEL)
    assert caught.value.code is CoreCode.PEER_UNREACHABLE
    assert caught.value.exit_status == 8


@pytest.mark.parametrize("url", ["http://[", "http://a b/", "nonsense", "ftp://x"])
def test_addresses_that_are_none(url: str) -> None:
    with open_http() as http, pytest.raises((UsageError, UnavailableError)):
        BrokerClient(url, http).challenge(MODEL)


def test_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with open_http() as http:
        assert http.trust_env is False
        assert http.follow_redirects is False
