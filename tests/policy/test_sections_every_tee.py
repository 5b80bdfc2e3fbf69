"""What holds for the section of every TEE: its words, what it leaves open, what conditions see."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.appraisal.collateral_rule import CollateralRule
from regalia.core.errors import ParseError
from regalia.policy.condition_fields import RELEASE_FIELDS, release_values
from regalia.policy.documents import collateral_rule, parse_release_policy, wildcards
from regalia.policy.explain import explain_policy, statements
from regalia.policy.registry import POLICY_PLUGINS, plugin_for
from regalia_testing.policy_scenarios import POLICY_SCENARIOS

if TYPE_CHECKING:
    from regalia.wire.evidence import Tee

EVERY_TEE = pytest.mark.parametrize("tee", POLICY_SCENARIOS)


@EVERY_TEE
def test_every_field_has_a_sentence(tee: Tee) -> None:
    plugin = plugin_for(tee)
    said = {each.path: each.says for each in statements(POLICY_SCENARIOS[tee]().policy)}
    spoken = {path for path in said if path.startswith(f"{plugin.path}.")}
    assert spoken == {f"{plugin.path}.{field.name}" for field in plugin.fields}
    for sentence in said.values():
        assert sentence.endswith(".")
        assert "{}" not in sentence


@EVERY_TEE
def test_every_member_is_required(tee: Tee) -> None:
    document: Any = msgspec.json.decode(POLICY_SCENARIOS[tee]().policy.encode())
    name = plugin_for(tee).name
    for member in document["platform"][name]:
        shorter = {key: value for key, value in document["platform"][name].items() if key != member}
        changed = {**document, "platform": {**document["platform"], name: shorter}}
        with pytest.raises(ParseError):
            parse_release_policy(msgspec.json.encode(changed, order="sorted"))


def values_that_demand_nothing() -> list[Any]:
    """TEE, field and value, for every value that leaves a field open."""
    return [
        pytest.param(plugin.tee, field.name, value, id=f"{plugin.name}.{field.name}={value}")
        for plugin in POLICY_PLUGINS
        for field in plugin.fields
        for value in ("any", field.open_value)
        if value is not None and (value != "any" or field.type.endswith("any"))
    ]


@pytest.mark.parametrize(("tee", "name", "value"), values_that_demand_nothing())
def test_what_is_left_open_is_accepted_and_shows_with_its_risk(
    tee: Tee, name: str, value: object
) -> None:
    scenario, path = POLICY_SCENARIOS[tee](), f"{plugin_for(tee).path}.{name}"
    opened = scenario.demand(path, value)
    # Where what runs is open too, a rule of its own says so.
    assert opened.codes() in ([], ["WORKLOAD_UNPINNED"])
    shown = path if value == "any" else f"{path}={_json(value)}"
    before = [each for each in wildcards(scenario.policy) if each.partition("=")[0] != path]
    assert sorted(wildcards(opened.policy)) == sorted([*before, shown])
    (sentence,) = [each for each in explain_policy(opened.policy) if f"OPEN {path} = " in each]
    risk = sentence.partition(": ")[2]
    assert len(risk) > 20
    assert risk.endswith(".")


def _json(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


CLOSED = [
    pytest.param(plugin.tee, field.name, id=f"{plugin.name}.{field.name}")
    for plugin in POLICY_PLUGINS
    for field in plugin.fields
    if field.type.startswith("list of ") and not field.unrestricted
]


@pytest.mark.parametrize(("tee", "name"), CLOSED)
def test_a_list_that_cannot_be_left_open_is_not_left_open_by_hand(tee: Tee, name: str) -> None:
    opened = POLICY_SCENARIOS[tee]().demand(f"{plugin_for(tee).path}.{name}", "any")
    assert opened.codes() != []
    with pytest.raises(ParseError):
        parse_release_policy(opened.policy.encode())


@EVERY_TEE
def test_the_section_of_another_tee_accepts_nothing(tee: Tee) -> None:
    """An owner who accepts SNP alone, say, has said nothing of paravisors or of TPMs."""
    scenario = POLICY_SCENARIOS[tee]().demand(plugin_for(tee).path, None)
    for other in [each for each in POLICY_PLUGINS if each.tee is not tee]:
        theirs = getattr(POLICY_SCENARIOS[other.tee]().policy.platform, other.name)
        assert scenario.demand(other.path, theirs).codes() == ["TEE_NOT_ACCEPTED"]


@EVERY_TEE
def test_what_is_demanded_of_collateral(tee: Tee) -> None:
    scenario, plugin = POLICY_SCENARIOS[tee](), plugin_for(tee)
    required, left_open = CollateralRule.of_words("required", 0), CollateralRule.of_words("any", 0)
    assert collateral_rule(scenario.policy.platform, tee) == required
    opened = scenario.demand(f"{plugin.path}.{plugin.revocation}", "any")
    assert collateral_rule(opened.policy.platform, tee) == left_open
    absent = scenario.demand(plugin.path, None)
    assert collateral_rule(absent.policy.platform, tee) == left_open


KINDS = {"int": int, "text": str, "bool": bool, "time": datetime}


@EVERY_TEE
def test_conditions_see_values_of_the_types_that_they_are_told(tee: Tee) -> None:
    scenario = POLICY_SCENARIOS[tee]()
    values: Any = release_values(scenario.claims, scenario.context())
    fields: Any = RELEASE_FIELDS

    def compare(kind: Any, value: Any) -> None:  # noqa: ANN401 - nested records
        if not isinstance(kind, str):
            assert set(kind) == set(value)
            for name in kind:
                compare(kind[name], value[name])
        elif kind.startswith("list of "):
            assert all(type(each) is KINDS[kind.removeprefix("list of ")] for each in value)
        else:
            assert type(value) is KINDS[kind]

    assert set(plugin_for(tee).conditions) <= set(values["claims"])
    for name, value in values["claims"].items():
        compare(fields["claims"][name], value)
