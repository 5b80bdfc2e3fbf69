"""Adapters that the measured configuration merges: none is accepted by silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.errors import ParseError
from regalia.core.types import ModelId
from regalia.policy.documents import parse_client_policy, parse_release_policy
from regalia.policy.explain import explain_verdict
from regalia.policy.pin import _adapters
from regalia.policy.verdict import Deny
from regalia.wire.runtime_config import parse_runtime_config

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario

ONE, OTHER = f"model:{'ad' * 32}", f"model:{'ae' * 32}"


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
    ("merged", "accepted", "allowed"),
    [
        (msgspec.UNSET, msgspec.UNSET, True),
        (msgspec.UNSET, [], True),
        (msgspec.UNSET, [ONE], True),
        (ONE, [ONE], True),
        (ONE, [OTHER, ONE], True),
        (ONE, "any", True),
        (ONE, msgspec.UNSET, False),
        (ONE, [], False),
        (ONE, [OTHER], False),
    ],
)
def test_only_accepted_adapters_may_be_merged(
    scenario: PolicyScenario,
    merged: object,
    accepted: object,
    allowed: bool,  # noqa: FBT001
) -> None:
    asked = scenario.configure("adapter", merged).demand("runtime.adapters", accepted)
    assert codes(asked) == ([] if allowed else [PolicyCode.ADAPTER_DENIED])


def test_a_policy_for_an_adapter_accepts_it_and_no_other(scenario: PolicyScenario) -> None:
    """Its subject is the adapter, and the runtime is configured for the base."""
    subject = scenario.policy.model.id
    inside = scenario.configure("model_id", OTHER).configure("adapter", subject)
    assert codes(inside) == []
    assert codes(scenario.configure("model_id", OTHER)) == [PolicyCode.MODEL_MISMATCH]
    wrong = scenario.configure("model_id", OTHER).configure("adapter", ONE)
    assert codes(wrong) == [PolicyCode.MODEL_MISMATCH, PolicyCode.ADAPTER_DENIED]


def test_the_verdict_names_it(scenario: PolicyScenario) -> None:
    verdict = scenario.configure("adapter", ONE).demand("runtime.adapters", [OTHER]).verdict()
    text = "\n".join(explain_verdict(verdict))
    assert f"merges {ONE} into the model; accepted: {OTHER}" in text


def test_policies_without_it_are_the_same_bytes(scenario: PolicyScenario) -> None:
    assert b"adapters" not in scenario.policy.encode()
    named = scenario.demand("runtime.adapters", [ONE])
    assert parse_release_policy(named.policy.encode()) == named.policy
    assert parse_client_policy(named.client_policy().encode()) == named.client_policy()


@pytest.mark.parametrize("word", ["tuned", ONE.upper(), f"seal:{'ad' * 32}", ""])
def test_entries_are_model_ids(scenario: PolicyScenario, word: str) -> None:
    policy = scenario.demand("runtime.adapters", [word]).policy
    with pytest.raises(ParseError, match=r"runtime\.adapters"):
        parse_release_policy(policy.encode())


def test_pinning_names_adapters_but_not_the_policys_subject(scenario: PolicyScenario) -> None:
    config = scenario.configure("adapter", ONE).config
    assert _adapters(config, ModelId.parse(OTHER)) == [ONE]
    assert _adapters(config, ModelId.parse(ONE)) is msgspec.UNSET
    assert _adapters(scenario.config, ModelId.parse(ONE)) is msgspec.UNSET


def test_the_configuration_is_read_as_it_was_written(scenario: PolicyScenario) -> None:
    config = scenario.configure("adapter", ONE).config
    assert parse_runtime_config(config.encode()) == config
    assert config.adapters == (ONE,)
    assert b"adapter" not in scenario.config.encode()
