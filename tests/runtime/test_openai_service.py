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

    from tests.runtime.harness import Answer, RuntimeTestbed

MODEL_ID = "model:" + "ab" * 32
TEXT = "user: one two three "


def content(events: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    )


def test_chat(testbed: RuntimeTestbed) -> None:
    answer = testbed.chat()
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


def test_completion(testbed: RuntimeTestbed) -> None:
    body = testbed.complete(max_tokens=2).json()
    assert body.pop("id").startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "one two ", "logprobs": None, "finish_reason": "length"}
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize("prompt", [["one two"], "one two"])
def test_completion_prompts(prompt: object, testbed: RuntimeTestbed) -> None:
    assert testbed.complete(prompt=prompt).json()["choices"][0]["text"] == "one two "
    assert testbed.complete(prompt=[5, 6]).json()["choices"][0]["text"] == "t5 t6 "
    assert testbed.complete(prompt=[[5, 6]]).json()["choices"][0]["text"] == "t5 t6 "


@pytest.mark.parametrize("prompt", [[[5], [6]], ["one", "two"], ["one", 5], [[5], 6], ["one", [5]]])
def test_several_prompts_are_refused(prompt: object, testbed: RuntimeTestbed) -> None:
    assert testbed.complete(prompt=prompt).status == 400


@pytest.mark.parametrize(
    "extra",
    [
        {"functions": None, "prediction": None, "reasoning_effort": None, "no_such_word": None},
        {"logprobs": False, "top_logprobs": 0},
        {"functions": [], "function_call": "none", "tools": [], "tool_choice": "auto"},
        {"top_k": -1, "min_p": 0, "repetition_penalty": 1.0},
        {"messages": [{"role": "user", "content": "one two three", "id": 7, "x": {"y": 1}}]},
    ],
    ids=str,
)
def test_what_changes_nothing_is_ignored(extra: dict[str, Any], testbed: RuntimeTestbed) -> None:
    assert testbed.chat(**extra).json()["choices"][0]["message"]["content"] == TEXT


@pytest.mark.parametrize(
    "extra",
    [
        {"no_such_word": 0},
        {"top_logprobs": 1},
        {"functions": [{"name": "f"}]},
        {"top_k": 5},
        {"repetition_penalty": 1.1},
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    ],
    ids=str,
)
def test_what_changes_the_meaning_is_refused(
    extra: dict[str, Any], testbed: RuntimeTestbed
) -> None:
    assert testbed.chat(**extra).status == 400


def test_chat_stream(testbed: RuntimeTestbed) -> None:
    answer = testbed.chat(stream=True)
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


def test_stream_says_what_the_whole_answer_says(testbed: RuntimeTestbed) -> None:
    whole = testbed.chat().json()
    *events, _ = testbed.chat(stream=True, stream_options={"include_usage": True}).events()
    assert content(events) == whole["choices"][0]["message"]["content"]
    *others, last = events
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    assert {event["usage"] for event in others} == {None}


def test_completion_stream(testbed: RuntimeTestbed) -> None:
    *events, done = testbed.complete(stream=True).events()
    assert done == "[DONE]"
    assert {event["object"] for event in events} == {"text_completion"}
    assert [event["choices"][0]["text"] for event in events] == ["one ", "two ", "three ", ""]
    assert [event["choices"][0]["finish_reason"] for event in events][-2:] == [None, "stop"]


def test_padding_hides_lengths(
    make_testbed: Callable[..., RuntimeTestbed], testbed: RuntimeTestbed
) -> None:
    padded = make_testbed(padding=256).chat(stream=True)
    assert {len(piece) % 256 for piece in padded.pieces} == {0}
    plain = testbed.chat(stream=True)
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


