"""Verdicts come from evaluation only, say what they are about, and name every open rule."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from regalia.appraisal.claims import Hardware
from regalia.appraisal.finding import Finding
from regalia.core.types import PolicyId
from regalia.policy.documents import wildcards
from regalia.policy.verdict import MINT, Allow, Deny

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario

OPEN = (
    "platform.snp.measurements",
    "platform.snp.host_data",
    "platform.snp.id_blocks",
    "platform.snp.guest_policy.single_socket",
    "platform.snp.guest_policy.mem_aes_256_xts",
    "platform.snp.guest_policy.rapl_dis",
    "platform.snp.guest_policy.ciphertext_hiding",
    "platform.snp.guest_policy.page_swap_disable",
    "platform.snp.tcb_minimum",
    "platform.snp.firmware_minimum",
    "platform.snp.mitigations_required",
    "platform.snp.csp_ids",
    "platform.snp.chip_ids",
    "platform.snp.revocation",
    "placement.regions",
    "placement.sites",
    "placement.tiers",
    "runtime.owner_key",
    "runtime.log_key",
    "runtime.egress",
    "runtime.opens",
    "runtime.adapters",
)


def test_a_verdict_cannot_be_made_by_hand(scenario: PolicyScenario) -> None:
    subject = scenario.verdict().subject
    with pytest.raises(TypeError):
        Allow(subject, (), object())
    with pytest.raises(TypeError):
        Allow(subject, (), None)
    with pytest.raises(TypeError):
        Allow(subject, ())  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Deny(subject, (), (), object())


def test_a_verdict_cannot_be_changed(scenario: PolicyScenario) -> None:
    denied = scenario.attest(vmpl=1).verdict()
    allowed = scenario.verdict()
    with pytest.raises((TypeError, ValueError)):
        replace(allowed, wildcards=())
    with pytest.raises((TypeError, ValueError)):
        replace(denied, reasons=())
    with pytest.raises(AttributeError):
        allowed.wildcards = ()
    assert copy.copy(allowed) == allowed


def test_a_denial_without_reason_does_not_exist(scenario: PolicyScenario) -> None:
    with pytest.raises(TypeError):
        Deny(scenario.verdict().subject, (), (), MINT)


def test_the_verdict_says_what_it_is_about(scenario: PolicyScenario) -> None:
    for verdict in (scenario.verdict(), scenario.attest(vmpl=1).verdict()):
        assert verdict.subject.policy_id == scenario.policy.policy_id()
        assert verdict.subject.evidence_digest == scenario.claims.evidence_digest
        assert verdict.subject.model_id == scenario.model_id
        assert verdict.hardware is Hardware.GENUINE
    client = scenario.client_verdict().subject.policy_id
    assert client == PolicyId.of(scenario.client_policy().encode())


@pytest.mark.parametrize("path", OPEN)
def test_every_any_is_a_wildcard_of_the_verdict(scenario: PolicyScenario, path: str) -> None:
    verdict = scenario.demand(path, "any").verdict()
    assert isinstance(verdict, Allow)
    assert verdict.wildcards == (path,)
    denied = scenario.demand(path, "any").ask(age_s=99).verdict()
    assert isinstance(denied, Deny)
    assert denied.wildcards == (path,)


def test_the_list_of_open_fields_is_that_of_the_document(scenario: PolicyScenario) -> None:
    """A field that may say "any" and is missing above would be a field without a test."""
    found = []

    def walk(prefix: str, document: msgspec.Struct) -> None:
        for info in msgspec.structs.fields(type(document)):
            value = getattr(document, info.name)
            path = f"{prefix}{info.name}"
            if '"any"' in str(info.type) or "'any'" in str(info.type):
                found.append(path)
            if isinstance(value, msgspec.Struct):
                walk(f"{path}.", value)

    walk("", scenario.policy)
    assert tuple(found) == OPEN


def test_other_values_that_demand_nothing_are_loud(scenario: PolicyScenario) -> None:
    bare = (
        scenario.demand("platform.hardware", "dangerous_simulated")
        .demand("platform.snp.platform_info_required", [])
        .demand("platform.snp.mitigations_required", 0)
        .attest(hardware=Hardware.SIMULATED)
    )
    verdict = bare.verdict()
    assert isinstance(verdict, Allow)
    assert verdict.hardware is Hardware.SIMULATED
    assert verdict.wildcards == (
        "platform.hardware=dangerous_simulated",
        "platform.snp.platform_info_required=[]",
        "platform.snp.mitigations_required=0",
    )


def test_a_policy_that_is_called_any_leaves_nothing_open(scenario: PolicyScenario) -> None:
    assert wildcards(scenario.demand("name", "any").policy) == ()


def test_findings_carry_a_fix(scenario: PolicyScenario) -> None:
    denied = scenario.attest(chip_id=b"\x77" * 64).verdict()
    assert isinstance(denied, Deny)
    (finding,) = denied.reasons
    assert isinstance(finding, Finding)
    assert "77" * 64 in finding.fix
    assert denied.error().reasons == ((finding.code, finding.what),)
