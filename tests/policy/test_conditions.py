"""Conditions: what is not plainly true denies, what is not plainly decidable is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import ParseError
from regalia.policy.condition_fields import (
    CLIENT_FIELDS,
    RELEASE_FIELDS,
    claim_values,
    release_values,
)
from regalia.policy.condition_grammar import (
    DEPTH_MAX,
    NUMBER_MAX,
    PATTERN_LENGTH_MAX,
    TOKENS_MAX,
    check_condition,
)
from regalia.policy.conditions import TEXT_MAX, check_conditions
from regalia.policy.documents import EXPRESSION_MAX
from regalia.policy.verdict import Allow, Deny
from regalia_testing.policy_scenarios import POLICY_SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraisal.condition_types import Fields, Kind
    from regalia_testing.policy_scenario import PolicyScenario

# Hand-written. What is refused is refused before evaluation; much of it CEL itself calls true.
CONDITIONS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "policy" / "conditions.json").read_bytes()
)
TRUE, FALSE, REFUSED = CONDITIONS["true"], CONDITIONS["false"], CONDITIONS["refused"]


@pytest.mark.parametrize("source", TRUE)
def test_true(scenario: PolicyScenario, source: str) -> None:
    verdict = scenario.demand("conditions", [source]).verdict()
    assert isinstance(verdict, Allow), verdict


@pytest.mark.parametrize("source", FALSE)
def test_false_denies(scenario: PolicyScenario, source: str) -> None:
    assert scenario.demand("conditions", [source]).codes() == ["CONDITION_FALSE"]


def test_a_client_is_held_to_its_conditions_too(scenario: PolicyScenario) -> None:
    assert isinstance(scenario.demand("conditions", ["claims.vmpl == 0"]).client_verdict(), Allow)
    denied = scenario.demand("conditions", ["claims.vmpl == 1"]).client_verdict()
    assert isinstance(denied, Deny)
    assert [reason.code.name for reason in denied.reasons] == ["CONDITION_FALSE"]


@pytest.mark.parametrize("name", REFUSED)
def test_undecidable_denies(scenario: PolicyScenario, name: str) -> None:
    bad = scenario.demand("conditions", [REFUSED[name]])
    assert bad.codes() == ["CONDITION_ERROR"]
    with pytest.raises(ParseError) as caught:
        check_conditions(bad.policy)
    assert caught.value.code.name == "CONDITION_ERROR"
    assert caught.value.what.startswith("conditions[0], ")


def test_the_same_without_the_check_would_pass() -> None:
    """Why the check is there: CEL itself says true to some of what is refused above."""
    import cel  # noqa: PLC0415 - slow to import, and only this test needs it

    values = {"claims": {"vmpl": 0, "product": "Genoa"}}
    for name in ("unknown_field_behind_or", "wrong_type_unequal", "wrong_type_in"):
        assert cel.evaluate(REFUSED[name], values) is True


def test_the_release_part_is_no_business_of_a_client(scenario: PolicyScenario) -> None:
    check_condition("release.active_holders < 1", RELEASE_FIELDS)
    with pytest.raises(ParseError):
        check_condition("release.active_holders < 1", CLIENT_FIELDS)
    with pytest.raises(ParseError):
        check_conditions(
            scenario.demand("conditions", ["release.custody == 'hsm'"]).client_policy()
        )


@pytest.mark.parametrize("make", POLICY_SCENARIOS.values())
def test_fields_and_values_agree(make: Callable[[], PolicyScenario]) -> None:
    """Every documented field of the TEE has a value of its kind, and there is none besides."""
    scenario = make()
    kinds = {"int": int, "text": str, "bool": bool, "list of int": list, "list of text": list}

    def compare(path: str, fields: Kind | Fields, values: object) -> None:
        if isinstance(fields, str):
            assert fields == "time" or type(values) is kinds[fields], path
            return
        assert isinstance(values, dict), path
        left_out = set(fields) - set(values)
        assert set(values) <= set(fields), path
        assert not left_out or path == ".claims", (path, left_out)
        for name, value in values.items():
            compare(f"{path}.{name}", fields[name], value)

    compare("", RELEASE_FIELDS, release_values(scenario.claims, scenario.context()))


def test_every_field_is_of_some_tee() -> None:
    given = [set(claim_values(make().claims)) for make in POLICY_SCENARIOS.values()]
    claims = CLIENT_FIELDS["claims"]
    assert isinstance(claims, Mapping)
    assert set().union(*given) == set(claims)


def test_values_out_of_range_deny(scenario: PolicyScenario) -> None:
    """A number that CEL cannot hold is an error, not a wrapped number."""
    wild = scenario.ask(model_version=2**70).demand("conditions", ["model.version > 0"])
    assert wild.codes() == ["CONDITION_ERROR"]


def test_limits_are_reached_by_what_is_accepted() -> None:
    """Among the accepted expressions are some that are as long, as deep, as large as can be."""
    assert max(map(len, TRUE)) == EXPRESSION_MAX
    assert "(" * DEPTH_MAX + "true" + ")" * DEPTH_MAX in TRUE
    assert "!" * DEPTH_MAX + "true" in TRUE
    assert " || ".join(["true"] * (TOKENS_MAX // 2)) in TRUE
    assert f"claims.guest_svn < {NUMBER_MAX}" in TRUE
    assert f"claims.product.matches('{'a?' * (PATTERN_LENGTH_MAX // 2)}')" in TRUE


def test_a_text_of_any_length_is_refused_at_once(scenario: PolicyScenario) -> None:
    started = time.perf_counter()
    assert scenario.demand("conditions", ["(" * 1_000_000]).codes() == ["CONDITION_ERROR"]
    assert time.perf_counter() - started < 5.0


def test_and_binds_closer_than_or(scenario: PolicyScenario) -> None:
    """As in CEL: true || (false && false)."""
    assert scenario.demand("conditions", ["true || false && false"]).codes() == []
    assert scenario.demand("conditions", ["(true || false) && false"]).codes() == [
        "CONDITION_FALSE"
    ]


def test_the_largest_numbers_are_exact(scenario: PolicyScenario) -> None:
    for version, codes in ((2**63 - 1, []), (2**63, ["CONDITION_ERROR"])):
        big = scenario.ask(model_version=version)
        assert big.demand("conditions", ["model.version == 9223372036854775807"]).codes() == codes


def test_a_failing_library_denies(
    scenario: PolicyScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its panics are no Exception; an interrupt of the process must still get through."""
    import cel  # noqa: PLC0415

    class PanicException(BaseException):
        pass

    errors: tuple[BaseException, ...] = (PanicException("x"), ValueError("y"), MemoryError())
    for error in errors:
        monkeypatch.setattr(cel, "evaluate", _raiser(error))
        assert scenario.demand("conditions", ["true"]).codes() == ["CONDITION_ERROR"]
    monkeypatch.setattr(cel, "evaluate", _raiser(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        scenario.demand("conditions", ["true"]).verdict()
    for odd in (1, "true", None, [True]):
        monkeypatch.setattr(cel, "evaluate", lambda *_, odd=odd: odd)
        assert scenario.demand("conditions", ["true"]).codes() == ["CONDITION_ERROR"]


def _raiser(error: BaseException) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise error

    return fail


def test_the_longest_loop_is_short(scenario: PolicyScenario) -> None:
    """256 addresses and the largest expression that the limits allow: far from a runaway."""
    body = " && ".join(["x != 'evil.example:443'"] * 36)
    source = f"config.egress.all(x, {body})"
    assert len(source) <= 1024
    addresses = [f"host-{n}.example:443" for n in range(256)]
    big = (
        scenario.configure("egress", addresses)
        .demand("runtime.egress", "any")
        .demand("conditions", [source])
    )
    started = time.perf_counter()
    assert big.codes() == []
    assert time.perf_counter() - started < 5.0


def test_the_worst_patterns_are_short(scenario: PolicyScenario) -> None:
    for pattern in (".*" * 64, "(.*.*)*" * 18, "((a|aa|a?)*)*b", "[^a]*" * 25 + "b"):
        slow = scenario.configure("log_key", "a" * TEXT_MAX)
        slow = slow.demand("conditions", [f"config.log_key.matches('{pattern}') || true"])
        started = time.perf_counter()
        assert slow.codes() == ["LOG_KEY_MISMATCH"]
        assert time.perf_counter() - started < 5.0


@pytest.mark.parametrize("path", ["log_key", "placement.tier", "egress"])
def test_a_long_text_from_the_attester_denies(scenario: PolicyScenario, path: str) -> None:
    for size, wanted in ((TEXT_MAX, False), (TEXT_MAX + 1, True)):
        text = "a" * size
        long = scenario.configure(path, [text] if path == "egress" else text)
        assert ("CONDITION_ERROR" in long.codes()) is wanted
