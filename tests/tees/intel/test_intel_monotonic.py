"""Tightening a TDX or SGX section never allows what was denied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from regalia.policy.verdict import Deny
from regalia.tees.intel.names import TcbStatus
from regalia_testing.tees.intel.policy import (
    SGX,
    SGX_DEFECTS,
    TDX,
    TDX_DEFECTS,
    sgx_scenario,
    tdx_scenario,
)

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario

POLICY_SCENARIOS = {TDX: tdx_scenario, SGX: sgx_scenario}
DEFECTS = {TDX: TDX_DEFECTS, SGX: SGX_DEFECTS}
LISTS = {
    TDX: ("ppids", "mrtd", "rtmrs.rtmr0", "rtmrs.rtmr3", "mr_owner", "mr_seam", "xfam"),
    SGX: ("ppids", "mrenclaves", "mrsigners", "isv_prod_ids", "xfrm"),
}
SWITCHES = {
    TDX: ("dynamic_platform", "cached_keys", "smt", "attributes.perfmon", "service_td"),
    SGX: ("dynamic_platform", "cached_keys", "smt", "provision_key"),
}
FLOORS = ("tcb_evaluation_data_number_minimum", "quote_version_minimum")
# Denials because something was left open: naming it may cure them.
CURED = {"WORKLOAD_UNPINNED"}


def _value(scenario: PolicyScenario, path: str) -> object:
    found: object = scenario.policy
    for name in path.split("."):
        found = getattr(found, name)
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[PolicyScenario, PolicyScenario]:
    """A case around a scenario, partly open and perhaps defective, and the same one tightened."""
    section = draw(st.sampled_from([TDX, SGX]))
    scenario: PolicyScenario = POLICY_SCENARIOS[section]()
    for field in draw(st.lists(st.sampled_from(LISTS[section]), max_size=3)):
        scenario = scenario.demand(f"{section}.{field}", "any")
    for field in draw(st.lists(st.sampled_from(SWITCHES[section]), max_size=2)):
        scenario = scenario.demand(f"{section}.{field}", "allow")
    for name in draw(st.lists(st.sampled_from(sorted(DEFECTS[section])), max_size=2)):
        if name != "no_section":
            scenario = DEFECTS[section][name][1](scenario)
    scenario = scenario.attest(tcb_status=draw(st.sampled_from(TcbStatus)))
    tighter = scenario
    for _ in range(draw(st.integers(1, 4))):
        tighter = draw(st.sampled_from([_list, _switch, _floor, _status, _advisory]))(
            draw, section, tighter
        )
    return scenario, tighter


def _list(draw: st.DrawFn, section: str, scenario: PolicyScenario) -> PolicyScenario:
    path = f"{section}.{draw(st.sampled_from(LISTS[section]))}"
    value = _value(scenario, path)
    if value == "any":
        original = _value(POLICY_SCENARIOS[section](), path)
        return scenario.demand(path, draw(st.sampled_from([[], original])))
    assert isinstance(value, list)
    return scenario.demand(path, value[: draw(st.integers(0, len(value)))])


def _switch(draw: st.DrawFn, section: str, scenario: PolicyScenario) -> PolicyScenario:
    return scenario.demand(f"{section}.{draw(st.sampled_from(SWITCHES[section]))}", "deny")


def _floor(draw: st.DrawFn, section: str, scenario: PolicyScenario) -> PolicyScenario:
    path = f"{section}.{draw(st.sampled_from(FLOORS))}"
    value = _value(scenario, path)
    assert isinstance(value, int)
    return scenario.demand(path, value + draw(st.integers(0, 3)))


def _status(draw: st.DrawFn, section: str, scenario: PolicyScenario) -> PolicyScenario:
    path = f"{section}.tcb_statuses"
    value = _value(scenario, path)
    assert isinstance(value, list)
    return scenario.demand(path, value[: draw(st.integers(0, len(value)))])


def _advisory(draw: st.DrawFn, section: str, scenario: PolicyScenario) -> PolicyScenario:
    path = f"{section}.advisories_denied"
    value = _value(scenario, path)
    assert isinstance(value, list)
    more = draw(st.sampled_from(["INTEL-SA-00615", "INTEL-SA-00001"]))
    return scenario.demand(path, [*value, more])


@given(case=cases())
@settings(max_examples=300, deadline=None)
def test_tightening_never_allows_more(case: tuple[PolicyScenario, PolicyScenario]) -> None:
    before, after = case
    assume(set(before.codes()) - CURED)
    assert isinstance(after.verdict(), Deny), before.codes()
