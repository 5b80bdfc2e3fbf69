"""Evidence of a platform that was pinned is allowed; with one defect it gets that defect's code.

The whole walk: a signed report, the verifier, the claims, a policy pinned from the healthy
platform.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.appraisal.policy_field import PinChoices
from regalia.policy.documents import wildcards
from regalia.tees.snp.policy.plugin import SNP as SNP_POLICY
from regalia_testing.policy_scenario import PolicyScenario
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.tees.snp.claims import SnpClaims
    from regalia_testing.tees.snp.testbed import SnpTestbed

SNP = "platform.snp"
LAUNCH = {
    "single_socket": True,
    "smt": False,
    "mem_aes_256_xts": True,
    "rapl_dis": True,
    "ciphertext_hiding": True,
    "page_swap_disable": True,
    "id_block": 1,
    "author_key": True,
    "guest_svn": 4,
}
ONE_DEFECT: list[tuple[dict[str, Any], list[str]]] = [
    ({"debug": True}, ["DEBUG_ENABLED"]),
    ({"migrate": True}, ["MIGRATION_ALLOWED"]),
    ({"smt": True}, ["POLICY_BIT"]),
    ({"single_socket": False}, ["POLICY_BIT"]),
    ({"mem_aes_256_xts": False}, ["POLICY_BIT"]),
    ({"rapl_dis": False}, ["POLICY_BIT"]),
    ({"ciphertext_hiding": False}, ["POLICY_BIT"]),
    ({"page_swap_disable": False}, ["POLICY_BIT"]),
    ({"report_version": 3}, ["REPORT_VERSION_TOO_OLD", "MITIGATION_MISSING", "MITIGATION_MISSING"]),
    ({"signing_key": "vlek"}, ["SIGNING_KEY_DENIED", "EMPTY_RULE", "INSTANCE_NOT_ALLOWED"]),
    ({"old_tcb": True}, ["TCB_BELOW_MINIMUM"] * 3),
    ({"old_launch_tcb": True}, ["TCB_BELOW_MINIMUM"]),
    ({"provisional_firmware": True}, ["TCB_PROVISIONAL"]),
    ({"mit_vector": 0x1F}, ["MITIGATION_MISSING"] * 2),
    ({"missing_alias_check": True}, ["PLATFORM_FLAG_MISSING"]),
    ({"missing_ecc": True}, ["PLATFORM_FLAG_MISSING"]),
    ({"vmpl": 1}, ["VMPL_MISMATCH"]),
    ({"wrong_measurement": True}, ["MEASUREMENT_UNKNOWN"]),
    ({"id_block": 0}, ["ID_KEY_UNKNOWN"]),
    ({"id_block": 11}, ["ID_KEY_UNKNOWN"]),
    ({"id_block": 2}, ["ID_BLOCK_DENIED"]),
    ({"author_key": False}, ["ID_BLOCK_DENIED"]),
    ({"guest_svn": 3}, ["ID_BLOCK_DENIED"]),
    ({"wrong_host_data": True}, ["HOST_DATA_UNKNOWN", "CONFIG_MISMATCH"]),
]


def claims_of(testbed: SnpTestbed, **defects: Any) -> SnpClaims:  # noqa: ANN401 - fields of SnpDefects
    evidence = testbed.platform.evidence(
        REPORT_DATA,
        measurement=MEASUREMENT,
        runtime_config=PolicyScenario().config.encode(),
        defects=replace(HEALTHY, **(LAUNCH | defects)),
    )
    return testbed.verify(evidence)


def pinned(claims: SnpClaims) -> PolicyScenario:
    """A policy that the claims meet, in a context that fits."""
    section = SNP_POLICY.pin(claims, PinChoices(machine=True, config=True))
    return PolicyScenario().demand("platform.hardware", "dangerous_simulated").demand(SNP, section)


def codes(scenario: PolicyScenario, claims: SnpClaims) -> list[str]:
    return replace(scenario, claims=claims).codes()


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
def test_the_platform_that_was_pinned_is_allowed(
    testbed_of: Callable[[str], SnpTestbed], product: str
) -> None:
    claims = claims_of(testbed_of(product))
    policy = pinned(claims)
    assert codes(policy, claims) == []
    # Before report version 5 there are no mitigation vectors to pin.
    left_open = () if product == "Turin" else (f"{SNP}.mitigations_required",)
    assert wildcards(policy.policy) == ("platform.hardware=dangerous_simulated", *left_open)


@pytest.mark.parametrize(("defects", "wanted"), ONE_DEFECT, ids=lambda value: str(value)[:40])
def test_one_defect(
    testbed_of: Callable[[str], SnpTestbed], defects: dict[str, Any], wanted: list[str]
) -> None:
    testbed = testbed_of("Turin")
    assert codes(pinned(claims_of(testbed)), claims_of(testbed, **defects)) == wanted


def test_another_chip_of_the_same_line(testbed_of: Callable[[str], SnpTestbed]) -> None:
    testbed = testbed_of("Turin")
    other = replace(
        testbed, platform=replace(testbed.platform, hwid=b"\x05" * 8, secret=b"another chip")
    )
    assert codes(pinned(claims_of(testbed)), claims_of(other)) == ["INSTANCE_NOT_ALLOWED"]


def test_milan_needs_its_chip_named(testbed_of: Callable[[str], SnpTestbed]) -> None:
    claims = claims_of(testbed_of("Milan"))
    assert codes(pinned(claims).demand(f"{SNP}.chip_ids", "any"), claims) == ["PRODUCT_DENIED"]


def test_a_cloud_s_key_is_for_that_cloud(testbed_of: Callable[[str], SnpTestbed]) -> None:
    claims = claims_of(testbed_of("Genoa"), signing_key="vlek")
    policy = pinned(claims).demand(f"{SNP}.chip_ids", "any")
    assert codes(policy, claims) == []
    other = policy.demand(f"{SNP}.csp_ids", ["CN=another.cloud.invalid"])
    assert codes(other, claims) == ["CSP_NOT_ALLOWED"]
    assert codes(policy.demand(f"{SNP}.csp_ids", []), claims) == ["EMPTY_RULE"]


def test_a_newer_image_of_the_pinned_family(testbed_of: Callable[[str], SnpTestbed]) -> None:
    """GUEST_SVN may rise; that is what it is for."""
    testbed = testbed_of("Turin")
    policy = pinned(claims_of(testbed))
    assert codes(policy, claims_of(testbed, guest_svn=9)) == []
    section = policy.policy.platform.snp
    assert section is not None
    assert section.id_blocks != "any"
    (block,) = section.id_blocks
    family = policy.demand(
        f"{SNP}.id_blocks",
        [msgspec.structs.replace(block, family_id="any", image_id="any")],
    )
    assert codes(family, claims_of(testbed, id_block=2)) == []
    assert codes(family, claims_of(testbed, id_block=11)) == ["ID_KEY_UNKNOWN"]
