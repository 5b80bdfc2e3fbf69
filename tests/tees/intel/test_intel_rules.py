"""The TDX and SGX sections: every word is explained, every pin fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import Revocation
from regalia.core.errors import ParseError
from regalia.policy.baseline import BaselineWords, baseline
from regalia.policy.documents import parse_release_policy
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

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario

SCENES = {TDX: tdx_scenario, SGX: sgx_scenario}


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
