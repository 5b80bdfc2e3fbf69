"""Unsealed answers are never answers; a runtime that restarted is verified again."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.client import AsyncRegaliaTransport, RegaliaTransport
from regalia.client.errors import ClientCode, RuntimeNotVerifiedError, SealedChannelError
from regalia.crypto.hpke import Kem, generate_keypair
from regalia.crypto.ohttp import RESPONSE_MEDIA_TYPE
from regalia.wire.serving import EVIDENCE_PATH, KEY_PROBLEM_TYPE, PROBLEM_MEDIA_TYPE, SEALED_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.client.trust import ClientTrust

URL = "http://runtime.test"
CHAT = f"{URL}/v1/chat/completions"
NEEDLE = "the prompt that nobody else may read"
ASK = {"messages": [{"role": "user", "content": NEEDLE}]}


@pytest.fixture
def client(relay: object, trust: ClientTrust) -> Iterator[httpx.Client]:
    with httpx.Client(transport=RegaliaTransport(URL, trust, inner=relay)) as client:
        yield client


UNSEALED = {
    "plain_200": ((200, "application/json", b'{"choices":[]}'), "ANSWER_NOT_SEALED"),
    "html_200": ((200, "text/html", b"<h1>Log in</h1>"), "ANSWER_NOT_SEALED"),
    "no_type": ((200, "", b""), "ANSWER_NOT_SEALED"),
    "bad_gateway": ((502, "text/html", b"upstream \x1b[31mdown"), "SEALED_REQUEST_REFUSED"),
    "redirect": ((307, "text/html", b""), "SEALED_REQUEST_REFUSED"),
    "sealed_type_with_500": ((500, RESPONSE_MEDIA_TYPE, b""), "SEALED_REQUEST_REFUSED"),
    "other_problem": ((400, PROBLEM_MEDIA_TYPE, b'{"type":"x"}'), "SEALED_REQUEST_REFUSED"),
    "bad_problem": ((400, PROBLEM_MEDIA_TYPE, b"{"), "SEALED_REQUEST_REFUSED"),
}


@pytest.mark.parametrize("name", UNSEALED)
def test_unsealed_answers_are_never_answers(relay: object, client: httpx.Client, name: str) -> None:
    (status, kind, body), code = UNSEALED[name]
    relay.instead = lambda request: (
        (status, kind, iter([body])) if request.url.path == SEALED_PATH else None
    )
    with pytest.raises(SealedChannelError) as caught:
        client.post(CHAT, json=ASK)
    assert caught.value.code.name == code
    assert "\x1b" not in str(caught.value)
    assert NEEDLE.encode() not in relay.everything()


def key_problem(status: int) -> tuple[int, str, Iterator[bytes]]:
    page = json.dumps({"type": KEY_PROBLEM_TYPE, "title": "key identifier unknown"})
    return status, PROBLEM_MEDIA_TYPE, iter([page.encode()])


def restart(relay: object, page: tuple[int, str, Iterator[bytes]]) -> list[bytes]:
    """Give the runtime other keys; it answers the next request with ``page``."""
    relay.runtime.keys = generate_keypair(Kem.X_WING)
    sent: list[bytes] = []

    def instead(request: httpx.Request) -> object:
        if request.url.path != SEALED_PATH:
            return None
        sent.append(request.content)
        return page if len(sent) == 1 else None

    relay.instead = instead
    return sent


CANNOT_OPEN = b'{"title":"OHTTP_FINAL_ALTERED","type":"about:blank"}'


@pytest.mark.parametrize(
    "page",
    [
        lambda: key_problem(400),
        lambda: key_problem(422),
        lambda: (400, PROBLEM_MEDIA_TYPE, iter([CANNOT_OPEN])),
    ],
)
def test_a_restarted_runtime_is_verified_again(
    relay: object, client: httpx.Client, page: Callable[[], object]
) -> None:
    client.post(CHAT, json=ASK)
    sent = restart(relay, page())
    assert client.post(CHAT, json=ASK).status_code == 200
    assert relay.paths()[2:] == [SEALED_PATH, EVIDENCE_PATH, SEALED_PATH]
    assert sent[0][7:1127] != sent[1][7:1127]  # a new encapsulation, not a replay


def test_the_request_is_repeated_once(relay: object, client: httpx.Client) -> None:
    """Another key each time: the second refusal is final."""

    def instead(request: httpx.Request) -> object:
        relay.runtime.keys = generate_keypair(Kem.X_WING)
        return key_problem(422) if request.url.path == SEALED_PATH else None

    relay.instead = instead
    with pytest.raises(SealedChannelError) as caught:
        client.post(CHAT, json=ASK)
    assert caught.value.code is ClientCode.SERVING_KEY_REFUSED
    assert relay.paths() == [EVIDENCE_PATH, SEALED_PATH] * 2


@pytest.mark.parametrize(
    ("page", "code"),
    [
        (lambda: key_problem(422), ClientCode.SERVING_KEY_REFUSED),
        (
            lambda: (400, PROBLEM_MEDIA_TYPE, iter([CANNOT_OPEN])),
            ClientCode.SEALED_REQUEST_REFUSED,
        ),
    ],
)
def test_without_another_key_nothing_is_repeated(
    relay: object, client: httpx.Client, page: Callable[[], object], code: ClientCode
) -> None:
    relay.instead = lambda request: page() if request.url.path == SEALED_PATH else None
    with pytest.raises(SealedChannelError) as caught:
        client.post(CHAT, json=ASK)
    assert caught.value.code is code
    assert relay.paths() == [EVIDENCE_PATH, SEALED_PATH, EVIDENCE_PATH]


def test_asking_for_a_new_key_is_no_way_around_verification(
    relay: object, client: httpx.Client
) -> None:
    def instead(request: httpx.Request) -> object:
        if request.url.path != SEALED_PATH:
            return None
        relay.on_document = lambda document: dataclasses.replace(
            document, hpke_public_key=generate_keypair(Kem.X_WING).public_key
        )
        return key_problem(422)

    relay.instead = instead
    with pytest.raises(RuntimeNotVerifiedError) as caught:
        client.post(CHAT, json=ASK)
    assert caught.value.code.name == "NONCE_MISMATCH"
    assert len(relay.sealed()) == 1


async def ask_async(relay: object, trust: ClientTrust) -> httpx.Response:
    transport = AsyncRegaliaTransport(URL, trust, inner=relay)
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.post(CHAT, json=ASK)


@pytest.mark.parametrize("name", UNSEALED)
def test_async_unsealed(relay: object, trust: ClientTrust, name: str) -> None:
    (status, kind, body), code = UNSEALED[name]
    relay.instead = lambda request: (
        (status, kind, iter([body])) if request.url.path == SEALED_PATH else None
    )
    with pytest.raises(SealedChannelError) as caught:
        asyncio.run(ask_async(relay, trust))
    assert caught.value.code.name == code


def test_async_restart(relay: object, trust: ClientTrust) -> None:
    transport = AsyncRegaliaTransport(URL, trust, inner=relay)

    async def ask_twice() -> list[int]:
        async with httpx.AsyncClient(transport=transport) as client:
            first = await client.post(CHAT, json=ASK)
            restart(relay, key_problem(422))
            second = await client.post(CHAT, json=ASK)
            return [first.status_code, second.status_code]

    assert asyncio.run(ask_twice()) == [200, 200]
    assert relay.paths()[2:] == [SEALED_PATH, EVIDENCE_PATH, SEALED_PATH]
    relay.instead = lambda request: key_problem(422) if request.url.path == SEALED_PATH else None
    with pytest.raises(SealedChannelError) as caught:
        asyncio.run(ask_async(relay, trust))
    assert caught.value.code is ClientCode.SERVING_KEY_REFUSED
