"""Genuine, and not acceptable: what the verifier passes on, the policy refuses.

Real claims come from real evidence through the verifier, nothing is minted here. Real reports
carry somebody else's HOST_DATA, so CONFIG_MISMATCH stands in every verdict on them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.policy.evaluate import ClientContext, Deny, evaluate_client
from regalia.policy.pin import pin_client
from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tees.snp.policy.section import GuestPolicy, Snp
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.policy_scenario import MODEL, NOW, PolicyScenario
from regalia_testing.relying_party import CHOICES
from regalia_testing.tees.snp.defects import SnpDefects
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.policy.documents import ClientPolicy
    from regalia.tees.snp.claims import SnpClaims
    from regalia_testing.tees.snp.testbed import SnpTestbed

    Appraise = Callable[[str, str, str], SnpClaims]

REPORT_DATA_AT = slice(0x50, 0x90)
CONFIG = PolicyScenario().config
CONTEXT = ClientContext(
    now=NOW, challenge_age_s=1.0, runtime_config=CONFIG, model_id=MODEL, model_version=7
)


def reasons(policy: ClientPolicy, claims: SnpClaims) -> set[str]:
    verdict = evaluate_client(policy, claims, CONTEXT)
    return {each.code.name for each in verdict.reasons} if isinstance(verdict, Deny) else set()


def lenient(claims: SnpClaims, **stricter: Any) -> ClientPolicy:  # noqa: ANN401 - fields of Snp
    """Accept all that the policy language can accept of this very platform."""
    snp = Snp(
        products=[claims.product],
        measurements=[claims.measurement.hex()],
        host_data="any",
        id_blocks="any",
        vmpl=[claims.vmpl],
        guest_policy=GuestPolicy(
            abi_minor_min=0,
            abi_major_min=0,
            smt="allow",
            single_socket="any",
            cxl="allow",
            mem_aes_256_xts="any",
            rapl_dis="any",
            ciphertext_hiding="any",
            page_swap_disable="any",
        ),
        platform_info_required=[],
        tcb_minimum="any",
        firmware_minimum="any",
        provisional_firmware="allow",
        mitigations_required="any",
        report_version_minimum=2,
        signing_keys=["vcek", "vlek"],
        csp_ids="any",
        chip_ids=[claims.chip_id.hex()],
        revocation="any",
    )
    policy = PolicyScenario().client_policy()
    platform = msgspec.structs.replace(
        policy.platform, snp=msgspec.structs.replace(snp, **stricter)
    )
    return msgspec.structs.replace(policy, platform=platform, conditions=[])


@pytest.fixture
def real_claims(vectors: Path, certificates: Callable[[Path], tuple[bytes, ...]]) -> Appraise:
    def appraise(name: str, chain: str, day: str) -> SnpClaims:
        folder = vectors / "snp/milan"
        report = (folder / f"{name}-report.bin").read_bytes()
        leaf = "coco-vlek.der" if name == "coco-vlek" else f"{name}-vcek.der"
        at = AppraisalContext(
            now=datetime.fromisoformat(day).replace(tzinfo=UTC),
            rule=CollateralRule(RevocationRule.ANY, NO_GRACE),
            cache=Cache(),
        )
        return verify_fresh(
            SNP,
            Evidence(Tee.SEV_SNP, report, certificates(folder / leaf), b""),
            anchors=SnpAnchors.production(),
            collateral=SnpCollateral(certificates(folder / chain), ()),
            report_data=report[REPORT_DATA_AT],
            at=at,
        )

    return appraise


def test_google_report_is_in_debug_mode(real_claims: Appraise) -> None:
    claims = real_claims("google", "ask_ark.pem", "2022-10-01")
    assert reasons(lenient(claims), claims) == {"CONFIG_MISMATCH", "DEBUG_ENABLED"}


def test_coco_report_runs_provisional_firmware(real_claims: Appraise) -> None:
    claims = real_claims("coco", "ask_ark.pem", "2023-02-01")
    assert reasons(lenient(claims), claims) == {"CONFIG_MISMATCH"}  # the word allows it
    strict = lenient(claims, provisional_firmware="deny")
    assert reasons(strict, claims) == {"CONFIG_MISMATCH", "TCB_PROVISIONAL"}


def test_coco_vlek_report_was_asked_for_at_vmpl_1(real_claims: Appraise) -> None:
    claims = real_claims("coco-vlek", "asvk_ark.pem", "2025-06-01")
    assert reasons(lenient(claims, vmpl=[0]), claims) >= {"VMPL_MISMATCH"}
    assert "VMPL_MISMATCH" not in reasons(lenient(claims), claims)
    other_cloud = lenient(claims, csp_ids=["CN=cc-elsewhere.example"])
    assert "CSP_NOT_ALLOWED" in reasons(other_cloud, claims)


@pytest.mark.parametrize(
    ("name", "chain", "day"),
    [
        ("google", "ask_ark.pem", "2022-10-01"),
        ("coco", "ask_ark.pem", "2023-02-01"),
        ("coco-vlek", "asvk_ark.pem", "2025-06-01"),
    ],
)
def test_milan_and_unknown_revocation_need_words(
    real_claims: Appraise, name: str, chain: str, day: str
) -> None:
    claims = real_claims(name, chain, day)
    assert "REVOCATION_UNKNOWN" in reasons(lenient(claims, revocation="required"), claims)
    assert "PRODUCT_DENIED" in reasons(lenient(claims, chip_ids="any"), claims)


# The simulated platform, through verifier and policy.

DENIED = [
    ({"debug": True}, "DEBUG_ENABLED"),
    ({"migrate": True}, "MIGRATION_ALLOWED"),
    ({"wrong_measurement": True}, "MEASUREMENT_UNKNOWN"),
    ({"wrong_host_data": True}, "CONFIG_MISMATCH"),
    ({"vmpl": 1}, "VMPL_MISMATCH"),
    ({"old_tcb": True}, "TCB_BELOW_MINIMUM"),
    ({"old_launch_tcb": True}, "TCB_BELOW_MINIMUM"),
    ({"provisional_firmware": True}, "TCB_PROVISIONAL"),
    ({"missing_alias_check": True}, "PLATFORM_FLAG_MISSING"),
    ({"missing_ecc": True}, "PLATFORM_FLAG_MISSING"),
    ({"report_version": 2}, "REPORT_VERSION_TOO_OLD"),
    ({"signing_key": "vlek"}, "SIGNING_KEY_DENIED"),
]


@pytest.fixture
def pinned(testbed: SnpTestbed) -> Callable[[SnpDefects], set[str]]:
    """The reasons of a policy that was pinned on the healthy platform."""

    def claims(defects: SnpDefects) -> SnpClaims:
        evidence = testbed.platform.evidence(
            REPORT_DATA, measurement=MEASUREMENT, runtime_config=CONFIG.encode(), defects=defects
        )
        return testbed.verify(evidence)

    policy = pin_client(claims(SnpDefects()), CONFIG, replace(CHOICES, pin_chip=True), now=NOW)
    return lambda defects: reasons(policy, claims(defects))


def test_the_healthy_platform_is_accepted(pinned: Callable[[SnpDefects], set[str]]) -> None:
    assert pinned(SnpDefects()) == set()


@pytest.mark.parametrize(("defects", "code"), DENIED)
def test_genuine_but_denied(
    pinned: Callable[[SnpDefects], set[str]], defects: dict[str, Any], code: str
) -> None:
    assert code in pinned(SnpDefects(**defects))


def test_simulated_hardware_is_denied_where_genuine_is_wanted(testbed: SnpTestbed) -> None:
    claims = testbed.verify(testbed.evidence())
    assert "SIMULATED_HARDWARE" in reasons(lenient(claims), claims)
