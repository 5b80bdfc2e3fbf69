"""``regalia chat``: what it shows, what it refuses, with which exit status."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.cli.main import run
from regalia.client.chat import ChatClient, Message, printable
from regalia.core.errors import ParseError, UnavailableError
from regalia.wire.serving import EVIDENCE_PATH, SEALED_PATH
from regalia_testing.policy_scenario import PolicyScenario
from regalia_testing.tees.snp.defects import SnpDefects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.core.errors import RegaliaError

NEEDLE = "the prompt that nobody else may read"
WORDS = "Gold and jewels."


@pytest.fixture
def args(live: tuple[object, str], policy_file: Path) -> list[str]:
    relay, address = live
    folder = relay.runtime.platform.collateral_directory
    return [
        *("chat", "--url", address, "--policy", str(policy_file)),
        *("--collateral", str(folder)),
        *("--dangerous-simulated-anchor", str(folder / "ark.der")),
    ]


def test_once(args: list[str], live: tuple[object, str], capsys: pytest.CaptureFixture) -> None:
    assert run([*args, "--once", NEEDLE]) == 0
    out, err = capsys.readouterr()
    assert out == WORDS + "\n"
    for shown in ("SIMULATED", "Genoa", "22" * 20, "model version", "log entry", "placement.sites"):
        assert shown in err
    relay, _ = live
    assert relay.paths() == [EVIDENCE_PATH, SEALED_PATH, SEALED_PATH]
    assert NEEDLE.encode() not in relay.everything()
    assert json.loads(relay.runtime.requests[1].body)["model"] == "crown"


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_an_id_is_broken_nowhere(
    width: int, args: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on a terminal of any width, nor in a pipe, whatever the width is said to be."""
    monkeypatch.setenv("COLUMNS", str(width))
    for terminal in ("1", ""):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        assert run([*args, "--once", NEEDLE]) == 0
        shown = capsys.readouterr().err
        assert "22" * 48 in shown
        assert re.search(r"\bmodel:[0-9a-f]{64}\b", shown)
        assert len(re.findall(r"\bkey:[0-9a-f]{64}\b", shown)) == 2


def test_json(args: list[str], live: tuple[object, str], capsys: pytest.CaptureFixture) -> None:
    relay, _ = live
    assert run([*args, "--once", NEEDLE, "--json", "--model", "mine"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["answer"], shown["model"]) == (True, WORDS, "mine")
    verified = shown["verified"]
    assert verified["hardware"] == "simulated"
    assert verified["measurement"] == "22" * 48
    assert verified["model_version"] == 3
    assert verified["release"]["index"] == relay.runtime.proof.index
    assert verified["chip_id"] == relay.runtime.platform.hwid.hex()
    assert "placement.sites" in verified["left_open"]
    assert relay.paths() == [EVIDENCE_PATH, SEALED_PATH]


def test_standard_input(
    args: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(NEEDLE.encode())))
    assert run(args) == 0
    assert capsys.readouterr().out == WORDS + "\n"


