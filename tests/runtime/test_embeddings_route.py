"""POST /v1/embeddings, as OpenAI's clients see it: shapes, bounds, refusals."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest

from regalia.engines.base import Embedder
from regalia.runtime.openai.embeddings import NUMBERS_MAX
from regalia.runtime.openai.schema import INPUTS_MAX
from tests.runtime.harness import RuntimeTestbed, SizeEmbedder, WordEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.runtime.harness import Answer

    Make = Callable[..., RuntimeTestbed]


@pytest.fixture
def sizes() -> Iterator[RuntimeTestbed]:
    made = RuntimeTestbed(engine=SizeEmbedder())
    yield made
    made.engine.go.set()
    made.generations.shut()


def embed(testbed: RuntimeTestbed, given: object, **fields: object) -> Answer:
    body = {"model": "sizes", "input": given} | fields
    return testbed.ask("/v1/embeddings", body)


def vectors(answer: Answer) -> list[list[float]]:
    assert answer.status == 200, answer.body
    return [item["embedding"] for item in answer.json()["data"]]


def refusal(answer: Answer) -> tuple[int, Any, Any]:
    body = answer.json()["error"]
    return answer.status, body["code"], body["param"]


def test_the_doubles_are_what_they_stand_for() -> None:
    assert isinstance(SizeEmbedder(), Embedder)
    assert not isinstance(WordEngine(), Embedder)


def test_one_text(sizes: RuntimeTestbed) -> None:
    tenth = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert embed(sizes, "one two three").json() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.0, 3.0, tenth, tenth]}],
        "model": "sizes",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        ("a b", [2]),
        (["a b", "c"], [2, 1]),
        ([5, 6, 7], [3]),
        ([[5, 6, 7], [8]], [3, 1]),
    ],
    ids=str,
)
def test_all_four_forms_of_input(given: object, lengths: list[int], sizes: RuntimeTestbed) -> None:
    answer = embed(sizes, given)
    assert [vector[:2] for vector in vectors(answer)] == [[i, n] for i, n in enumerate(lengths)]
    assert answer.json()["usage"]["prompt_tokens"] == sum(lengths)
    assert [item["index"] for item in answer.json()["data"]] == list(range(len(lengths)))


def test_base64_is_little_endian_floats(sizes: RuntimeTestbed) -> None:
    (text,) = vectors(embed(sizes, "a b c", encoding_format="base64"))
    decoded = list(struct.unpack("<4f", base64.b64decode(str(text))))
    assert [decoded] == vectors(embed(sizes, "a b c", encoding_format="float"))


@pytest.mark.parametrize(
    "given",
    [
        "",
        [],
        [""],
        ["a", ""],
        [[]],
        [[5], []],
        ["a", 5],
        ["a", [5]],
        [5, [6]],
        7,
        None,
        [1.5],
        [True],
    ],
    ids=str,
)
def test_inputs_that_are_none(given: object, sizes: RuntimeTestbed) -> None:
    status, _, param = refusal(embed(sizes, given))
    assert status == 400
    assert param is None if given is None else param.startswith("input")
    assert not sizes.engine.batches


def test_engine_refusals_come_before_any_work(sizes: RuntimeTestbed) -> None:
    long = " ".join("x" * 9)
    assert refusal(embed(sizes, ["short", long]))[1] == "context_length_exceeded"
    assert refusal(embed(sizes, [[5], [100]]))[1] == "PROMPT_UNUSABLE"
    assert not sizes.engine.batches


def test_numbers_of_inputs_are_bounded(sizes: RuntimeTestbed, make_testbed: Make) -> None:
    assert len(vectors(embed(sizes, ["x"] * INPUTS_MAX))) == INPUTS_MAX
    assert refusal(embed(sizes, ["x"] * (INPUTS_MAX + 1))) == (400, "invalid_request", "input")
    wide = make_testbed(engine=SizeEmbedder(dimensions=NUMBERS_MAX // 3))
    assert len(vectors(embed(wide, ["x"] * 3))) == 3
    assert refusal(embed(wide, ["x"] * 4)) == (400, "invalid_request", "input")
    widest = make_testbed(engine=SizeEmbedder(dimensions=NUMBERS_MAX + 1))
    assert len(vectors(embed(widest, "x"))) == 1, "one is always answered"
    assert refusal(embed(widest, ["x", "y"])) == (400, "invalid_request", "input")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"dimensions": 3}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"no_such_word": 1}, "no_such_word"),
        ({"stream": True}, "stream"),
        ({"model": "words"}, "model"),
    ],
    ids=str,
)
def test_what_changes_the_meaning_is_refused(
    fields: dict[str, object], param: str, sizes: RuntimeTestbed
) -> None:
    assert refusal(embed(sizes, "x", **fields))[2] == param


def test_what_changes_nothing_is_taken(sizes: RuntimeTestbed) -> None:
    plain = vectors(embed(sizes, "a b"))
    fields = {"dimensions": 4, "user": "me", "metadata": {"a": "b"}, "encoding_format": None}
    assert vectors(embed(sizes, "a b", **fields)) == plain


def test_each_kind_of_model_has_its_routes(sizes: RuntimeTestbed, testbed: RuntimeTestbed) -> None:
    messages = [{"role": "user", "content": "x"}]
    chat = sizes.ask("/v1/chat/completions", {"model": "sizes", "messages": messages})
    assert refusal(chat) == (404, "ROUTE_NOT_FOR_MODEL", "model")
    assert "/v1/embeddings" in chat.json()["error"]["message"]
    plain = sizes.ask("/v1/completions", {"model": "sizes", "prompt": "x"})
    assert refusal(plain) == (404, "ROUTE_NOT_FOR_MODEL", "model")
    assert refusal(embed(testbed, "x", model="words")) == (404, "ROUTE_NOT_FOR_MODEL", "model")
    assert not testbed.engine.requests


def test_the_wrong_kind_is_an_error_of_ours(sizes: RuntimeTestbed, testbed: RuntimeTestbed) -> None:
    async def scenario() -> None:
        with pytest.raises(TypeError):
            await anext(sizes.generations.run(None, None))  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await anext(testbed.generations.embed((), None))  # type: ignore[arg-type]

    asyncio.run(scenario())


def test_nothing_is_passed_on_once_the_model_is_gone(sizes: RuntimeTestbed) -> None:
    sizes.alive = False
    assert refusal(embed(sizes, "x"))[:2] == (503, "NOT_SERVING")
    assert sizes.engine.computed == 0


def test_metrics_count_requests_and_nothing_of_them(sizes: RuntimeTestbed) -> None:
    embed(sizes, "somebody said", user="somebody")
    embed(sizes, "")
    text = generate_latest(sizes.metrics.registry).decode()
    assert 'regalia_requests_total{route="embeddings",status="200"} 1.0' in text
    assert 'regalia_requests_total{route="embeddings",status="400"} 1.0' in text
    assert "somebody" not in text
    assert "token" not in text


def test_a_full_queue_refuses_before_it_tokenizes(make_testbed: Make) -> None:
    bed = make_testbed(engine=SizeEmbedder(), parallel=1, queue=1)

    async def scenario() -> None:
        bed.engine.go.clear()
        body = {"model": "sizes", "input": "x"}
        tasks = []
        for _ in range(2):
            tasks.append(asyncio.create_task(bed.post("/v1/embeddings", body)))
            await asyncio.sleep(0.05)
        full = await bed.post("/v1/embeddings", body)
        assert refusal(full)[:2] == (429, "rate_limit_exceeded")
        bed.engine.go.set()
        for answer in await asyncio.gather(*tasks):
            assert answer.status == 200

    asyncio.run(scenario())
    assert len(bed.engine.batches) == 2
    assert bed.engine.tokenized == 2, "nothing of the third was read"


def test_a_short_batch_does_not_wait_for_a_long_one(make_testbed: Make) -> None:
    bed = make_testbed(engine=SizeEmbedder(step_s=0.002), parallel=3)
    order: list[str] = []

    async def one(name: str, count: int) -> None:
        await bed.post("/v1/embeddings", {"model": "sizes", "input": ["x"] * count})
        order.append(name)

    async def scenario() -> None:
        bed.engine.go.clear()
        long = asyncio.create_task(one("long", 400))
        await asyncio.sleep(0.05)
        short = asyncio.create_task(one("short", 2))
        await asyncio.sleep(0.05)
        bed.engine.go.set()
        await asyncio.gather(long, short)

    asyncio.run(scenario())
    assert order == ["short", "long"]


def test_a_client_that_leaves_stops_the_work(make_testbed: Make) -> None:
    bed = make_testbed(engine=SizeEmbedder())

    async def scenario() -> None:
        bed.engine.go.clear()
        body = {"model": "sizes", "input": ["x"] * 100}
        task = asyncio.create_task(bed.post("/v1/embeddings", body))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        bed.engine.go.set()
        while not bed.engine.closed:  # noqa: ASYNC110 - the engine's thread ends it
            await asyncio.sleep(0.005)

    asyncio.run(scenario())
    assert bed.engine.computed < 100


def test_many_values_are_refused_before_they_are_decoded(sizes: RuntimeTestbed) -> None:
    answer = sizes.ask("/v1/embeddings", b'{"model":"sizes","input":[' + b"1," * 70_000 + b"1]}")
    assert answer.status == 400
    assert len(json.dumps(answer.json())) < 1000


def test_the_stock_client_is_content(sizes: RuntimeTestbed) -> None:
    openai = pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx")

    async def scenario() -> None:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(sizes.app))
        client = openai.AsyncOpenAI(
            base_url="http://inside/v1", api_key="none", http_client=http, max_retries=0
        )
        found = await client.embeddings.create(model="sizes", input=["a b", "c"])
        assert [item.embedding[:2] for item in found.data] == [[0.0, 2.0], [1.0, 1.0]]
        assert found.usage.total_tokens == 3
        floats = await client.embeddings.create(
            model="sizes", input=["a b", "c"], encoding_format="float"
        )
        assert [list(item.embedding) for item in floats.data] == [
            list(item.embedding) for item in found.data
        ]
        with pytest.raises(openai.NotFoundError) as wrong:
            await client.chat.completions.create(
                model="sizes", messages=[{"role": "user", "content": "x"}]
            )
        assert wrong.value.code == "ROUTE_NOT_FOR_MODEL"
        await client.close()

    asyncio.run(scenario())
