"""What the rules of SEV-SNP and of the policy as a whole say beyond one code for each defect."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import Hardware, Revocation
from regalia.core.codec import canonical_json
from regalia.policy.verdict import Allow, Deny
from regalia.tees.snp.claims import Firmware
from regalia_testing.policy_defects import DEFECTS, SNP, lower_tcb
from regalia_testing.tees.nvidia.policy import gpu_claims, gpu_entry

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario


def test_an_empty_list_of_providers_denies_a_vlek_only(scenario: PolicyScenario) -> None:
    none = scenario.demand(f"{SNP}.csp_ids", [])
    assert none.codes() == []
    assert none.attest(signing_key="vlek", csp_id="cloud-1").codes() == ["EMPTY_RULE"]


@pytest.mark.parametrize("path", ["placement.regions", "placement.sites", "placement.tiers"])
def test_an_empty_placement_denies(scenario: PolicyScenario, path: str) -> None:
    assert scenario.demand(path, []).codes() == ["EMPTY_RULE"]


def test_an_empty_custody_denies(scenario: PolicyScenario) -> None:
    assert scenario.demand("custody", []).codes() == ["EMPTY_RULE"]


def test_no_approver_is_not_consent(scenario: PolicyScenario) -> None:
    assert scenario.demand("approvals.approvers", []).codes() == ["APPROVALS_MISSING"]


def test_milan_is_accepted_for_a_chip_that_is_named(scenario: PolicyScenario) -> None:
    milan = DEFECTS["milan_any_chip"][1](scenario)
    assert milan.demand(f"{SNP}.chip_ids", ["44" * 64]).codes() == []
    assert milan.demand(f"{SNP}.chip_ids", ["45" * 64]).codes() == [
        "PRODUCT_DENIED",
        "INSTANCE_NOT_ALLOWED",
    ]


def test_no_policy_accepts_debug_or_migration(scenario: PolicyScenario) -> None:
    everything_open = scenario.demand(f"{SNP}.measurements", ["11" * 48])
    for path in ("host_data", "id_blocks", "tcb_minimum", "firmware_minimum", "chip_ids"):
        everything_open = everything_open.demand(f"{SNP}.{path}", "any")
    for bit, code in ((19, "DEBUG_ENABLED"), (18, "MIGRATION_ALLOWED")):
        bad = everything_open.attest(policy=scenario.claims.policy | 1 << bit)
        assert bad.codes() == [code]
    trial = everything_open.attest(
        hardware=Hardware.SIMULATED, policy=scenario.claims.policy | 1 << 19
    ).demand("platform.hardware", "dangerous_simulated")
    assert trial.codes() == ["DEBUG_ENABLED"]


def test_unknown_hardware_word_denies_everything(scenario: PolicyScenario) -> None:
    odd = scenario.demand("platform.hardware", "whatever")
    assert odd.codes() == ["HARDWARE_NOT_SIMULATED"]
    assert odd.attest(hardware=Hardware.SIMULATED).codes() == ["SIMULATED_HARDWARE"]


def test_tcb_is_compared_component_by_component(scenario: PolicyScenario) -> None:
    """A high microcode does not make up for a low bootloader."""
    low = scenario.claims.reported_tcb
    for component in ("bootloader", "snp", "microcode"):
        tcb = replace(low, **{component: getattr(low, component) - 1, "tee": 255})
        verdict = scenario.attest(
            reported_tcb=tcb, committed_tcb=tcb, launch_tcb=tcb, current_tcb=tcb
        ).verdict()
        assert isinstance(verdict, Deny)
        assert [each.code.name for each in verdict.reasons] == ["TCB_BELOW_MINIMUM"] * 3
        words = [each.what.split()[0] for each in verdict.reasons]
        assert words == ["reported", "committed", "launch"]
        assert all(component in each.what for each in verdict.reasons)


@pytest.mark.parametrize("product", ["Genoa", "Milan"])
def test_nobody_is_told_to_list_a_chip_that_a_report_does_not_name(
    scenario: PolicyScenario, product: str
) -> None:
    listed = scenario.demand(f"{SNP}.chip_ids", ["ab" * 64]).demand(f"{SNP}.products", [product])
    for chip, told in ((bytes(64), "no list of chips"), (b"\xcd" * 64, "chip_ids")):
        verdict = listed.attest(chip_id=chip, product=product).verdict()
        assert isinstance(verdict, Deny)
        codes = {"INSTANCE_NOT_ALLOWED", "PRODUCT_DENIED"}
        found = [each for each in verdict.reasons if each.code.name in codes]
        assert len(found) == (2 if product == "Milan" else 1)
        assert all(told in each.fix for each in found)
        assert all(("chip_ids" in each.fix) == any(chip) for each in found)


def test_limits_belong_to_what_is_accepted(scenario: PolicyScenario) -> None:
    for at_the_limit in (
        scenario.ask(age_s=0.0),
        scenario.ask(age_s=60.0),
        scenario.ask(model_version=7),
        scenario.ask(holders=2),
        scenario.demand(f"{SNP}.report_version_minimum", 5),
        scenario.demand(f"{SNP}.firmware_minimum.build", 40),
        scenario.demand(f"{SNP}.mitigations_required", 0b111),
        scenario.configure("egress", [f"h:{n}" for n in range(256)]).demand(
            "runtime.egress", "any"
        ),
    ):
        assert at_the_limit.codes() == []


def test_the_fix_of_a_low_tcb_fits_to_which_it_is(scenario: PolicyScenario) -> None:
    for name, fix in (
        ("reported_tcb", "let it report"),
        ("committed_tcb", "SNP_COMMIT"),
        ("launch_tcb", "start the guest again"),
    ):
        verdict = lower_tcb(name, snp=1)(scenario).verdict()
        assert isinstance(verdict, Deny)
        (finding, *_) = [each for each in verdict.reasons if each.code.name != "TCB_PROVISIONAL"]
        assert fix in finding.fix


def test_firmware_is_compared_as_a_tuple(scenario: PolicyScenario) -> None:
    for version, accepted in (((1, 55, 21), True), ((1, 54, 99), False), ((2, 0, 0), True)):
        have = Firmware(*version)
        codes = scenario.attest(current_firmware=have, committed_firmware=have).codes()
        assert codes == ([] if accepted else ["FIRMWARE_BELOW_MINIMUM"] * 2)


def test_an_id_block_may_stand_for_the_measurement(scenario: PolicyScenario) -> None:
    assert scenario.demand(f"{SNP}.measurements", "any").codes() == []


def test_a_client_gets_the_same_findings_without_the_release_rules(
    scenario: PolicyScenario,
) -> None:
    allowed = scenario.ask(holders=9, approvals=frozenset(), custody="").client_verdict()
    assert isinstance(allowed, Allow)
    denied = scenario.attest(vmpl=2).ask(age_s=99).client_verdict()
    assert isinstance(denied, Deny)
    assert [each.code.name for each in denied.reasons] == ["VMPL_MISMATCH", "EVIDENCE_TOO_OLD"]


def test_all_reasons_are_collected_in_the_order_of_the_rules(scenario: PolicyScenario) -> None:
    bad = (
        scenario.attest(
            hardware=Hardware.SIMULATED,
            policy=scenario.claims.policy | 1 << 18 | 1 << 19,
            revocation=Revocation.UNKNOWN,
            vmpl=3,
            measurement=bytes(48),
        )
        .ask(model_version=1, age_s=61, holders=3, custody="x", approvals=frozenset())
        .demand("conditions", ["false", "nope", "claims.vmpl == 3"])
    )
    verdict = bad.verdict()
    assert isinstance(verdict, Deny)
    assert [each.code.name for each in verdict.reasons] == [
        "SIMULATED_HARDWARE",
        "DEBUG_ENABLED",
        "MIGRATION_ALLOWED",
        "REVOCATION_UNKNOWN",
        "VMPL_MISMATCH",
        "MEASUREMENT_UNKNOWN",
        "MODEL_VERSION_TOO_OLD",
        "EVIDENCE_TOO_OLD",
        "HOLDERS_EXHAUSTED",
        "CUSTODY_DENIED",
        "APPROVALS_MISSING",
        "CONDITION_FALSE",
        "CONDITION_ERROR",
    ]
    error = verdict.error()
    assert len(error.reasons) == 13
    assert "DEBUG_ENABLED" in error.explain()
    assert verdict.hardware is Hardware.SIMULATED


def test_text_from_the_attester_is_shown_tamely(scenario: PolicyScenario) -> None:
    """Findings go to terminals and into a log entry of at most 64 KiB."""
    wild = (
        scenario.configure("log_key", "\x1b[2J" + "x" * 10_000)
        .configure("egress", ["é" * 5000 + f"{n}" for n in range(200)])
        .configure("placement.region", "\n" * 5000)
        .configure("owner_key", "k" * 10_000)
    )
    verdict = wild.verdict()
    assert isinstance(verdict, Deny)
    for each in verdict.reasons:
        assert each.what.isascii()
        assert each.what.isprintable()
        assert len(each.what) < 2000


def test_the_longest_denial_fits_into_a_release_record(scenario: PolicyScenario) -> None:
    """Whatever the attester sends and however long the policy is, the denial can be logged."""
    wild = "\\" * 5000
    weakest = (
        scenario.configure("log_key", wild)
        .configure("egress", [f"{wild}{n}" for n in range(256)])
        .configure("placement.region", wild)
        .configure("placement.site", wild)
        .configure("placement.tier", wild)
        .configure("owner_key", wild)
        .configure("model_id", wild)
        .ask(custody=wild, model_version=0, age_s=9e99, holders=10**9, approvals=frozenset())
        .attest(
            hardware=Hardware.SIMULATED,
            policy=2**64 - 1 - (1 << 17),
            product="Turin",
            signing_key="vlek",
            csp_id=wild,
            vmpl=2**32 - 1,
            measurement=bytes(48),
            id_key_digest=bytes(48),
            chip_id=bytes(64),
            host_data=bytes(32),
            platform_info=0,
            launch_mit_vector=0,
            current_mit_vector=0,
        )
    )
    words = [f"{n:0128}" for n in range(1024)]
    for path in ("regions", "sites", "tiers"):
        weakest = weakest.demand(f"placement.{path}", words)
    weakest = (
        weakest.demand(f"{SNP}.csp_ids", words)
        .demand("runtime.egress", [f"{word}:1" for word in words])
        .demand("approvals.approvers", [f"key:{n:064x}" for n in range(1024)])
        .demand("approvals.threshold", 16)
        .demand("platform.devices", [gpu_entry(models=words, count=64)])
        .attest(devices=tuple(gpu_claims(n, model=words[n], debug=True) for n in range(64)))
        .demand("conditions", [f"'{n:01022}'" for n in range(31)] + ["\\" * 1024])
    )
    verdict = weakest.verdict()
    assert isinstance(verdict, Deny)
    assert len({each.code for each in verdict.reasons}) > 20
    reasons = [{"code": each.code.name, "what": each.what} for each in verdict.reasons]
    assert len(canonical_json(reasons)) < 48 * 1024
