"""OpenAI's protocol, as its clients see it: shapes, streams, errors."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest

from regalia.runtime.openai.answers import pad_event
from tests.runtime.harness import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.harness import Answer, Bench

MODEL_ID = "model:" + "ab" * 32
TEXT = "user: one two three "


def content(events: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    )


def test_chat(bench: Bench) -> None:
    answer = bench.chat()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    body = answer.json()
    assert body.pop("id").startswith("chatcmpl-")
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "chat.completion",
        "model": "words",
        "system_fingerprint": MODEL_ID,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8},
    }


def test_completion(bench: Bench) -> None:
    body = bench.complete(max_tokens=2).json()
    assert body.pop("id").startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "one two ", "logprobs": None, "finish_reason": "length"}
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize("prompt", [["one two"], "one two"])
def test_completion_prompts(prompt: object, bench: Bench) -> None:
    assert bench.complete(prompt=prompt).json()["choices"][0]["text"] == "one two "
    assert bench.complete(prompt=[5, 6]).json()["choices"][0]["text"] == "t5 t6 "


def test_chat_stream(bench: Bench) -> None:
    answer = bench.chat(stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in answer.headers
    assert answer.complete
    *events, done = answer.events()
    assert done == "[DONE]"
    assert len(answer.pieces) == len(events) + 1, "one piece for each event"
    assert len({event["id"] for event in events}) == 1
    for event in events:
        assert set(event) == {"id", "object", "created", "model", "system_fingerprint", "choices"}
        assert (event["object"], event["model"]) == ("chat.completion.chunk", "words")
    first, *middle, last = [event["choices"][0] for event in events]
    assert first == {
        "index": 0,
        "delta": {"role": "assistant", "content": "", "refusal": None},
        "logprobs": None,
        "finish_reason": None,
    }
    assert [item["delta"] for item in middle] == [
        {"content": word} for word in ("user: ", "one ", "two ", "three ")
    ]
    assert {item["finish_reason"] for item in middle} == {None}
    assert last == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


def test_stream_says_what_the_whole_answer_says(bench: Bench) -> None:
    whole = bench.chat().json()
    *events, _ = bench.chat(stream=True, stream_options={"include_usage": True}).events()
    assert content(events) == whole["choices"][0]["message"]["content"]
    *others, last = events
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    assert {event["usage"] for event in others} == {None}


def test_completion_stream(bench: Bench) -> None:
    *events, done = bench.complete(stream=True).events()
    assert done == "[DONE]"
    assert {event["object"] for event in events} == {"text_completion"}
    assert [event["choices"][0]["text"] for event in events] == ["one ", "two ", "three ", ""]
    assert [event["choices"][0]["finish_reason"] for event in events][-2:] == [None, "stop"]


def test_padding_hides_lengths(make_bench: Callable[..., Bench], bench: Bench) -> None:
    padded = make_bench(padding=256).chat(stream=True)
    assert {len(piece) % 256 for piece in padded.pieces} == {0}
    plain = bench.chat(stream=True)
    assert content(padded.events()[:-1]) == content(plain.events()[:-1])


@pytest.mark.parametrize("size", range(20, 40))
def test_pad_event(size: int) -> None:
    event = b"data: " + b"x" * (size - 8) + b"\n\n"
    padded = pad_event(event, 16)
    assert len(padded) % 16 == 0
    assert padded.startswith(event)
    rest = padded[len(event) :]
    assert rest == b"" or (rest.startswith(b":") and rest.endswith(b"\n\n"))
    assert pad_event(event, 0) == event


def test_parameters_reach_the_engine(bench: Bench) -> None:
    bench.chat(
        temperature=0, top_p=0.5, seed=-1, stop=["a", "b"], max_tokens=7, max_completion_tokens=3
    )
    got = bench.engine.requests[-1]
    assert (got.temperature, got.top_p, got.seed) == (0.0, 0.5, (1 << 63) - 1)
    assert (got.stop, got.max_tokens) == (("a", "b"), 3)
    bench.chat(stop="a", max_tokens=7)
    got = bench.engine.requests[-1]
    assert (got.temperature, got.top_p, got.seed) == (1.0, 1.0, None)
    assert (got.stop, got.max_tokens) == (("a",), 7)
    bench.chat()
    assert bench.engine.requests[-1].max_tokens == 40, "the runtime's own limit"
    bench.complete()
    assert bench.engine.requests[-1].max_tokens == 16, "OpenAI's default"


def test_messages_in_all_their_forms(bench: Bench) -> None:
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        # What a client appends from an earlier answer.
        {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None, "audio": None,
         "function_call": None, "annotations": []},
        {"role": "user", "name": "me", "content": "d"},
    ]  # fmt: skip
    text = bench.chat(messages=messages).json()["choices"][0]["message"]["content"]
    assert text == "system: be kind user: ab assistant: c user: d "


def test_harmless_parameters_are_ignored(bench: Bench) -> None:
    answer = bench.chat(
        user="u", metadata={"a": "b"}, store=True, service_tier="auto", safety_identifier="x",
        prompt_cache_key="k", parallel_tool_calls=True, n=1, presence_penalty=0,
        frequency_penalty=0.0, logit_bias={}, logprobs=False, top_logprobs=None, tools=[],
        tool_choice="none", response_format={"type": "text"}, modalities=["text"], stop=None,
        stream=None, seed=None,
    )  # fmt: skip
    assert answer.status == 200
    assert bench.complete(echo=False, best_of=1, logprobs=None, suffix=None).status == 200


def error(answer: Answer) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    found: dict[str, Any] = body["error"]
    return found


REFUSED_CHAT: dict[str, tuple[dict[str, Any], str]] = {
    "two choices": ({"n": 2}, "n"),
    "logprobs": ({"logprobs": True}, "logprobs"),
    "top_logprobs": ({"top_logprobs": 3}, "top_logprobs"),
    "penalty": ({"presence_penalty": 0.5}, "presence_penalty"),
    "bias": ({"logit_bias": {"5": 1}}, "logit_bias"),
    "json answers": ({"response_format": {"type": "json_object"}}, "response_format.type"),
    "tools": ({"tools": [{"type": "function"}]}, "tools"),
    "sound": ({"modalities": ["text", "audio"]}, "modalities[1]"),
    "unknown": ({"frobnicate": 1}, "frobnicate"),
    "unknown inside": ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
    "stream_options alone": ({"stream_options": {"include_usage": True}}, "stream_options"),
    "too hot": ({"temperature": 2.5}, "temperature"),
    "too cold": ({"temperature": -1}, "temperature"),
    "temperature in words": ({"temperature": "0"}, "temperature"),
    "top_p": ({"top_p": 1.5}, "top_p"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "tokens in fractions": ({"max_tokens": 1.5}, "max_tokens"),
    "five stops": ({"stop": list("abcde")}, "stop"),
    "empty stop": ({"stop": [""]}, "stop[0]"),
    "no messages": ({"messages": []}, "messages"),
    "messages are text": ({"messages": "hi"}, "messages"),
    "image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        "messages[0].content[0].type",
    ),
    "tool's message": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    "tool call": (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
        "messages[0].tool_calls",
    ),
}


@pytest.mark.parametrize("name", REFUSED_CHAT)
def test_refused_parameters_are_named(name: str, bench: Bench) -> None:
    fields, param = REFUSED_CHAT[name]
    answer = bench.chat(**fields)
    assert answer.status == 400
    found = error(answer)
    assert (found["type"], found["code"]) == ("invalid_request_error", "invalid_request")
    assert found["param"] == param
    assert bench.engine.requests == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 0}, "logprobs"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"messages": []}, "messages"),
    ],
)
def test_refused_in_completions(fields: dict[str, Any], param: str, bench: Bench) -> None:
    answer = bench.complete(**fields)
    assert answer.status == 400
    assert error(answer)["param"].split("[")[0] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'"x"'])
def test_bad_bodies(body: bytes, bench: Bench) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        answer = bench.ask(path, body)
        assert answer.status == 400
        error(answer)


def test_unknown_model_and_unknown_path(bench: Bench) -> None:
    answer = bench.chat(model="nope")
    assert answer.status == 404
    assert error(answer)["message"] == "The model `nope` does not exist."
    assert (error(answer)["code"], error(answer)["param"]) == ("model_not_found", "model")
    assert error(bench.ask("/v1/embeddings", {}))["code"] == "unknown_url"
    assert error(bench.ask("/v1/models", {}))["code"] == "unknown_url"


def test_models(bench: Bench) -> None:
    model = {"id": "words", "object": "model", "created": 1_700_000_000, "owned_by": "regalia"}
    listed = asyncio.run(call(bench.app, "GET", "/v1/models"))
    assert listed.json() == {"object": "list", "data": [model]}
    assert asyncio.run(call(bench.app, "GET", "/v1/models/words")).json() == model
    assert asyncio.run(call(bench.app, "GET", "/v1/models/no/such")).status == 404


def test_prompts_that_do_not_fit(bench: Bench) -> None:
    answer = bench.complete(prompt="w " * 64)
    assert (answer.status, error(answer)["code"]) == (400, "context_length_exceeded")
    answer = bench.complete(prompt="w " * 60, max_tokens=5)
    assert (error(answer)["code"], error(answer)["param"]) == ("context_length_exceeded", "prompt")
    assert bench.complete(prompt="w " * 60, max_tokens=4).status == 200
    answer = bench.chat(messages=[{"role": "user", "content": "refuse me"}])
    assert (answer.status, error(answer)["code"]) == (400, "PROMPT_UNUSABLE")


def test_failure_in_the_middle_of_a_stream(bench: Bench) -> None:
    bench.engine.error = RuntimeError("a detail with the prompt in it: one two three")
    with pytest.raises(RuntimeError):
        bench.chat()
    with pytest.raises(RuntimeError):
        bench.chat(stream=True)
    bench.engine.error = None
    assert bench.chat().status == 200, "the turn was given back"


def test_nothing_is_passed_on_once_the_model_is_gone(bench: Bench) -> None:
    bench.alive = False
    answer = bench.chat()
    assert (answer.status, error(answer)["code"]) == (503, "NOT_SERVING")
    events = bench.chat(stream=True).events()
    assert events[-1]["error"]["code"] == "NOT_SERVING"
    assert "[DONE]" not in events
    assert bench.engine.steps == 0


def test_metrics_hold_counts_only(bench: Bench) -> None:
    bench.chat(user="somebody")
    bench.chat(n=2)
    text = generate_latest(bench.metrics.registry).decode()
    assert 'regalia_requests_total{route="chat",status="200"} 1.0' in text
    assert 'regalia_requests_total{route="chat",status="400"} 1.0' in text
    assert "regalia_completion_tokens_total 4.0" in text
    for word in ("somebody", "one", "words"):
        assert f'"{word}' not in text


def test_one_at_a_time_in_order_with_a_limit(bench: Bench) -> None:
    async def scene() -> list[int]:
        bench.engine.go.clear()
        body = {"model": "words", "prompt": "x"}
        tasks = []
        for number in range(3):
            prompt = body | {"prompt": " ".join("x" * (number + 1))}
            tasks.append(asyncio.create_task(bench.post("/v1/completions", prompt)))
            await asyncio.sleep(0.05)
        full = await bench.post("/v1/completions", body)
        assert full.status == 429
        assert full.headers["retry-after"] == "2"
        assert error(full)["code"] == "rate_limit_exceeded"
        assert bench.generations.turns.waiting == 2
        assert len(bench.engine.requests) == 1
        bench.engine.go.set()
        await asyncio.gather(*tasks)
        return [len(request.tokens) for request in bench.engine.requests]

    assert asyncio.run(scene()) == [1, 2, 3]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_engine(stream: bool, bench: Bench) -> None:  # noqa: FBT001
    async def scene() -> None:
        bench.engine.go.clear()
        body = {"model": "words", "prompt": "one two three", "stream": stream}
        task = asyncio.create_task(bench.post("/v1/completions", body))
        waiting = asyncio.create_task(bench.post("/v1/completions", body))
        left = asyncio.create_task(bench.post("/v1/completions", body))
        assert await asyncio.to_thread(bench.engine.begun.wait, 10)
        await asyncio.sleep(0.1)
        task.cancel()
        left.cancel()  # from the queue
        await asyncio.gather(task, left, return_exceptions=True)
        bench.engine.go.set()
        answer = await waiting
        assert answer.status == 200
        assert answer.complete

    asyncio.run(scene())
    assert len(bench.engine.requests) == 2
    assert bench.engine.closed == 2
    assert bench.engine.steps == 1 + 3, "one word for the client that left, three for the other"


def test_the_stock_client_is_content(bench: Bench) -> None:
    openai = pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx")

    async def scene() -> None:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(bench.app))
        client = openai.AsyncOpenAI(
            base_url="http://inside/v1", api_key="none", http_client=http, max_retries=0
        )
        assert [model.id async for model in client.models.list()] == ["words"]
        messages: Any = [{"role": "user", "content": "one two"}]
        whole = await client.chat.completions.create(model="words", messages=messages)
        assert whole.choices[0].message.content == "user: one two "
        assert whole.system_fingerprint == MODEL_ID
        turns = [*messages, whole.choices[0].message.model_dump(), *messages]
        again = await client.chat.completions.create(model="words", messages=turns)
        assert again.usage.prompt_tokens == 10
        stream = await client.chat.completions.create(
            model="words", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "user: one two "
        assert chunks[-1].usage.total_tokens == 6
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="nope", messages=messages)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="words", messages=messages, n=3)
        assert bad.value.param == "n"
        await client.close()

    asyncio.run(scene())


def test_bodies_are_not_trusted_to_be_small_json(bench: Bench) -> None:
    many = [{"role": "user", "content": "x"}] * 5000
    answer = bench.chat(messages=many)
    assert (answer.status, error(answer)["param"]) == (400, "messages")
    assert len(json.dumps(answer.json())) < 1000
