"""The page of surfaces, the lists, and the installed vLLM agree; and nothing else is passed on."""

from __future__ import annotations

import asyncio
import itertools
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import make_engine_surfaces as surfaces
import pytest

from regalia.engines.vllm import modes
from regalia.engines.vllm.controls import Controls
from regalia.engines.vllm.guard import Guard
from regalia.engines.vllm.surface import (
    CHAT,
    CLOSED,
    CLOSED_ROUTES,
    COMPLETIONS,
    DETOKENIZE,
    DROPPED,
    EMBEDDINGS,
    OPEN,
    OPENED,
    ROUTES,
    TOKENIZE,
    Surface,
    parameter_state,
    route_state,
)
from tests.runtime.fake_engine import FakeEngine, proxied
from tests.runtime.harness import call

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "engine-surfaces.md"
needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed here; make engine-vllm asks it"
)
_ROUTE = re.compile(r"^\| `([A-Z]+) ([^`]+)` \| (yes|no) \| (.*) \|$", re.MULTILINE)
_ROW = re.compile(r"^\| `([^`]+)` \| (.*) \|$", re.MULTILINE)


def section(title: str) -> str:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    assert rest, title
    return rest.split("\n## ")[0]


def test_the_page_says_of_each_route_what_the_list_says() -> None:
    rows = _ROUTE.findall(section("Routes"))
    assert {path: state for _, path, _, state in rows} == {
        path: route_state(path) for _, path, _, _ in rows
    }
    assert {path for _, path, _, _ in rows} == {*ROUTES, *CLOSED_ROUTES}


@pytest.mark.parametrize("route", ROUTES)
def test_the_page_says_of_each_parameter_what_the_list_says(route: str) -> None:
    rows = dict(_ROW.findall(section(f"Parameters of {route}")))
    assert rows == {name: parameter_state(route, name) for name in rows}
    # The others are for clients of OpenAI, whose names vLLM does not have.
    assert (OPEN[route] | OPENED[route].keys()) - rows.keys() <= DROPPED


def test_the_page_says_what_is_never_given() -> None:
    rows = dict(_ROW.findall(section("Arguments and load formats that are never given")))
    formats = {f"--load-format {name}": why for name, why in modes.CLOSED_LOAD_FORMATS.items()}
    assert rows == modes.CLOSED_ARGUMENTS | formats
    assert all(
        f"`{name}`" in section("Variables of the environment") for name in modes.CLOSED_VARIABLES
    )


def test_the_page_names_each_surface() -> None:
    text = PAGE.read_text(encoding="utf-8").partition(surfaces.BEGIN)[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE) == [str(s) for s in Surface]


def test_what_is_closed_is_not_open() -> None:
    assert not ROUTES.keys() & CLOSED_ROUTES.keys()
    for route in ROUTES:
        assert not OPEN[route] & OPENED[route].keys()
    assert not CLOSED.keys() & DROPPED


def nothing() -> dict[str, Any]:
    return {
        "routes": [],
        "parameters": {},
        "members": {},
        "arguments": list(modes.CLOSED_ARGUMENTS),
        "load_formats": list(modes.CLOSED_LOAD_FORMATS),
        "variables": list(modes.CLOSED_VARIABLES),
    }


NEW: dict[str, tuple[str, Any, str]] = {
    "a route": ("routes", [["POST", "/v1/weights"]], "route POST /v1/weights"),
    "a parameter": ("parameters", {CHAT: ["peek"]}, f"parameter peek of {CHAT}"),
    "a member": ("members", {"messages": ["video"]}, "member video of messages"),
    "an argument": ("arguments", ["--weight-mirror"], "argument --weight-mirror"),
    "a load format": ("load_formats", ["p2p"], "load format p2p"),
}


@pytest.mark.parametrize("what", NEW)
def test_what_is_new_is_named(what: str) -> None:
    name, value, words = NEW[what]
    facts = nothing()
    assert surfaces.new(facts, facts) == []
    facts[name] = [*facts[name], *value] if isinstance(value, list) else value
    assert surfaces.new({"routes": []}, facts) == [words]


