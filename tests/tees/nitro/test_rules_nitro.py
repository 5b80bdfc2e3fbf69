"""The Nitro section: what its rules accept, pinning, conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import MINT, Revocation
from regalia.core.errors import ParseError
from regalia.policy.documents import parse_release_policy
from regalia.policy.pin import pin_client, pin_release
from regalia_testing.tees.nitro.policy import INSTANCE, NITRO, nitro_scenario, register
from tests.policy.choices import owner_choices

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario


@pytest.fixture
def scenario() -> PolicyScenario:
    return nitro_scenario()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_no_policy_accepts_debug_mode(scenario: PolicyScenario, index: int) -> None:
    open_section = scenario
    for name in ("pcr1", "pcr2", "pcr3", "pcr16", "instances"):
        open_section = open_section.demand(f"{NITRO}.{name}", "any")
    listed = register(index, bytes(48))(open_section.demand(f"{NITRO}.pcr0", "any"))
    assert listed.codes() == ["DEBUG_ENABLED"]


def test_the_signer_takes_the_place_of_the_image(scenario: PolicyScenario) -> None:
    signed = scenario.demand(f"{NITRO}.pcr0", "any")
    assert signed.codes() == []
    assert register(8, b"\xee" * 48)(signed).codes() == ["IMAGE_SIGNER_UNKNOWN"]


def test_limits_belong_to_what_is_accepted(scenario: PolicyScenario) -> None:
    assert scenario.attest(age_ms=60_000).codes() == []
    assert scenario.attest(age_ms=0).codes() == []


def test_revocation_may_be_left_unknown(scenario: PolicyScenario) -> None:
    opened = scenario.demand(f"{NITRO}.revocation", "any")
    assert opened.attest(revocation=Revocation.UNKNOWN).codes() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pcr0", ["10" * 47]),
        ("pcr0", ["AB" * 48]),
        ("pcr0", ["10" * 48, "10" * 48]),
        ("pcr8", ["x"]),
        ("instances", ["any"]),
        ("instances", [""]),
        ("document_max_age_s", 0),
        ("document_max_age_s", 10_801),
        ("revocation", "checked"),
    ],
)
def test_documents_that_are_not_well_formed(
    scenario: PolicyScenario, field: str, value: object
) -> None:
    broken = scenario.demand(f"{NITRO}.{field}", value)
    with pytest.raises(ParseError):
        parse_release_policy(broken.policy.encode())
    parse_release_policy(scenario.policy.encode())


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        (f"claims.nitro.instance == '{INSTANCE}'", None),
        ("claims.nitro.age_ms < 2000", None),
        (f"claims.nitro.pcrs.pcr4 == '{'14' * 48}'", None),
        ("claims.nitro.pcrs.pcr31 == ''", None),
        ("claims.nitro.module_id.startsWith('i-0')", None),
        ("claims.nitro.age_ms < 10", "CONDITION_FALSE"),
        ("claims.vmpl == 0", "CONDITION_ERROR"),
        ("claims.nitro.pcrs.pcr32 == ''", "CONDITION_ERROR"),
    ],
)
def test_conditions(scenario: PolicyScenario, condition: str, code: str | None) -> None:
    assert scenario.demand("conditions", [condition]).codes() == ([code] if code else [])


@pytest.mark.parametrize("pins", [(True, True), (True, False), (False, True), (False, False)])
def test_a_pinned_policy_accepts_what_it_was_pinned_from(
    scenario: PolicyScenario, pins: tuple[bool, bool]
) -> None:
    pin_chip, pin_host_data = pins
    chosen = owner_choices(scenario, pin_chip=pin_chip, pin_host_data=pin_host_data)
    policy = pin_release(scenario.claims, scenario.config, chosen, now=scenario.context().now)
    assert policy.platform.snp is None
    section = policy.platform.nitro
    assert section is not None
    assert (section.instances == "any") == (not pin_chip)
    assert (section.pcr16 == "any") == (not pin_host_data)
    pinned = replace(scenario, policy=policy, approvals=frozenset())
    assert pinned.codes() == []
    for index in (0, 1, 2, 8):
        assert register(index, b"\xee" * 48)(pinned).codes()
    pin_client(scenario.claims, scenario.config, chosen, now=scenario.context().now)


def test_an_unsigned_image_is_pinned_by_what_it_is(scenario: PolicyScenario) -> None:
    unsigned = register(8, bytes(48))(scenario)
    policy = pin_release(
        unsigned.claims, scenario.config, owner_choices(scenario), now=scenario.context().now
    )
    assert policy.platform.nitro is not None
    assert policy.platform.nitro.pcr8 == "any"


def test_minted_claims_only(scenario: PolicyScenario) -> None:
    with pytest.raises(TypeError):
        replace(scenario.claims, mint=object())
    replace(scenario.claims, mint=MINT)