@pytest.mark.parametrize("given", [b"", b" \n", b"\xff\xfe", b"x" * ((1 << 20) + 1)])
def test_no_question(
    args: list[str],
    live: tuple[object, str],
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    given: bytes,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert run(args) == 2
    assert "the question" in capsys.readouterr().err
    assert live[0].seen == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def say(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    waiting: Iterator[str] = iter(lines)

    def read(_: str) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", read)


def test_talk(
    args: list[str],
    live: tuple[object, str],
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    say(monkeypatch, "Hello", "", "And then?", "/quit", "never asked")
    assert run(args) == 0
    out = capsys.readouterr().out
    assert out.index("Verified before anything was sent") < out.index(f"crown> {WORDS}")
    bodies = [json.loads(request.body) for request in live[0].runtime.requests[1:]]
    assert [[turn["content"] for turn in body["messages"]] for body in bodies] == [
        ["Hello"],
        ["Hello", WORDS, "And then?"],
    ]


def test_a_damaged_answer_is_forgotten(
    args: list[str],
    live: tuple[object, str],
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay, _ = live
    turns: list[int] = []

    def attack(pieces: list[bytes]) -> list[bytes]:
        turns.append(1)
        return pieces[:4] if len(turns) == 2 else pieces  # the first is the list of models

    relay.on_answer = attack
    say(monkeypatch, "one", "two")
    assert run(args) == 0
    assert "OHTTP_TRUNCATED" in capsys.readouterr().err
    last = json.loads(relay.runtime.requests[-1].body)
    assert [turn["content"] for turn in last["messages"]] == ["two"]


def test_json_and_a_terminal(
    args: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch)
    assert run([*args, "--json"]) == 2
    assert "BAD_USAGE" in capsys.readouterr().out


@pytest.mark.parametrize(
    "refusal",
    [
        (SnpDefects(bad_signature=True), 5, "SIGNATURE_INVALID"),
        (SnpDefects(debug=True), 6, "DEBUG_ENABLED"),
    ],
    ids=["not_genuine", "not_acceptable"],
)
def test_refused_runtime(
    args: list[str],
    live: tuple[object, str],
    capsys: pytest.CaptureFixture,
    refusal: tuple[SnpDefects, int, str],
) -> None:
    relay, _ = live
    relay.runtime.defects, status, code = refusal
    assert run([*args, "--once", NEEDLE]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert code in err
    assert run([*args, "--once", NEEDLE, "--json"]) == status
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert relay.paths() == [EVIDENCE_PATH] * 2
    assert NEEDLE.encode() not in relay.everything()


def test_all_reasons_are_printed(
    args: list[str], live: tuple[object, str], capsys: pytest.CaptureFixture
) -> None:
    live[0].runtime.defects = SnpDefects(debug=True, vmpl=1, missing_alias_check=True)
    assert run([*args, "--once", NEEDLE]) == 6
    err = capsys.readouterr().err
    for code in ("DEBUG_ENABLED", "VMPL_MISMATCH", "PLATFORM_FLAG_MISSING"):
        assert code in err


def test_cut_answer(
    args: list[str], live: tuple[object, str], capsys: pytest.CaptureFixture
) -> None:
    live[0].on_answer = lambda pieces: pieces[:-1]
    assert run([*args, "--once", NEEDLE, "--model", "crown"]) == 4
    assert "OHTTP_TRUNCATED" in capsys.readouterr().err


def test_no_proof_in_the_log(
    args: list[str], live: tuple[object, str], capsys: pytest.CaptureFixture
) -> None:
    live[0].runtime.proof = None
    assert run([*args, "--once", NEEDLE]) == 10
    assert "RELEASE_PROOF_MISSING" in capsys.readouterr().err


def test_unreachable(args: list[str], capsys: pytest.CaptureFixture) -> None:
    args[2] = "http://127.0.0.1:9"
    assert run([*args, "--once", NEEDLE]) == 8
    assert "PEER_UNREACHABLE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("position", "value", "status"),
    [(2, "nonsense", 3), (4, "/nonexistent", 9), (6, "/nonexistent", 9), (8, "/nonexistent", 9)],
    ids=["url", "policy", "collateral", "anchor"],
)
def test_bad_arguments(
    args: list[str], capsys: pytest.CaptureFixture, position: int, value: str, status: int
) -> None:
    args[position] = value
    assert run([*args, "--once", NEEDLE]) == status
    assert "Traceback" not in capsys.readouterr().err


def test_simulation_is_not_the_default(args: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run([*args[:7], "--once", NEEDLE]) == 2
    assert "DANGEROUS_NOT_ALLOWED" in capsys.readouterr().err


# The chat client on its own -------------------------------------------------------------------


def chat_client(body: bytes, status: int = 200) -> ChatClient:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    return ChatClient(httpx.Client(transport=transport), "http://h/")


def said(body: bytes, status: int = 200) -> str:
    return "".join(chat_client(body, status).stream("m", [Message("user", "x")]))


def test_events() -> None:
    one = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    role = b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n'
    usage = b'data: {"choices":[],"usage":{}}\n\n: comment\n\n'
    assert said(role + one + one + usage + b"data: [DONE]\n\n") == "aa"


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', 200, ParseError),
        (b"data: {\n\n", 200, ParseError),
        (b"data: " + b"x" * (1 << 21), 200, ParseError),
        (b'data: {"error":{"message":"overloaded"}}\n\n', 200, UnavailableError),
        (b'{"error":{"message":"no model","code":"model_not_found"}}', 404, UnavailableError),
        (b"<html>", 500, UnavailableError),
    ],
)
def test_bad_events(body: bytes, status: int, kind: type[RegaliaError]) -> None:
    with pytest.raises(kind):
        said(body, status)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [(b"[]", 200, ParseError), (b"x" * (9 << 20), 200, ParseError), (b"{}", 503, UnavailableError)],
    ids=["list", "large", "unavailable"],
)
def test_bad_models(body: bytes, status: int, kind: type[RegaliaError]) -> None:
    with pytest.raises(kind):
        chat_client(body, status).models()


def test_a_model_does_not_steer_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\tc\n\u202e") == "a[31mb\tc\n"


def test_a_policy_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The refusal names the file and what it is."""
    chat = ["chat", "--url", "http://127.0.0.1:1", "--once", "hello", "--policy"]
    release = tmp_path / "release.json"
    release.write_bytes(PolicyScenario().policy.encode())
    section = tmp_path / "section.json"
    section.write_bytes(PolicyScenario().policy.platform.encode())
    for path, kind in ((release, "release policy"), (section, "platform section")):
        assert run([*chat, str(path)]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"{path} is a {kind}, and chat takes a client policy" in said
    empty = tmp_path / "empty.json"
    empty.write_bytes(b"")
    for command in ([*chat, str(empty)], ["policy", "check", str(empty)]):
        assert run(command) == 3
        assert str(empty) in capsys.readouterr().err
