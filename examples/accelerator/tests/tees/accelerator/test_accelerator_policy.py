"""The accelerator's section: documents that are not well-formed, and conditions.

Its defects, its empty lists and pinning are tested with those of every TEE, by the table RULES.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import ParseError
from regalia.policy.documents import parse_release_policy
from regalia_testing.tees.accelerator.policy import ACCELERATOR, accelerator_scenario

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario


@pytest.fixture
def scenario() -> PolicyScenario:
    return accelerator_scenario()


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