def test_what_is_gone_is_named() -> None:
    facts = nothing()
    facts["arguments"].remove("--enable-lora")
    facts["variables"].remove("VLLM_PLUGINS")
    gone = ["--enable-lora does not exist any more", "VLLM_PLUGINS does not exist any more"]
    assert surfaces.new(facts, facts) == gone


# With vLLM itself.


@cache
def facts(kind: str) -> dict[str, Any]:
    return surfaces.ask(kind)


@pytest.mark.slow
@needs_vllm
def test_everything_of_the_installed_version_is_classified() -> None:
    started, everything = facts(surfaces.STARTED), facts(surfaces.EVERYTHING)
    assert surfaces.new(started, everything) == []
    text = PAGE.read_text(encoding="utf-8")
    assert surfaces.page(text, surfaces.table(started, everything)) == text
    # As the runtime starts it, nothing that moves weights or runs code exists at all.
    there = {path for _, path in started["routes"]}
    assert {path for _, path in everything["routes"]} > there
    for reason in ("moves or replaces weights", "shows what the weights are", "runs methods"):
        assert not [p for p in there if CLOSED_ROUTES.get(p, "").startswith(reason)]


@pytest.mark.slow
@needs_vllm
def test_the_parser_of_vllm_reads_the_arguments_as_they_are_meant() -> None:
    parsed = facts(surfaces.STARTED)["parsed"]
    assert parsed.pop("served_model_name") in ("--enable-lora", ["--enable-lora"])
    assert parsed.pop("load_format") == "regalia"
    assert parsed.pop("uds") == "/nonexistent/api"
    assert parsed.pop("model_loader_extra_config") == {"channel": "/nonexistent/channel"}
    assert set(map(str, parsed.values())) <= {"None", "False", ""}, parsed


BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "a"}]},
    COMPLETIONS: {"prompt": "a"},
    EMBEDDINGS: {"input": "a"},
    TOKENIZE: {"prompt": "a"},
    DETOKENIZE: {"tokens": [1]},
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def disguises(path: str) -> list[str]:
    """Ways of writing a path that some server may take for it."""
    path = re.sub(r"\{[^}]*\}", "x", path)
    prefixes = ("/", "/.", "/x/..", "/v1/..", "/v1/models/..", "/v1/chat/completions/../../..")
    return [
        path,
        *(prefix + path for prefix in prefixes),
        *(f"/{dots}{path}" for dots in ("%2e%2e", "%2E", "..%2f", "%2f", "..;")),
        path.replace("/", "//"),
        path.replace("/", "%2f"),
        path + "/",
        path + "/.",
        path + "%00",
        path + ";a=b",
        path.upper(),
        f"http://engine{path}",
        f"//engine{path}",
        f"/v1/models/{path}",
        f"{CHAT}{path}",
    ]


@pytest.mark.slow
@needs_vllm
def test_no_route_of_vllm_is_passed_on_but_those_of_the_list() -> None:
    found = [*facts(surfaces.STARTED)["routes"], *facts(surfaces.EVERYTHING)["routes"]]
    paths = sorted({path for _, path in found})
    assert len(paths) > 60
    engine, tried = FakeEngine(), 0

    async def run() -> None:
        nonlocal tried
        guard = Guard(frozenset(Surface), Controls(()))
        async with proxied(engine, guard=guard) as (app, _):
            for path, method in itertools.product(paths, METHODS):
                for written in disguises(path):
                    body = BODIES.get(path, {}) | {"model": "tiny"}
                    before = len(engine.asked)
                    answer = await call(app, method, written, surfaces.json.dumps(body).encode())
                    tried += 1
                    passes = path in ROUTES and method == "POST" and written == path
                    assert len(engine.asked) == before + passes, (method, written)
                    assert not passes or answer.status == 200

    asyncio.run(run())
    assert tried > 10_000
    assert {(asked.method, asked.target) for asked in engine.asked} == {
        ("POST", route) for route in ROUTES
    }
