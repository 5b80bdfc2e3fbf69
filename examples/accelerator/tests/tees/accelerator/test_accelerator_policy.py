"""The accelerator's section: one defect for each rule, pinning, conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import ParseError
from regalia.core.types import KeyFingerprint
from regalia.policy.documents import parse_release_policy
from regalia.policy.pin import OwnerChoices, pin_client, pin_release
from regalia.policy.verdict import Allow, Deny
from regalia_testing.tees.accelerator.policy import (
    ACCELERATOR,
    ACCELERATOR_DEFECTS,
    accelerator_scenario,
)

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario


@pytest.fixture
def scenario() -> PolicyScenario:
    return accelerator_scenario()


def test_the_scene_itself_is_allowed(scenario: PolicyScenario) -> None:
    verdict = scenario.verdict()
    assert isinstance(verdict, Allow), verdict
    assert verdict.wildcards == ()
    assert isinstance(scenario.client_verdict(), Allow)


@pytest.mark.parametrize("name", ACCELERATOR_DEFECTS)
def test_one_defect_gives_its_code_and_no_other(scenario: PolicyScenario, name: str) -> None:
    code, defect = ACCELERATOR_DEFECTS[name]
    verdict = defect(scenario).verdict()
    assert isinstance(verdict, Deny)
    assert [each.code.name for each in verdict.reasons] == [code]


@pytest.mark.parametrize("field", ["measurements", "configs", "chip_ids"])
def test_an_empty_list_denies(scenario: PolicyScenario, field: str) -> None:
    assert scenario.demand(f"{ACCELERATOR}.{field}", []).codes() == ["EMPTY_RULE"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("measurements", ["10" * 47]),
        ("measurements", ["AB" * 48]),
        ("measurements", ["10" * 48, "10" * 48]),
        ("chip_ids", ["any"]),
        ("firmware_minimum", -1),
        ("revocation", "checked"),
    ],
)
def test_documents_that_are_not_well_formed(
    scenario: PolicyScenario, field: str, value: object
) -> None:
    parse_release_policy(scenario.policy.encode())
    with pytest.raises(ParseError):
        parse_release_policy(scenario.demand(f"{ACCELERATOR}.{field}", value).policy.encode())


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("claims.accelerator.firmware >= 7", None),
        ("claims.accelerator.debug == false", None),
        (f"claims.accelerator.chip_id == '{'44' * 32}'", None),
        ("claims.accelerator.firmware > 7", "CONDITION_FALSE"),
        ("claims.nitro.age_ms < 10", "CONDITION_ERROR"),
    ],
)
def test_conditions(scenario: PolicyScenario, condition: str, code: str | None) -> None:
    assert scenario.demand("conditions", [condition]).codes() == ([code] if code else [])


@pytest.mark.parametrize("pin_chip", [True, False])
@pytest.mark.parametrize("pin_config", [True, False])
def test_a_pinned_policy_accepts_what_it_was_pinned_from(
    scenario: PolicyScenario, *, pin_chip: bool, pin_config: bool
) -> None:
    chosen = OwnerChoices(
        name="pinned",
        version=1,
        model_id=scenario.model_id,
        model_version_minimum=7,
        owner_key=KeyFingerprint.parse(scenario.config.owner_key),
        challenge_max_age_s=60,
        holders_max=1,
        lease_s=600,
        custody=("broker",),
        approvals_threshold=0,
        approvers=(),
        pin_chip=pin_chip,
        pin_host_data=pin_config,
    )
    policy = pin_release(scenario.claims, scenario.config, chosen, now=scenario.context().now)
    pinned = scenario.ask(policy=policy, approvals=frozenset())
    assert pinned.codes() == []
    section = policy.platform.accelerator
    assert section is not None
    assert (section.chip_ids == "any") == (not pin_chip)
    assert (section.configs == "any") == (not pin_config)
    for name in ("program", "firmware", "debug"):
        code, defect = ACCELERATOR_DEFECTS[name]
        assert code in defect(pinned).codes()
    assert bool(pinned.attest(chip_id=b"\x45" * 32).codes()) == pin_chip
    pin_client(scenario.claims, scenario.config, chosen, now=scenario.context().now)