def test_parameters_reach_the_engine(testbed: RuntimeTestbed) -> None:
    testbed.chat(
        temperature=0, top_p=0.5, seed=-1, stop=["a", "b"], max_tokens=7, max_completion_tokens=3
    )
    got = testbed.engine.requests[-1]
    assert (got.temperature, got.top_p, got.seed) == (0.0, 0.5, (1 << 63) - 1)
    assert (got.stop, got.max_tokens) == (("a", "b"), 3)
    testbed.chat(stop="a", max_tokens=7)
    got = testbed.engine.requests[-1]
    assert (got.temperature, got.top_p, got.seed) == (1.0, 1.0, None)
    assert (got.stop, got.max_tokens) == (("a",), 7)
    testbed.chat()
    assert testbed.engine.requests[-1].max_tokens == 40, "the runtime's own limit"
    testbed.complete()
    assert testbed.engine.requests[-1].max_tokens == 16, "OpenAI's default"


def test_messages_in_all_their_forms(testbed: RuntimeTestbed) -> None:
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        # What a client appends from an earlier answer.
        {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None, "audio": None,
         "function_call": None, "annotations": []},
        {"role": "user", "name": "me", "content": "d"},
    ]  # fmt: skip
    text = testbed.chat(messages=messages).json()["choices"][0]["message"]["content"]
    assert text == "system: be kind user: ab assistant: c user: d "


def test_harmless_parameters_are_ignored(testbed: RuntimeTestbed) -> None:
    answer = testbed.chat(
        user="u", metadata={"a": "b"}, store=True, service_tier="auto", safety_identifier="x",
        prompt_cache_key="k", parallel_tool_calls=True, n=1, presence_penalty=0,
        frequency_penalty=0.0, logit_bias={}, logprobs=False, top_logprobs=None, tools=[],
        tool_choice="none", response_format={"type": "text"}, modalities=["text"], stop=None,
        stream=None, seed=None,
    )  # fmt: skip
    assert answer.status == 200
    assert testbed.complete(echo=False, best_of=1, logprobs=None, suffix=None).status == 200


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
def test_refused_parameters_are_named(name: str, testbed: RuntimeTestbed) -> None:
    fields, param = REFUSED_CHAT[name]
    answer = testbed.chat(**fields)
    assert answer.status == 400
    found = error(answer)
    assert (found["type"], found["code"]) == ("invalid_request_error", "invalid_request")
    assert found["param"] == param
    assert testbed.engine.requests == []


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
def test_refused_in_completions(
    fields: dict[str, Any], param: str, testbed: RuntimeTestbed
) -> None:
    answer = testbed.complete(**fields)
    assert answer.status == 400
    assert error(answer)["param"].split("[")[0] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'"x"'])
def test_bad_bodies(body: bytes, testbed: RuntimeTestbed) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        answer = testbed.ask(path, body)
        assert answer.status == 400
        error(answer)


def test_unknown_model_and_unknown_path(testbed: RuntimeTestbed) -> None:
    answer = testbed.chat(model="nope")
    assert answer.status == 404
    assert error(answer)["message"] == "The model `nope` does not exist."
    assert (error(answer)["code"], error(answer)["param"]) == ("model_not_found", "model")
    assert error(testbed.ask("/v1/responses", {}))["code"] == "unknown_url"
    assert error(testbed.ask("/v1/models", {}))["code"] == "unknown_url"


def test_models(testbed: RuntimeTestbed) -> None:
    model = {"id": "words", "object": "model", "created": 1_700_000_000, "owned_by": "regalia"}
    listed = asyncio.run(call(testbed.app, "GET", "/v1/models"))
    assert listed.json() == {"object": "list", "data": [model]}
    assert asyncio.run(call(testbed.app, "GET", "/v1/models/words")).json() == model
    assert asyncio.run(call(testbed.app, "GET", "/v1/models/no/such")).status == 404


def test_prompts_that_do_not_fit(testbed: RuntimeTestbed) -> None:
    answer = testbed.complete(prompt="w " * 64)
    assert (answer.status, error(answer)["code"]) == (400, "context_length_exceeded")
    answer = testbed.complete(prompt="w " * 60, max_tokens=5)
    assert (error(answer)["code"], error(answer)["param"]) == ("context_length_exceeded", "prompt")
    assert testbed.complete(prompt="w " * 60, max_tokens=4).status == 200
    answer = testbed.chat(messages=[{"role": "user", "content": "refuse me"}])
    assert (answer.status, error(answer)["code"]) == (400, "PROMPT_UNUSABLE")


