"""The device set of a policy: exact, each device judged, and every word of it explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.appraisal.claims import Revocation
from regalia.core.errors import ParseError
from regalia.policy.device_set import pin_devices
from regalia.policy.documents import parse_release_policy, wildcards
from regalia.policy.explain import explain_policy, statements
from regalia.policy.platform import PlatformRules
from regalia.policy.verdict import Allow, Deny
from regalia.wire.evidence import DeviceKind
from regalia_testing.tees.nvidia.policy import (
    DEVICE_DEFECTS,
    GPUS,
    gpu_claims,
    gpu_entry,
    with_gpus,
)

if TYPE_CHECKING:
    from regalia.tees.nvidia.policy.section import Device
    from regalia_testing.policy_scenario import PolicyScenario

FREE = (
    "features",
    "driver_versions",
    "driver_minimum",
    "vbios_versions",
    "identities",
    "rim",
    "revocation",
)
OPEN = dict.fromkeys(FREE, "any")


def test_exactly_the_listed_devices_are_allowed(scenario: PolicyScenario) -> None:
    verdict = with_gpus(scenario).verdict()
    assert isinstance(verdict, Allow), verdict
    assert verdict.wildcards == ()
    assert isinstance(with_gpus(scenario).client_verdict(), Allow)


@pytest.mark.parametrize("name", DEVICE_DEFECTS)
def test_one_defect_gives_its_code_and_no_other(scenario: PolicyScenario, name: str) -> None:
    code, defect = DEVICE_DEFECTS[name]
    verdict = defect(with_gpus(scenario)).verdict()
    assert isinstance(verdict, Deny)
    assert {each.code.name for each in verdict.reasons} == {code}
    assert all(each.fix for each in verdict.reasons)


def test_a_cpu_only_policy_refuses_any_device(scenario: PolicyScenario) -> None:
    assert scenario.attest(devices=(gpu_claims(0),)).codes() == ["DEVICE_SET_MISMATCH"]
    assert scenario.codes() == []


def test_leaving_devices_out_is_never_fine(scenario: PolicyScenario) -> None:
    full = with_gpus(scenario)
    for count in range(GPUS):
        assert full.attest(devices=full.claims.devices[:count]).codes() == ["DEVICE_SET_MISMATCH"]


def test_a_missing_reference_value_says_what_to_fetch(scenario: PolicyScenario) -> None:
    verdict = DEVICE_DEFECTS["rim_missing"][1](with_gpus(scenario)).verdict()
    assert isinstance(verdict, Deny)
    assert "Fetch NV_GPU_VBIOS_X" in verdict.reasons[0].fix


def test_open_words_accept_and_are_said(scenario: PolicyScenario) -> None:
    opened = with_gpus(scenario).demand("platform.devices", [gpu_entry(**OPEN)])
    strange = gpu_claims(
        GPUS - 1,
        identity=b"\x99",
        driver_version="1",
        vbios_version="",
        rims=(),
        revocation=Revocation.UNKNOWN,
    )
    verdict = opened.attest(devices=(*opened.claims.devices[:-1], strange)).verdict()
    assert isinstance(verdict, Allow), verdict
    paths = tuple(f"platform.devices[0].{name}" for name in OPEN)
    assert verdict.wildcards == paths == wildcards(opened.policy)
    text = explain_policy(opened.policy)
    for path in paths:
        (line,) = [each for each in text if each.startswith(f"OPEN {path} = ")]
        assert len(line.partition(": ")[2]) > 20


def test_every_field_of_an_entry_is_spoken_of(scenario: PolicyScenario) -> None:
    two = [gpu_entry(), gpu_entry(models=["GB100"])]
    policy = scenario.demand("platform.devices", two).policy
    said = {each.path: each for each in statements(policy)}
    for index, entry in enumerate(two):
        for name in entry.__struct_fields__:
            each = said[f"platform.devices[{index}].{name}"]
            assert each.says.endswith(".")
            assert "{}" not in each.says
    assert "Exactly 16 devices" in said["platform.devices"].says
    denying = scenario.demand("platform.devices", [gpu_entry(identities=[])]).policy
    assert "this policy denies everything" in "\n".join(explain_policy(denying))


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ([gpu_entry(models=[""])], "devices[0].models[0]"),
        ([gpu_entry(models=["GH100", "GH100"])], "devices[0].models[1]"),
        ([gpu_entry(models=["any"])], "devices[0].models[0]"),
        ([gpu_entry(), gpu_entry()], "devices[1].models"),
        ([gpu_entry(driver_minimum="570.x")], "devices[0].driver_minimum"),
        ([gpu_entry(driver_minimum="")], "devices[0].driver_minimum"),
        ([gpu_entry(identities=["AB"])], "devices[0].identities[0]"),
        ([gpu_entry(identities=["00ab"])], "devices[0].identities[0]"),
        ([gpu_entry(identities=["ab" * 21])], "devices[0].identities[0]"),
        ([gpu_entry(identities=[""])], "devices[0].identities[0]"),
        ([gpu_entry(kind="nvidia-switch", models=["LS_10"])], "devices[0].features"),
        ([gpu_entry(count=40), gpu_entry(count=40, models=["GB100"])], "platform.devices"),
        ([gpu_entry(count=0)], "count"),
        ([gpu_entry(count=65)], "count"),
        ([gpu_entry(features=["CC"])], "features"),
        ([gpu_entry(rim="optional")], "rim"),
    ],
)
def test_ill_formed_sets_are_refused_by_name(
    scenario: PolicyScenario, entries: list[Device], named: str
) -> None:
    policy = scenario.demand("platform.devices", entries).policy
    with pytest.raises(ParseError) as caught:
        parse_release_policy(policy.encode())
    assert named in caught.value.what


def test_entries_that_overlap_by_hand_deny(scenario: PolicyScenario) -> None:
    """The parser refuses them; a policy that was never encoded must not be a way around."""
    full = with_gpus(scenario).demand("platform.devices", [gpu_entry(), gpu_entry()])
    assert full.codes() == ["DEVICE_SET_MISMATCH"]


@pytest.mark.parametrize("pin_machine", [True, False])
def test_pinned_devices_meet_their_own_entry(
    scenario: PolicyScenario, *, pin_machine: bool
) -> None:
    switches: tuple[Any, ...] = tuple(
        gpu_claims(
            100 + number,
            kind=DeviceKind.NVIDIA_SWITCH,
            model="LS_10",
            driver_version="",
        )
        for number in range(4)
    )
    devices = (*with_gpus(scenario).claims.devices, *switches)
    entries = pin_devices(devices, pin_machine=pin_machine)
    assert [(each.kind, each.count) for each in entries] == [
        ("nvidia-gpu", 8),
        ("nvidia-switch", 4),
    ]
    pinned = scenario.attest(devices=devices).demand("platform.devices", entries)
    assert isinstance(pinned.verdict(), Allow), pinned.verdict()
    parse_release_policy(pinned.policy.encode())
    assert (entries[0].identities == "any") is not pin_machine
    assert entries[0].rim == entries[0].revocation == "required"


def test_conditions_may_speak_of_devices(scenario: PolicyScenario) -> None:
    full = with_gpus(scenario)
    for condition, allowed in (
        ("claims.devices.count == 8", True),
        ("claims.devices.count == 7", False),
        ("claims.devices.models.all(m, m == 'GH100')", True),
        ("claims.devices.driver_versions.exists(v, v != '590.12')", False),
        (f"'{gpu_claims(0).identity.hex()}' in claims.devices.identities", True),
    ):
        assert (full.demand("conditions", [condition]).codes() == []) is allowed, condition


def test_the_baseline_judges_each_device_but_not_the_set(scenario: PolicyScenario) -> None:
    full = with_gpus(scenario)
    rules = PlatformRules(scenario.policy.platform, built_in=True)
    assert rules.judge(full.claims).findings == ()
    weak = full.attest(devices=(gpu_claims(0, debug=True, revocation=Revocation.UNKNOWN),))
    codes = {each.code.name for each in rules.judge(weak.claims).findings}
    assert codes == {"DEBUG_ENABLED", "REVOCATION_UNKNOWN"}


def test_an_entry_survives_its_encoding(scenario: PolicyScenario) -> None:
    policy = with_gpus(scenario).policy
    again = parse_release_policy(policy.encode())
    assert msgspec.to_builtins(again) == msgspec.to_builtins(policy)
