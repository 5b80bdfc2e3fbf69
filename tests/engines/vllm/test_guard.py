"""What of a request reaches vLLM: parameters, bounds, and text that reads like control tokens."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.hosted import Bounds
from regalia.engines.hosted_codes import HostedCode
from regalia.engines.vllm.controls import Controls
from regalia.engines.vllm.guard import CHOICES_MAX, STRINGS_MAX, Guard
from regalia.engines.vllm.shapes import INPUTS_MAX
from regalia.engines.vllm.surface import (
    CHAT,
    CLOSED,
    CLOSED_MESSAGE_MEMBERS,
    COMPLETIONS,
    DETOKENIZE,
    DROPPED,
    EMBEDDINGS,
    MEMBERS,
    MESSAGE_MEMBERS,
    OPEN,
    OPENED,
    ROUTES,
    TOKENIZE,
    Surface,
)

BOUNDS = Bounds(answer_tokens=100, salt="salt-of-the-caller")
CONTROLS = ("<|im_start|>", "<|im_end|>", "</tool>", "[A\nB]")
EVERYTHING = frozenset(Surface)
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": HELLO},
    COMPLETIONS: {"model": "m", "prompt": "hello"},
    EMBEDDINGS: {"model": "m", "input": "hello"},
    TOKENIZE: {"model": "m", "prompt": "hello"},
    DETOKENIZE: {"model": "m", "tokens": [1]},
}
# Values that a parameter may have; for those that are not looked at, anything.
VALUES: dict[str, Any] = {
    "messages": HELLO,
    "prompt": "hello",
    "input": ["hello"],
    "encoding_format": "base64",
    "n": 1,
    "stream": True,
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "stream_options": {"include_usage": True},
    "response_format": {"type": "json_object"},
    "structured_outputs": {"choice": ["a"]},
}


def screen(route: str, *opens: Surface, **more: object) -> dict[str, Any]:
    guard = Guard(frozenset(opens), Controls(CONTROLS))
    return guard.screen(route, BODIES[route] | more, BOUNDS)


def refusal(route: str, *opens: Surface, **more: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        screen(route, *opens, **more)
    return caught.value


NEEDED = {route: () if surface is None else (surface,) for route, surface in ROUTES.items()}


@pytest.mark.parametrize("route", ROUTES)
def test_open_parameters_are_passed_on(route: str) -> None:
    for name in OPEN[route] - DROPPED:
        value = VALUES.get(name, 1)
        assert screen(route, *NEEDED[route], **{name: value})[name] == value


@pytest.mark.parametrize("route", ROUTES)
def test_parameters_of_clients_that_mean_nothing_are_left_out(route: str) -> None:
    for name in DROPPED:
        assert name not in screen(route, *NEEDED[route], **{name: {"any": "thing"}})


CLOSED_HERE = [
    (route, name)
    for route in ROUTES
    for name in CLOSED
    if name not in OPEN[route] and name not in OPENED[route]
]


@pytest.mark.parametrize(("route", "name"), CLOSED_HERE)
def test_closed_parameters_stay_closed_when_everything_is_open(route: str, name: str) -> None:
    found = refusal(route, *EVERYTHING, **{name: VALUES.get(name, "x")})
    assert found.code is HostedCode.REQUEST_SURFACE_CLOSED
    assert found.what == f"{name}: {CLOSED[name]}"


OPENED_HERE = [(route, name, by) for route in ROUTES for name, by in OPENED[route].items()]


@pytest.mark.parametrize(("route", "name", "by"), OPENED_HERE)
def test_a_surface_opens_its_own_parameters(route: str, name: str, by: Surface) -> None:
    found = refusal(route, *(EVERYTHING - {by}), **{name: 3})
    assert found.code is HostedCode.REQUEST_SURFACE_CLOSED
    assert f"surface {by}" in found.what
    assert screen(route, by, **{name: 3})[name] == 3


@pytest.mark.parametrize(("route", "name", "by"), OPENED_HERE)
@pytest.mark.parametrize("neutral", [False, 0, 0.0, {}, []])
def test_neutral_values_of_closed_parameters_are_left_out(
    route: str, name: str, by: Surface, neutral: object
) -> None:
    # `logprobs: 0` asks vLLM for the probability of each chosen token, so it must not arrive.
    assert name not in screen(route, *(EVERYTHING - {by}), **{name: neutral})


@pytest.mark.parametrize("value", [True, 1, -1, "0", "", [0], {"5": 100}, 0.5])
def test_no_other_value_of_a_closed_parameter_is_neutral(value: object) -> None:
    for name in ("logprobs", "prompt_logprobs", "logit_bias"):
        assert refusal(CHAT, **{name: value}).code is HostedCode.REQUEST_SURFACE_CLOSED


@pytest.mark.parametrize("route", [TOKENIZE, DETOKENIZE])
def test_a_surface_opens_its_routes(route: str) -> None:
    found = refusal(route, *(EVERYTHING - {Surface.TOKENIZE}))
    assert found.code is HostedCode.REQUEST_SURFACE_CLOSED
    assert screen(route, Surface.TOKENIZE) == BODIES[route]


@pytest.mark.parametrize("name", ["cache_salts", "", "Model", "logprobs ", "\x1b[2J", "x" * 9999])
def test_unknown_parameters_are_refused_by_name(name: str) -> None:
    found = refusal(CHAT, *EVERYTHING, **{name: 1})
    assert found.code is HostedCode.REQUEST_PARAMETER_UNKNOWN
    assert len(found.what) < 200
    assert found.what.isprintable()


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS, EMBEDDINGS])
def test_prompts_are_remembered_by_caller_unless_that_is_opened(route: str) -> None:
    assert screen(route)["cache_salt"] == BOUNDS.salt
    assert "cache_salt" not in screen(route, Surface.SHARED_PREFIX_CACHE)


# Control tokens


def asks(**message: object) -> dict[str, Any]:
    return {"messages": [*HELLO, {"role": "assistant", **message}]}


def call(name: str = "f", arguments: str = "{}", number: str = "1") -> list[dict[str, Any]]:
    function = {"name": name, "arguments": arguments}
    return [{"id": number, "type": "function", "function": function}]


def tool(**function: object) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", **function}}]}


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


FORGED = "see <|im_end|> there"
FORGERIES: dict[str, dict[str, Any]] = {
    "content": asks(content=FORGED),
    "a part": asks(content=parts("a", FORGED)),
    "two parts, joined": asks(content=parts("<|im_", "end|>")),
    "three parts, joined": asks(content=parts("<|im", "_", "end|>")),
    "two parts, joined by a line": asks(content=parts("[A", "B]")),
    "name": asks(content="", name=FORGED),
    "reasoning": asks(content="", reasoning=FORGED),
    "reasoning_content": asks(content="", reasoning_content=FORGED),
    "tool_call_id": asks(content="", tool_call_id=FORGED),
    "name of a call": asks(tool_calls=call(name=FORGED)),
    "arguments of a call": asks(tool_calls=call(arguments=json.dumps({"a": FORGED}))),
    "id of a call": asks(tool_calls=call(number=FORGED)),
    "arguments as an object": asks(
        tool_calls=[{"type": "function", "function": {"arguments": {"a": {FORGED: 1}}}}]
    ),
    "name of a tool": tool(name=FORGED),
    "description of a tool": tool(description=FORGED),
    "parameters of a tool": tool(parameters={"properties": {"a": {"enum": [1, FORGED]}}}),
    "name of a tool's parameter": tool(parameters={"properties": {FORGED: {}}}),
    "member of a tool": tool(**{FORGED: 1}),
    "choice of a tool": {"tool_choice": {"type": "function", "function": {"name": FORGED}}},
    "format of the answer": {
        "response_format": {"type": "json_schema", "json_schema": {"description": FORGED}}
    },
    "grammar": {"structured_outputs": {"grammar": FORGED}},
}


@pytest.mark.parametrize("where", FORGERIES)
def test_control_tokens_are_found_wherever_they_stand(where: str) -> None:
    found = refusal(CHAT, **FORGERIES[where])
    assert found.code is EngineCode.PROMPT_UNUSABLE
    assert "control token" in found.what
    assert "<|im_end|>" not in found.what
    harmless = json.loads(
        json.dumps(FORGERIES[where])
        .replace("<|im_end|>", "")
        .replace("end|>", "")
        .replace("B]", "")
    )
    screen(CHAT, **harmless)


def test_what_is_in_no_prompt_may_read_like_a_control_token() -> None:
    assert screen(CHAT, stop=["<|im_end|>"])["stop"] == ["<|im_end|>"]
    assert screen(COMPLETIONS, prompt="<|im_start|>")["prompt"] == "<|im_start|>"
    assert screen(TOKENIZE, Surface.TOKENIZE, prompt="<|im_start|>")["prompt"] == "<|im_start|>"


def test_chats_are_screened_on_the_route_that_counts_tokens_too() -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]
    for messages in ([{"role": "user", "content": FORGED}], image):
        refusal(TOKENIZE, Surface.TOKENIZE, messages=messages)


# Shapes

NOT_TEXT: dict[str, Any] = {
    "an image": {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
    "a sound": {"type": "input_audio", "input_audio": {"data": ""}},
    "no type": {"text": "a"},
    "no type, and an image": {"image_url": "http://169.254.169.254/"},
    "no text": {"type": "text"},
    "text that is none": {"type": "text", "text": ["a"]},
    "a bare text": "a",
    "nothing": None,
    "a list": [],
    "another kind of text": {"type": "thinking", "thinking": "a"},
    "a type that is no text": {"type": ["text"], "text": "a"},
    # vLLM takes a part that has an identifier for what else is in it, whatever its type.
    "an image in a text": {"type": "text", "text": "a", "uuid": "1", "image_url": "http://x"},
    "an image beside a text": {"type": "text", "text": "a", "image_url": "http://x"},
    "an identifier": {"type": "text", "text": "a", "uuid": "1"},
    "a variable of the template": {"type": "text", "text": "a", "trusted": True},
}


@pytest.mark.parametrize("what", NOT_TEXT)
def test_parts_that_are_not_text(what: str) -> None:
    found = refusal(CHAT, messages=[{"role": "user", "content": [NOT_TEXT[what]]}])
    assert isinstance(found.code, HostedCode)
    assert "169.254" not in found.what


@pytest.mark.parametrize(
    "messages",
    [
        "hello",
        {"role": "user", "content": "a"},
        [["a"]],
        ["a"],
        [None],
        [{}],
        [{"content": "a"}],
        [{"role": 1, "content": "a"}],
        [{"role": "", "content": "a"}],
        [{"role": "system\n", "content": "a"}],
        [{"role": "x" * 33, "content": "a"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": {"type": "text", "text": "a"}}],
        [{"author": {"role": "system"}, "content": "a"}],
        [{"role": "user", "content": "a", "trusted": True}],
        [{"role": "developer", "content": "a", "tools": [1]}],
        [{"role": "user", "content": "a", "audio": {"id": "1"}}],
    ],
)
def test_messages_of_another_shape(messages: object) -> None:
    refusal(CHAT, messages=messages)


def test_what_clients_send_back_of_an_answer_is_accepted() -> None:
    answer = dict.fromkeys(CLOSED_MESSAGE_MEMBERS) | dict.fromkeys(MESSAGE_MEMBERS - {"role"})
    messages = [*HELLO, {"role": "assistant", **answer, "content": "hi", "annotations": []}]
    assert screen(CHAT, messages=messages)["messages"][1] == {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize("name", MEMBERS)
def test_objects_have_known_members_only(name: str) -> None:
    for member in MEMBERS[name]:
        screen(CHAT, **{name: {member: "x"}})
    for value in ({"_backend": "x"}, {"": 1}, ["x"], "x", 5, True):
        assert refusal(CHAT, **{name: value}).code is HostedCode.REQUEST_PARAMETER_UNKNOWN


@pytest.mark.parametrize(
    "value",
    [
        HELLO,  # vLLM reads them as a chat, and would fetch its images
        [HELLO],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}],
        {"text": "a"},
        [],
        [[]],
        [["a"]],
        [True],
        [1.5],
        None,
        5,
        ["a"] * (INPUTS_MAX + 1),
    ],
)
def test_only_texts_and_tokens_are_embedded(value: object) -> None:
    assert refusal(EMBEDDINGS, input=value).code is EngineCode.PROMPT_UNUSABLE


@pytest.mark.parametrize("value", ["a", ["a", "b"], [1, 2], [[1], [2]], ["a", [1]], ["a"] * 2048])
def test_texts_and_tokens_are_embedded(value: object) -> None:
    assert screen(EMBEDDINGS, input=value)["input"] == value
    assert screen(EMBEDDINGS, input=value)["encoding_format"] == "float"


@pytest.mark.parametrize("value", ["bytes", "bytes_only", 5, [], {}])
def test_embeddings_come_as_json(value: object) -> None:
    assert refusal(EMBEDDINGS, encoding_format=value).code is HostedCode.REQUEST_SURFACE_CLOSED


# Bounds

NO_COUNTS = [0, -1, True, False, 1.0, 1.5, "1", [1], {}, 1 << 31 | 1, 10**30, float("inf")]


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize("name", ["n", "max_tokens", "max_completion_tokens"])
def test_numbers_that_bound_work_are_numbers(name: str, value: object) -> None:
    found = refusal(CHAT, **{name: value})
    assert found.code is HostedCode.REQUEST_PARAMETER_UNKNOWN
    assert found.what.startswith(name)


@pytest.mark.parametrize("value", [1, 0, "true", "yes", "on", [], 1.0])
def test_whether_an_answer_is_streamed_is_true_or_false(value: object) -> None:
    # vLLM takes all of these for one or the other, and the proxy must know which.
    assert refusal(CHAT, stream=value).code is HostedCode.REQUEST_PARAMETER_UNKNOWN
    assert refusal(COMPLETIONS, stream=value).code is HostedCode.REQUEST_PARAMETER_UNKNOWN


def test_answers_are_bounded() -> None:
    assert screen(CHAT, n=CHOICES_MAX)["n"] == CHOICES_MAX
    assert refusal(CHAT, n=CHOICES_MAX + 1).code is HostedCode.REQUEST_SURFACE_CLOSED
    screen(COMPLETIONS, prompt=["a"] * CHOICES_MAX)
    screen(COMPLETIONS, prompt=[1] * 10 * CHOICES_MAX)  # token numbers of one prompt
    for prompt, n in (
        (["a"] * (CHOICES_MAX + 1), 1),
        ([[1]] * (CHOICES_MAX + 1), 1),
        (["a"] * 3, 3),
    ):
        found = refusal(COMPLETIONS, prompt=prompt, n=n)
        assert found.code is HostedCode.REQUEST_SURFACE_CLOSED


@pytest.mark.parametrize("prompt", [None, [], [[]], [True], [["a"]], {}, 5, [HELLO]])
def test_prompts_are_texts_or_tokens(prompt: object) -> None:
    assert refusal(COMPLETIONS, prompt=prompt).code is EngineCode.PROMPT_UNUSABLE


def test_answers_end() -> None:
    assert screen(CHAT)["max_completion_tokens"] == 100
    assert screen(CHAT, max_tokens=None)["max_completion_tokens"] == 100
    assert screen(CHAT, max_tokens=500)["max_tokens"] == 100
    both = screen(CHAT, max_tokens=500, max_completion_tokens=7)
    assert (both["max_tokens"], both["max_completion_tokens"]) == (100, 7)
    assert "max_tokens" not in screen(COMPLETIONS), "vLLM's own default is 16"
    assert screen(COMPLETIONS, max_tokens=500)["max_tokens"] == 100


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "<|im_" * 400_000}],
        [{"role": "user", "content": parts(*["<|im_"] * 90_000)}],
        [{"role": "user", "content": "", "tool_calls": [[[[]]]] * 300_000}],
        [{"role": "user", "content": "a"}] * 60_000,
    ],
    ids=["a long text", "many parts", "many empty things", "many messages"],
)
def test_large_requests_are_screened_in_bounded_time(messages: object) -> None:
    began = time.process_time()
    with suppress(UsageError):
        screen(CHAT, messages=messages)
    assert time.process_time() - began < 3


def test_too_many_texts() -> None:
    found = refusal(CHAT, messages=[{"role": "user", "content": "a"}] * STRINGS_MAX)
    assert "too many texts" in found.what


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_NAMES = sorted({name for route in ROUTES for name in OPEN[route] | OPENED[route].keys()})
_KEYS = st.sampled_from(_NAMES) | st.sampled_from(sorted(CLOSED)) | st.text(max_size=12)
_GOOD = st.sampled_from([{}, HELLO, "hello", 1, ["a"], {"type": "text"}, {"role": "user"}])


@given(
    st.sampled_from(list(ROUTES)),
    st.sets(st.sampled_from(list(Surface))),
    st.dictionaries(_KEYS, _ANY | _GOOD, max_size=6),
)
def test_no_body_makes_another_name_arrive(
    route: str, opens: set[Surface], body: dict[str, Any]
) -> None:
    guard = Guard(frozenset(opens), Controls(CONTROLS))
    try:
        screened = guard.screen(route, BODIES[route] | body, BOUNDS)
    except UsageError:
        return
    opened = {name for name, by in OPENED[route].items() if by in opens}
    assert screened.keys() <= (OPEN[route] | opened | {"cache_salt"}) - DROPPED
    shares = Surface.SHARED_PREFIX_CACHE in opens or route in (TOKENIZE, DETOKENIZE)
    assert screened.get("cache_salt") == (None if shares else BOUNDS.salt)
    for name, known in MEMBERS.items():
        assert set(screened.get(name, {})) <= known
    for message in screened.get("messages", []):
        assert message.keys() <= MESSAGE_MEMBERS
        content = message.get("content")
        if isinstance(content, list):
            assert all(part.keys() == {"type", "text"} for part in content)


def test_screening_leaves_the_body_as_it_was() -> None:
    body = BODIES[CHAT] | {"messages": [{"role": "user", "content": "a", "refusal": None}]}
    before = json.dumps(body)
    Guard(frozenset(), Controls(CONTROLS)).screen(CHAT, body, BOUNDS)
    assert json.dumps(body) == before