def test_failure_in_the_middle_of_a_stream(testbed: RuntimeTestbed) -> None:
    testbed.engine.error = RuntimeError("a detail with the prompt in it: one two three")
    with pytest.raises(RuntimeError):
        testbed.chat()
    with pytest.raises(RuntimeError):
        testbed.chat(stream=True)
    testbed.engine.error = None
    assert testbed.chat().status == 200, "the turn was given back"


def test_nothing_is_passed_on_once_the_model_is_gone(testbed: RuntimeTestbed) -> None:
    testbed.alive = False
    answer = testbed.chat()
    assert (answer.status, error(answer)["code"]) == (503, "NOT_SERVING")
    events = testbed.chat(stream=True).events()
    assert events[-1]["error"]["code"] == "NOT_SERVING"
    assert "[DONE]" not in events
    assert testbed.engine.steps == 0


def test_metrics_hold_counts_only(testbed: RuntimeTestbed) -> None:
    testbed.chat(user="somebody")
    testbed.chat(n=2)
    text = generate_latest(testbed.metrics.registry).decode()
    assert 'regalia_requests_total{route="chat",status="200"} 1.0' in text
    assert 'regalia_requests_total{route="chat",status="400"} 1.0' in text
    assert "tokens" not in text, "two readings would tell the length of a request between them"
    for word in ("somebody", "one", "words"):
        assert f'"{word}' not in text


def test_one_at_a_time_in_order_with_a_limit(testbed: RuntimeTestbed) -> None:
    async def scenario() -> list[int]:
        testbed.engine.go.clear()
        body = {"model": "words", "prompt": "x"}
        tasks = []
        for number in range(3):
            prompt = body | {"prompt": " ".join("x" * (number + 1))}
            tasks.append(asyncio.create_task(testbed.post("/v1/completions", prompt)))
            await asyncio.sleep(0.05)
        full = await testbed.post("/v1/completions", body)
        assert full.status == 429
        assert full.headers["retry-after"] == "2"
        assert error(full)["code"] == "rate_limit_exceeded"
        assert testbed.generations.waiting == 2
        assert len(testbed.engine.requests) == 1
        testbed.engine.go.set()
        await asyncio.gather(*tasks)
        return [len(request.tokens) for request in testbed.engine.requests]

    assert asyncio.run(scenario()) == [1, 2, 3]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_engine(stream: bool, testbed: RuntimeTestbed) -> None:  # noqa: FBT001
    async def scenario() -> None:
        testbed.engine.go.clear()
        body = {"model": "words", "prompt": "one two three", "stream": stream}
        task = asyncio.create_task(testbed.post("/v1/completions", body))
        waiting = asyncio.create_task(testbed.post("/v1/completions", body))
        left = asyncio.create_task(testbed.post("/v1/completions", body))
        assert await asyncio.to_thread(testbed.engine.begun.wait, 10)
        await asyncio.sleep(0.1)
        task.cancel()
        left.cancel()  # from the queue
        await asyncio.gather(task, left, return_exceptions=True)
        testbed.engine.go.set()
        answer = await waiting
        assert answer.status == 200
        assert answer.complete

    asyncio.run(scenario())
    assert len(testbed.engine.requests) == 2
    assert testbed.engine.closed == 2
    assert testbed.engine.steps == 1 + 3, "one word for the client that left, three for the other"


def test_the_stock_client_is_content(testbed: RuntimeTestbed) -> None:
    openai = pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx")

    async def scenario() -> None:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(testbed.app))
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

    asyncio.run(scenario())


def test_bodies_are_not_trusted_to_be_small_json(testbed: RuntimeTestbed) -> None:
    many = [{"role": "user", "content": "x"}] * 5000
    answer = testbed.chat(messages=many)
    assert (answer.status, error(answer)["param"]) == (400, "messages")
    assert len(json.dumps(answer.json())) < 1000
