"""Pinning: the policy accepts what it was pinned from, and nothing that differs from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.claims import Hardware, Revocation
from regalia.core.errors import ParseError, PolicyDenied
from regalia.core.types import KeyFingerprint
from regalia.policy.documents import parse_client_policy, parse_release_policy, wildcards
from regalia.policy.pin import pin_client, pin_release
from regalia.policy.verdict import Allow, Deny
from regalia.tees.snp.claims import Firmware
from regalia.tees.snp.policy.section import FirmwareMinimum
from tests.policy.choices import owner_choices

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.policy_scenario import PolicyScenario


def _pin(
    scenario: PolicyScenario,
    **changes: Any,  # noqa: ANN401 - any choice
) -> PolicyScenario:
    policy = pin_release(
        scenario.claims,
        scenario.config,
        owner_choices(scenario, **changes),
        now=scenario.context().now,
    )
    return replace(scenario, policy=policy)


def test_the_pinned_policy_accepts_its_evidence_and_leaves_nothing_open(
    scenario: PolicyScenario,
) -> None:
    pinned = _pin(scenario)
    assert isinstance(pinned.verdict(), Allow)
    assert wildcards(pinned.policy) == ()
    assert parse_release_policy(pinned.policy.encode()) == pinned.policy


def test_measured_values_are_pinned(scenario: PolicyScenario) -> None:
    snp = _pin(scenario).policy.platform.snp
    assert snp.products == ["Genoa"]
    assert snp.measurements == ["11" * 48]
    assert snp.host_data == [scenario.config.digest().raw.hex()]
    assert snp.chip_ids == ["44" * 64]
    assert snp.platform_info_required == ["ECC_EN", "ALIAS_CHECK_COMPLETE"]
    assert snp.firmware_minimum == FirmwareMinimum(major=1, minor=55, build=40)
    assert snp.provisional_firmware == "deny"
    assert snp.mitigations_required == 0b111
    assert snp.tcb_minimum["Genoa"].microcode == 72
    assert (snp.guest_policy.abi_major_min, snp.guest_policy.abi_minor_min) == (1, 55)
    assert snp.guest_policy.single_socket == "required"
    assert snp.guest_policy.cxl == "deny"
    assert snp.signing_keys == ["vcek"]
    assert snp.csp_ids == []


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"measurement": b"\x12" * 48}, ["MEASUREMENT_UNKNOWN"]),
        ({"product": "Turin"}, ["PRODUCT_DENIED", "TCB_NO_MINIMUM"]),
        ({"chip_id": b"\x45" * 64}, ["INSTANCE_NOT_ALLOWED"]),
        ({"vmpl": 1}, ["VMPL_MISMATCH"]),
        ({"report_version": 3}, ["REPORT_VERSION_TOO_OLD"]),
        ({"platform_info": 0b10_0001}, ["PLATFORM_FLAG_MISSING"]),
        ({"current_mit_vector": 0b110}, ["MITIGATION_MISSING"]),
        ({"id_key_digest": bytes(48)}, ["ID_KEY_UNKNOWN"]),
        ({"image_id": bytes(16)}, ["ID_BLOCK_DENIED"]),
        ({"guest_svn": 2}, ["ID_BLOCK_DENIED"]),
        ({"revocation": Revocation.UNKNOWN}, ["REVOCATION_UNKNOWN"]),
        ({"hardware": Hardware.SIMULATED}, ["SIMULATED_HARDWARE"]),
        ({"policy": 0x3E3_0000 | 1 << 8 | 55}, ["POLICY_BIT"] * 2),  # CXL, two sockets
        ({"signing_key": "vlek", "csp_id": "c"}, ["SIGNING_KEY_DENIED", "EMPTY_RULE"]),
    ],
)
def test_anything_else_is_denied(
    scenario: PolicyScenario, fields: dict[str, Any], codes: list[str]
) -> None:
    assert _pin(scenario).attest(**fields).codes() == codes


def test_what_is_weak_in_the_evidence_shows_in_the_policy(scenario: PolicyScenario) -> None:
    weak = scenario.attest(
        hardware=Hardware.SIMULATED,
        revocation=Revocation.UNKNOWN,
        platform_info=1,
        current_mit_vector=0,
        current_firmware=Firmware(1, 56, 0),
        policy=0x3_0000,
    )
    pinned = _pin(weak, pin_chip=False, pin_host_data=False)
    assert isinstance(pinned.verdict(), Allow)
    assert wildcards(pinned.policy) == (
        "platform.hardware=dangerous_simulated",
        "platform.snp.host_data",
        "platform.snp.guest_policy.single_socket",
        "platform.snp.guest_policy.mem_aes_256_xts",
        "platform.snp.guest_policy.rapl_dis",
        "platform.snp.guest_policy.ciphertext_hiding",
        "platform.snp.guest_policy.page_swap_disable",
        "platform.snp.platform_info_required=[]",
        "platform.snp.mitigations_required",
        "platform.snp.chip_ids",
        "platform.snp.revocation",
    )
    assert pinned.policy.platform.snp.provisional_firmware == "allow"


def test_the_lowest_tcb_is_the_minimum(scenario: PolicyScenario) -> None:
    updated = replace(scenario.claims.launch_tcb, microcode=80)
    pinned = _pin(scenario.attest(reported_tcb=updated, committed_tcb=updated, current_tcb=updated))
    assert pinned.policy.platform.snp.tcb_minimum["Genoa"].microcode == 72
    assert isinstance(pinned.verdict(), Allow)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s.attest(policy=s.claims.policy | 1 << 19), "DEBUG_ENABLED"),
        (lambda s: s.attest(policy=s.claims.policy | 1 << 18), "MIGRATION_ALLOWED"),
        (lambda s: s.configure("model_id", "model:" + "00" * 32), "MODEL_MISMATCH"),
        (lambda s: s.configure("owner_key", "key:" + "00" * 32), "OWNER_KEY_MISMATCH"),
        (lambda s: s.attest(host_data=bytes(32)), "CONFIG_MISMATCH"),
    ],
)
def test_what_no_policy_can_accept_is_not_pinned(
    scenario: PolicyScenario, change: Callable[[PolicyScenario], PolicyScenario], code: str
) -> None:
    bad = change(scenario)
    for make in (pin_release, pin_client):
        choices = replace(owner_choices(scenario), owner_key=KeyFingerprint(b"\x0a" * 32))
        with pytest.raises(PolicyDenied) as caught:
            make(bad.claims, bad.config, choices, now=scenario.context().now)
        assert caught.value.code.name == code


def test_milan_is_pinned_with_its_chip_only(scenario: PolicyScenario) -> None:
    milan = scenario.attest(product="Milan")
    assert isinstance(_pin(milan).verdict(), Allow)
    with pytest.raises(PolicyDenied) as caught:
        _pin(milan, pin_chip=False)
    assert caught.value.code.name == "PRODUCT_DENIED"


def test_choices_that_have_no_place_in_a_policy_are_refused(scenario: PolicyScenario) -> None:
    for changes in (
        {"lease_s": 0},
        {"holders_max": -1},
        {"name": ""},
        {"version": 0},
        {"approvals_threshold": 1},
        {"challenge_max_age_s": 0},
    ):
        with pytest.raises(ParseError):
            _pin(scenario, **changes)
    with pytest.raises(ParseError, match="regions"):
        _pin(scenario.configure("placement.region", "any"))


def test_a_custody_is_needed(scenario: PolicyScenario) -> None:
    with pytest.raises(PolicyDenied) as caught:
        _pin(scenario, custody=())
    assert caught.value.code.name == "EMPTY_RULE"


def test_the_client_policy_says_the_same(scenario: PolicyScenario) -> None:
    pinned = _pin(scenario)
    policy = pin_client(
        scenario.claims, scenario.config, owner_choices(scenario), now=scenario.context().now
    )
    assert parse_client_policy(policy.encode()) == policy
    assert policy.platform == pinned.policy.platform
    assert policy.runtime == pinned.policy.runtime
    assert policy.placement == pinned.policy.placement
    assert not isinstance(pinned.client_verdict(), Deny)
