"""Surfaces of the engine that the measured configuration opens: nothing is open by silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.errors import CoreCode, ParseError
from regalia.inspect.decoded_fields import decoded_fields
from regalia.inspect.recognize import recognize
from regalia.policy.documents import parse_client_policy, parse_release_policy, wildcards
from regalia.policy.draft import new_release
from regalia.policy.explain import explain_policy, explain_verdict, statements
from regalia.policy.signed import read_draft
from regalia.policy.verdict import Allow, Deny
from regalia.wire.evidence import Tee
from regalia.wire.runtime_config import OPENS_MAX, parse_runtime_config
from regalia_testing.policy_scenario import PolicyScenario

if TYPE_CHECKING:
    from tests.policy.commands import PolicyTestbed

TWO = ["logit-bias", "logprobs"]


def codes(scenario: PolicyScenario) -> list[PolicyCode]:
    """Reasons of both verdicts, which agree."""
    verdicts = scenario.verdict(), scenario.client_verdict()
    found = [
        [each.code for each in verdict.reasons] if isinstance(verdict, Deny) else []
        for verdict in verdicts
    ]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    ("opens", "accepted", "allowed"),
    [
        (msgspec.UNSET, msgspec.UNSET, True),
        (msgspec.UNSET, [], True),
        (msgspec.UNSET, TWO, True),
        (msgspec.UNSET, "any", True),
        (TWO, TWO, True),
        (TWO, [*reversed(TWO), "tokenize"], True),
        (TWO, "any", True),
        (TWO, msgspec.UNSET, False),
        (TWO, [], False),
        (TWO, ["logprobs"], False),
        (["logprobs"], ["logprob"], False),
        (["logprobs"], ["Logprobs"], False),
        (["any"], ["logprobs"], False),
    ],
)
def test_only_accepted_surfaces_may_be_open(
    scenario: PolicyScenario,
    opens: object,
    accepted: object,
    allowed: bool,  # noqa: FBT001
) -> None:
    asked = scenario.configure("opens", opens).demand("runtime.opens", accepted)
    assert codes(asked) == ([] if allowed else [PolicyCode.SURFACE_DENIED])


def test_the_verdict_names_them(scenario: PolicyScenario) -> None:
    verdict = scenario.configure("opens", TWO).demand("runtime.opens", ["tokenize"]).verdict()
    text = "\n".join(explain_verdict(verdict))
    assert "the engine opens logit-bias, logprobs; accepted: tokenize" in text


def test_any_shows_in_verdicts_and_explanations(scenario: PolicyScenario) -> None:
    asked = scenario.configure("opens", TWO).demand("runtime.opens", "any")
    verdict = asked.verdict()
    assert isinstance(verdict, Allow)
    assert "runtime.opens" in verdict.wildcards
    assert "runtime.opens" in wildcards(asked.client_policy())
    assert any(
        line.startswith("OPEN runtime.opens = any: ") for line in explain_policy(asked.policy)
    )


@pytest.mark.parametrize("value", [msgspec.UNSET, []])
def test_silence_is_explained_as_nothing(scenario: PolicyScenario, value: object) -> None:
    policy = scenario.demand("runtime.opens", value).policy
    (said,) = [each for each in statements(policy) if each.path == "runtime.opens"]
    assert (said.value, said.risk) == ("[]", None)
    assert said.says == "The workload's configuration may open no surface of the engine."


def test_policies_without_it_are_the_same_bytes(scenario: PolicyScenario) -> None:
    data = scenario.policy.encode()
    assert b"opens" not in data
    assert parse_release_policy(data) == scenario.policy
    opened = scenario.demand("runtime.opens", TWO)
    assert parse_release_policy(opened.policy.encode()) == opened.policy
    assert parse_client_policy(opened.client_policy().encode()) == opened.client_policy()
    assert opened.policy.policy_id() != scenario.policy.policy_id()


def test_conditions_speak_of_it(scenario: PolicyScenario) -> None:
    asked = scenario.configure("opens", ["logprobs"]).demand("runtime.opens", "any")
    for source, allowed in (
        ("config.opens.size() == 1", True),
        ("'logprobs' in config.opens", True),
        ("'logit-bias' in config.opens", False),
    ):
        assert codes(asked.demand("conditions", [source])) == (
            [] if allowed else [PolicyCode.CONDITION_FALSE]
        )
    assert codes(scenario.demand("conditions", ["config.opens.size() == 0"])) == []


def test_a_draft_accepts_none_and_says_where_names_are() -> None:
    draft = read_draft(new_release([Tee.SEV_SNP]))
    assert draft.runtime.surfaces == []
    assert b"engine-surfaces.md" in new_release([Tee.SEV_SNP])


# The configuration


def parsed(scenario: PolicyScenario, opens: object) -> tuple[str, ...]:
    document = json.loads(scenario.config.encode()) | {"opens": opens}
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    config = parse_runtime_config(data)
    assert config.encode() == data
    return config.surfaces


@pytest.mark.parametrize(
    "opens", [["a"], TWO, ["a0", "a1"], ["x" * 64], [f"s{n:02}" for n in range(32)]]
)
def test_surfaces_that_are_read(scenario: PolicyScenario, opens: list[str]) -> None:
    assert parsed(scenario, opens) == tuple(opens)
    assert len(opens) <= OPENS_MAX


@pytest.mark.parametrize(
    "opens",
    [
        [],
        [""],
        ["a", "a"],
        ["b", "a"],
        ["A"],
        ["0"],
        ["-a"],
        ["a_b"],
        ["a b"],
        ["a\n"],
        ["é"],
        ["ａ"],  # noqa: RUF001
        ["a\u0000"],
        ["x" * 65],
        [f"s{n:02}" for n in range(33)],
        ["a", None],
        [["a"]],
        [1],
        "logprobs",
        None,
        {"logprobs": True},
        True,
    ],
)
def test_surfaces_that_are_refused(scenario: PolicyScenario, opens: object) -> None:
    with pytest.raises(ParseError) as caught:
        parsed(scenario, opens)
    assert caught.value.code is CoreCode.MALFORMED
    assert len(caught.value.what) < 300


@given(st.lists(st.sampled_from(["a", "b", "logprobs", "x-1"]), max_size=5))
def test_there_is_one_list_for_each_set(words: list[str]) -> None:
    scenario = PolicyScenario()
    if words and words == sorted(set(words)):
        assert parsed(scenario, words) == tuple(words)
    else:
        with pytest.raises(ParseError):
            parsed(scenario, words)


# The commands


def test_pin_takes_what_the_evidence_opens_and_says_so(testbed: PolicyTestbed) -> None:
    source = testbed.write("open.cbor", testbed.evidence(opens=TWO).encode())
    body = testbed.json(
        *testbed.pin("--client-out", testbed.path("client.json"), source=source, out="open.json")
    )
    assert body["opens"] == TWO
    assert read_draft((testbed.folder / "open.json").read_bytes()).runtime.opens == TWO
    client = parse_client_policy((testbed.folder / "client.json").read_bytes())
    assert client.runtime.opens == TWO
    status, out, _ = testbed.run(*testbed.pin(source=source, out="again.json"))
    assert status == 0
    assert "engine opens" in out
    assert "logit-bias, logprobs" in out
    assert "engine opens" not in testbed.run(*testbed.pin(out="closed.json"))[1]
    closed = read_draft((testbed.folder / "closed.json").read_bytes())
    assert closed.runtime.opens is msgspec.UNSET


def test_inspecting_evidence_shows_it(testbed: PolicyTestbed) -> None:
    shown = decoded_fields(recognize(testbed.evidence(opens=TWO).encode()))
    assert '"opens":["logit-bias","logprobs"]' in str(shown["runtime configuration"])
