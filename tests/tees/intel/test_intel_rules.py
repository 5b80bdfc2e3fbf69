"""The TDX and SGX sections: every word is explained, every pin fits."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.appraisal.claims import Revocation
from regalia.core.errors import ParseError
from regalia.policy.baseline import BaselineWords, baseline
from regalia.policy.condition_fields import RELEASE_FIELDS, release_values
from regalia.policy.documents import parse_release_policy, wildcards
from regalia.policy.explain import explain_policy, statements
from regalia.policy.pin import pin_client, pin_release
from regalia.policy.platform import PlatformRules
from regalia.tees.intel.names import TcbStatus
from regalia.tees.intel.policy.fields import ACCEPTABLE_STATUSES
from regalia_testing.tees.intel.policy import (
    SGX,
    SGX_DEFECTS,
    TDX,
    TDX_DEFECTS,
    sgx_scenario,
    tdx_scenario,
)
from tests.policy.choices import owner_choices

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario

SCENES = {TDX: tdx_scenario, SGX: sgx_scenario}
LISTS = {
    TDX: [
        "tcb_statuses",
        "ppids",
        "mrtd",
        "mr_config_id",
        "mr_owner",
        "mr_owner_config",
        "mr_seam",
        "mr_signer_seam",
        "xfam",
        *(f"rtmrs.rtmr{n}" for n in range(4)),
    ],
    SGX: [
        "tcb_statuses",
        "ppids",
        "mrenclaves",
        "mrsigners",
        "isv_prod_ids",
        "config_ids",
        "xfrm",
    ],
}
OPEN = {
    TDX: [name for name in LISTS[TDX] if name != "tcb_statuses"]
    + ["attributes.sept_ve_disable", "event_log", "revocation"],
    SGX: [name for name in LISTS[SGX] if name != "tcb_statuses"] + ["revocation"],
}


@pytest.mark.parametrize("section", SCENES)
@pytest.mark.parametrize("status", ACCEPTABLE_STATUSES)
def test_only_listed_statuses_pass(section: str, status: str) -> None:
    scenario = SCENES[section]().attest(
        tcb_status=TcbStatus(status), current_tcb_status=TcbStatus(status)
    )
    accepted = scenario.demand(f"{section}.tcb_statuses", [status])
    assert accepted.codes() == []
    for other in ACCEPTABLE_STATUSES:
        if other != status:
            only = scenario.demand(f"{section}.tcb_statuses", [other])
            assert only.codes() in (["TCB_OUT_OF_DATE"], ["TCB_STATUS_DENIED"])


@pytest.mark.parametrize(
    ("section", "path", "value"),
    [
        *((s, "tcb_statuses", [v]) for s in SCENES for v in ("Revoked", "uptodate", "any", "")),
        *((s, "tcb_statuses", "any") for s in SCENES),
        *((s, "tcb_statuses", ["UpToDate", "UpToDate"]) for s in SCENES),
        *((s, "advisories_denied", [v]) for s in SCENES for v in ("any", "SA-1", "INTEL-SA-1")),
        *((s, "ppids", [v]) for s in SCENES for v in ("00", "GG" * 16, "AB" * 16)),
        *((s, "smt", "any") for s in SCENES),
        *((s, "tcb_evaluation_data_number_minimum", -1) for s in SCENES),
        (TDX, "mrtd", ["00" * 32]),
        (TDX, "rtmrs.rtmr2", ["00" * 47]),
        (TDX, "xfam", ["00" * 7]),
        (TDX, "mr_signer_seam", ["zero"]),
        (TDX, "service_td", "any"),
        (TDX, "event_log", "deny"),
        (TDX, "attributes.perfmon", "any"),
        (SGX, "mrenclaves", ["00" * 48]),
        (SGX, "config_ids", ["00" * 32]),
        (SGX, "isv_prod_ids", [-1]),
        (SGX, "isv_prod_ids", [7, 7]),
    ],
)
def test_sections_that_are_not_well_formed(section: str, path: str, value: object) -> None:
    policy = SCENES[section]().demand(f"{section}.{path}", value).policy
    with pytest.raises(ParseError):
        parse_release_policy(policy.encode())


@pytest.mark.parametrize("section", SCENES)
def test_every_field_is_required(section: str) -> None:
    document: Any = msgspec.json.decode(SCENES[section]().policy.encode())
    name = section.rpartition(".")[2]
    for field in list(document["platform"][name]):
        shorter = {**document["platform"][name]}
        del shorter[field]
        changed = {**document, "platform": {**document["platform"], name: shorter}}
        with pytest.raises(ParseError):
            parse_release_policy(msgspec.json.encode(changed, order="sorted"))


@pytest.mark.parametrize("section", SCENES)
def test_what_is_open_is_said(section: str) -> None:
    scenario = SCENES[section]()
    for field in OPEN[section]:
        scenario = scenario.demand(f"{section}.{field}", "any")
    scenario = scenario.demand(f"{section}.tcb_evaluation_data_number_minimum", 0)
    scenario = scenario.demand(f"{section}.advisories_denied", [])
    found = wildcards(scenario.policy)
    assert {path.partition("=")[0] for path in found} == {
        f"{section}.{field}"
        for field in (*OPEN[section], "tcb_evaluation_data_number_minimum", "advisories_denied")
    }
    sentences = explain_policy(scenario.policy)
    for path in found:
        name = path.partition("=")[0]
        (sentence,) = [each for each in sentences if each.startswith(f"OPEN {name} = ")]
        assert len(sentence.partition(": ")[2]) > 20


def _leaves(document: msgspec.Struct, prefix: str) -> list[str]:
    out: list[str] = []
    for name in document.__struct_fields__:
        value = getattr(document, name)
        inner = isinstance(value, msgspec.Struct)
        out += _leaves(value, f"{prefix}.{name}") if inner else [f"{prefix}.{name}"]
    return out


@pytest.mark.parametrize("section", SCENES)
def test_every_field_is_spoken_of(section: str) -> None:
    policy = SCENES[section]().policy
    spoken = {each.path for each in statements(policy) if each.path.startswith(section)}
    document = getattr(policy.platform, section.rpartition(".")[2])
    assert spoken == set(_leaves(document, section))
    for each in statements(policy):
        assert each.says.endswith(".")
        assert "{}" not in each.says


def test_conditions_speak_of_intel() -> None:
    for make, good, bad in (
        (tdx_scenario, "claims.tdx.tcb_status == 'UpToDate'", "claims.tdx.attributes.perfmon"),
        (tdx_scenario, "'INTEL-SA-00615' in claims.tdx.advisory_ids", "claims.tdx.smt == false"),
        (sgx_scenario, "claims.sgx.isv_svn >= 3", "claims.sgx.isv_prod_id == 1"),
    ):
        assert make().demand("conditions", [good]).codes() == []
        assert make().demand("conditions", [bad]).codes() == ["CONDITION_FALSE"]
    # What another TEE has cannot be decided, so it denies.
    other = sgx_scenario().demand("conditions", ["claims.tdx.smt"])
    assert other.codes() == ["CONDITION_ERROR"]


@pytest.mark.parametrize("section", SCENES)
def test_fields_and_values_agree(section: str) -> None:
    scenario = SCENES[section]()
    name = section.rpartition(".")[2]
    values: Any = release_values(scenario.claims, scenario.context())
    fields: Any = RELEASE_FIELDS

    def compare(kinds: Any, found: Any) -> None:  # noqa: ANN401 - nested records
        if isinstance(kinds, str):
            wanted = {"int": int, "text": str, "bool": bool, "list of text": list}
            assert kinds == "time" or type(found) is wanted[kinds]
            return
        assert set(kinds) == set(found)
        for each in kinds:
            compare(kinds[each], found[each])

    compare(fields["claims"][name], values["claims"][name])


@pytest.mark.parametrize(
    ("pin_chip", "pin_host_data"), [*itertools.product([True, False], repeat=2)]
)
@pytest.mark.parametrize("section", SCENES)
def test_pinning_accepts_the_claims(
    section: str,
    pin_chip: bool,  # noqa: FBT001 - two words of the owner
    pin_host_data: bool,  # noqa: FBT001
) -> None:
    scenario = SCENES[section]()
    choices = owner_choices(scenario, pin_chip=pin_chip, pin_host_data=pin_host_data)
    policy = pin_release(scenario.claims, scenario.config, choices, now=scenario.context().now)
    pinned = getattr(policy.platform, section.rpartition(".")[2])
    assert (pinned.ppids == "any") is not pin_chip
    assert policy.platform.snp is None
    assert policy.name == "pinned"
    client = pin_client(scenario.claims, scenario.config, choices, now=scenario.context().now)
    assert client.platform == policy.platform


@pytest.mark.parametrize("section", SCENES)
def test_the_baseline(section: str) -> None:
    words = BaselineWords(hardware="genuine", revocation="required", machines=(), grace_days=0)
    rules = PlatformRules(baseline(words), built_in=True)
    scenario = SCENES[section]()

    def codes(other: PolicyScenario) -> list[str]:
        return [each.code.name for each in rules.judge(other.claims).findings]

    assert codes(scenario) == []
    assert codes(scenario.attest(tcb_status=TcbStatus.SW_HARDENING_NEEDED)) == []
    assert codes(scenario.attest(tcb_status=TcbStatus.OUT_OF_DATE)) == ["TCB_OUT_OF_DATE"]
    assert codes(scenario.attest(revocation=Revocation.UNKNOWN)) == ["REVOCATION_UNKNOWN"]
    defects = TDX_DEFECTS if section == TDX else SGX_DEFECTS
    assert codes(defects["debug"][1](scenario)) == ["DEBUG_ENABLED"]
    if section == TDX:
        assert codes(defects["sept_ve_disable"][1](scenario)) == ["POLICY_BIT"]
        assert codes(defects["service_td"][1](scenario)) == ["SERVICE_TD_DENIED"]
        assert codes(defects["migration"][1](scenario)) == ["MIGRATION_ALLOWED"]
