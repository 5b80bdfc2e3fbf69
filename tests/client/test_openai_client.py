"""The stock ``openai`` client over loopback TCP, with an honest and with a cutting relay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from regalia.client import AsyncRegaliaTransport, RegaliaTransport, SealedChannelError
from regalia.client.errors import RuntimeNotVerifiedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.client.trust import ClientTrust

NEEDLE = "the prompt that nobody else may read"
KEY = "sk-needle-of-the-caller"
ASK = {"model": "crown", "messages": [{"role": "user", "content": NEEDLE}]}
WORDS = "Gold and jewels."


@pytest.fixture
def client(address: str, trust: ClientTrust) -> Iterator[OpenAI]:
    transport = RegaliaTransport(address, trust)
    with httpx.Client(transport=transport) as http:
        yield OpenAI(base_url=f"{address}/v1", api_key=KEY, http_client=http, max_retries=0)


def test_chat(client: OpenAI, relay: object) -> None:
    answer = client.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == WORDS
    assert [model.id for model in client.models.list()] == ["crown"]
    assert relay.runtime.requests[0].header(b"authorization") == f"Bearer {KEY}".encode()
    for needle in (NEEDLE, KEY, "OpenAI", "stainless", "chat"):
        assert needle.encode() not in relay.everything()


def test_streamed_chat(client: OpenAI) -> None:
    stream = client.chat.completions.create(**ASK, stream=True)
    assert [chunk.choices[0].delta.content for chunk in stream] == ["Gold", " and", " jewels", "."]


def test_errors_in_openais_shape(client: OpenAI, relay: object) -> None:
    relay.runtime.answer = lambda _: (
        404,
        b"application/json",
        [b'{"error":{"message":"no such model","code":"model_not_found"}}'],
    )
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.chat.completions.create(**ASK)


@pytest.mark.parametrize(
    "attack",
    [lambda p: p[:-2], lambda p: [*p[:4], ConnectionError()], lambda p: [*p[:3], *p[4:]]],
    ids=["cut", "broken_connection", "token_dropped"],
)
def test_cut_stream_is_an_error(client: OpenAI, relay: object, attack: object) -> None:
    relay.on_answer = attack
    stream = client.chat.completions.create(**ASK, stream=True)
    words: list[str] = []
    with pytest.raises(openai.APIConnectionError) as caught:
        words.extend(chunk.choices[0].delta.content for chunk in stream)
    assert WORDS.startswith("".join(words))
    cause = caught.value.__cause__
    assert isinstance(cause, SealedChannelError)
    assert cause.code.name in ("OHTTP_TRUNCATED", "OHTTP_CHUNK_REORDERED")
    assert cause.code.name in str(cause)


def test_refusal_is_the_cause(client: OpenAI, relay: object) -> None:
    relay.runtime.measurement = b"\x66" * 48
    with pytest.raises(openai.APIConnectionError) as caught:
        client.chat.completions.create(**ASK)
    cause = caught.value.__cause__
    assert isinstance(cause, RuntimeNotVerifiedError)
    assert cause.code.name == "MEASUREMENT_UNKNOWN"
    assert "nothing was sent" in str(cause)
    assert relay.sealed() == []


def test_retries_are_new_requests(address: str, trust: ClientTrust, relay: object) -> None:
    """The library repeats a cut request; the runtime, which refuses replays, serves it."""
    answers: list[int] = []

    def cut_once(pieces: list[bytes]) -> list[bytes]:
        answers.append(len(pieces))
        return pieces[:2] if len(answers) == 1 else pieces

    relay.on_answer = cut_once
    with httpx.Client(transport=RegaliaTransport(address, trust)) as http:
        client = OpenAI(base_url=f"{address}/v1", api_key=KEY, http_client=http, max_retries=1)
        answer = client.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == WORDS
    assert len(answers) == 2


def test_async_client(address: str, trust: ClientTrust) -> None:
    async def chat() -> list[str]:
        async with httpx.AsyncClient(transport=AsyncRegaliaTransport(address, trust)) as http:
            client = AsyncOpenAI(
                base_url=f"{address}/v1", api_key=KEY, http_client=http, max_retries=0
            )
            stream = await client.chat.completions.create(**ASK, stream=True)
            return [chunk.choices[0].delta.content async for chunk in stream]

    assert asyncio.run(chat()) == ["Gold", " and", " jewels", "."]
