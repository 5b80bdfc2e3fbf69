"""Through the ``openai`` client a refusal is told as one: its code, its reason, and once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from regalia.client import (
    AsyncRefusalTransport,
    AsyncRegaliaTransport,
    RefusalTransport,
    RegaliaTransport,
    SealedChannelError,
)
from regalia_testing.tees.snp.defects import SnpDefects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.client.trust import ClientTrust

ASK = {"model": "crown", "messages": [{"role": "user", "content": "what do the jewels say?"}]}


@pytest.fixture
def client(address: str, trust: ClientTrust) -> Iterator[OpenAI]:
    transport = RefusalTransport(RegaliaTransport(address, trust))
    with httpx.Client(transport=transport) as http:
        yield OpenAI(base_url=f"{address}/v1", api_key="k", http_client=http, max_retries=3)


def test_answers_are_as_ever(client: OpenAI) -> None:
    assert client.chat.completions.create(**ASK).choices[0].message.content == "Gold and jewels."
    stream = client.chat.completions.create(**ASK, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Gold and jewels."


def test_a_runtime_that_is_refused(client: OpenAI, relay: object) -> None:
    asked: list[object] = []
    relay.on_document = lambda document: asked.append(1) or document
    relay.runtime.defects = SnpDefects(wrong_measurement=True)
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(**ASK)
    assert caught.value.code == "MEASUREMENT_UNKNOWN"
    assert caught.value.type == "regalia_refusal"
    assert "refused by this client" in str(caught.value)
    assert len(asked) == 1, "it was not asked again"
    assert relay.runtime.requests == []


def test_an_answer_that_was_cut(client: OpenAI, relay: object) -> None:
    relay.on_answer = lambda pieces: pieces[:-2]
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(**ASK)
    assert caught.value.code == "OHTTP_TRUNCATED"
    assert len(relay.runtime.requests) == 1, "it was not sent again"


def test_a_stream_that_was_cut(client: OpenAI, relay: object) -> None:
    relay.on_answer = lambda pieces: pieces[:-2]
    stream = client.chat.completions.create(**ASK, stream=True)
    with pytest.raises(openai.APIConnectionError) as caught:
        list(stream)
    assert isinstance(caught.value.__cause__, SealedChannelError)
    assert len(relay.runtime.requests) == 1, "it was not sent again"


def test_a_runtime_that_is_not_there_is_a_failed_connection(trust: ClientTrust) -> None:
    url = "http://127.0.0.1:9"
    with httpx.Client(transport=RefusalTransport(RegaliaTransport(url, trust))) as http:
        chat = OpenAI(base_url=f"{url}/v1", api_key="k", http_client=http, max_retries=0)
        with pytest.raises(openai.APIConnectionError):
            chat.models.list()


def test_asynchronously(address: str, trust: ClientTrust, relay: object) -> None:
    async def scenario() -> str | None:
        transport = AsyncRefusalTransport(AsyncRegaliaTransport(address, trust))
        async with httpx.AsyncClient(transport=transport) as http:
            chat = AsyncOpenAI(base_url=f"{address}/v1", api_key="k", http_client=http)
            answer = await chat.chat.completions.create(**ASK)
            assert answer.choices[0].message.content == "Gold and jewels."
        relay.runtime.defects = SnpDefects(wrong_measurement=True)
        transport = AsyncRefusalTransport(AsyncRegaliaTransport(address, trust))
        async with httpx.AsyncClient(transport=transport) as http:
            chat = AsyncOpenAI(base_url=f"{address}/v1", api_key="k", http_client=http)
            with pytest.raises(openai.PermissionDeniedError) as caught:
                await chat.models.list()
        return caught.value.code

    assert asyncio.run(scenario()) == "MEASUREMENT_UNKNOWN"
