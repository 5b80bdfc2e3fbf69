"""Attacks on the platform below the workload: old firmware, aliased memory, leaked seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import MINT
from regalia.tees.snp.claims import SnpClaims
from regalia.tees.snp.policy.section import TcbMinimum

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.relying_party import RelyingParty

SNP = "platform.snp"
TDX = "platform.tdx"


def test_stale_tcb_of_snp(snp: RelyingParty) -> None:
    """The leaf is for the old TCB, so that the evidence is genuine: only a minimum refuses it."""
    assert snp.against() == []
    assert set(snp.against(old_tcb=True)) == {"TCB_BELOW_MINIMUM"}
    assert snp.but(f"{SNP}.tcb_minimum", "any").against(old_tcb=True) == []


def test_stale_tcb_at_launch(snp: RelyingParty) -> None:
    """The host was updated after the guest had started on the weak firmware."""
    assert snp.against(old_launch_tcb=True) == ["TCB_BELOW_MINIMUM"]


def test_firmware_that_can_be_rolled_back(snp: RelyingParty) -> None:
    assert "TCB_PROVISIONAL" in snp.against(provisional_firmware=True)


@pytest.mark.parametrize("component", ["bootloader", "tee", "snp", "microcode"])
def test_a_high_component_does_not_make_up_for_a_low_one(snp: RelyingParty, component: str) -> None:
    """Compared as one number, a high microcode would hide an old boot loader."""
    claims = snp.claims(snp.make())
    assert isinstance(claims, SnpClaims)
    high = {name: value + 1 for name, value in claims.reported_tcb.components().items()}
    minimum = TcbMinimum(**claims.reported_tcb.components())
    higher = replace(claims.reported_tcb, **high)
    lower = replace(higher, **{component: getattr(minimum, component) - 1})
    relying_party = snp.but(f"{SNP}.tcb_minimum", {claims.product: minimum})
    for tcb, codes in ((higher, []), (lower, ["TCB_BELOW_MINIMUM"] * 3)):
        found = replace(
            claims, current_tcb=tcb, reported_tcb=tcb, committed_tcb=tcb, launch_tcb=tcb, mint=MINT
        )
        assert relying_party.judge(found) == codes


@pytest.mark.parametrize("tee", ["tdx", "sgx"])
@pytest.mark.parametrize(
    ("level", "code"),
    [
        ("OutOfDate", "TCB_OUT_OF_DATE"),
        ("OutOfDateConfigurationNeeded", "TCB_OUT_OF_DATE"),
        ("ConfigurationNeeded", "TCB_STATUS_DENIED"),
        ("Revoked", "TCB_REVOKED"),
        ("below", "TCB_NO_MATCH"),
    ],
)
def test_stale_tcb_of_intel(
    request: pytest.FixtureRequest, tee: str, level: str, code: str
) -> None:
    relying_party: RelyingParty = request.getfixturevalue(tee)
    assert relying_party.against() == []
    assert code in relying_party.against(level=level)


def test_stale_tdx_module(tdx: RelyingParty) -> None:
    assert "TCB_OUT_OF_DATE" in tdx.against(module="OutOfDate")
    assert tdx.against(module="Revoked") == ["TCB_REVOKED"]


def test_badram_memory_aliasing(snp: RelyingParty) -> None:
    """Firmware that checks for aliases says so in ALIAS_CHECK_COMPLETE; pinning demands it."""
    assert "ALIAS_CHECK_COMPLETE" in snp.policy.platform.snp.platform_info_required  # type: ignore[union-attr] # pinned
    assert snp.against() == []
    assert snp.against(missing_alias_check=True) == ["PLATFORM_FLAG_MISSING"]
    assert snp.against(missing_ecc=True) == ["PLATFORM_FLAG_MISSING"]


def test_milan_seed_extraction(snp_of: Callable[[str], RelyingParty]) -> None:
    """Whoever had a Milan chip in hand forges its reports for every TCB: the chip must be yours."""
    milan = snp_of("Milan")
    assert milan.against() == []  # chip_ids names it
    assert milan.but(f"{SNP}.chip_ids", "any").against() == ["PRODUCT_DENIED"]
    other = milan.but(f"{SNP}.chip_ids", ["45" * 64]).against()
    assert set(other) == {"PRODUCT_DENIED", "INSTANCE_NOT_ALLOWED"}
    genoa = snp_of("Genoa")
    assert genoa.but(f"{SNP}.chip_ids", "any").against() == []


def test_milan_behind_a_vlek_or_a_mask(snp_of: Callable[[str], RelyingParty]) -> None:
    """Without a chip id no list can name the chip."""
    milan = snp_of("Milan").but(f"{SNP}.signing_keys", ["vcek", "vlek"])
    milan = milan.but(f"{SNP}.csp_ids", "any")
    codes = milan.against(signing_key="vlek")
    assert {"PRODUCT_DENIED", "INSTANCE_NOT_ALLOWED"} <= set(codes)
    assert milan.against(mask_chip_id=True) == ["LEAF_BINDING_MISMATCH"]


def test_firmware_bugs_fixed_by_live_update(snp_of: Callable[[str], RelyingParty]) -> None:
    """No TCB number shows that the fix ran: only the mitigation vectors of report version 5 do."""
    turin = snp_of("Turin")
    assert turin.policy.platform.snp.mitigations_required == 0x3F  # type: ignore[union-attr] # pinned
    assert turin.against() == []
    assert turin.against(mit_vector=0x3E) == ["MITIGATION_MISSING"] * 2
    assert "REPORT_VERSION_TOO_OLD" in turin.against(report_version=3)
    for vector in ("launch_mit_vector", "current_mit_vector"):
        claims = replace(turin.claims(turin.make()), mint=MINT, **{vector: 0x1F})  # type: ignore[type-var] # a dataclass
        assert turin.judge(claims) == ["MITIGATION_MISSING"]


def test_a_report_without_vectors_does_not_meet_a_demand_for_them(
    snp_of: Callable[[str], RelyingParty],
) -> None:
    turin = snp_of("Turin").but(f"{SNP}.report_version_minimum", 0)
    assert "MITIGATION_MISSING" in turin.against(report_version=3)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_vmpl_confusion(snp: RelyingParty, level: int) -> None:
    """A report of a lower privilege level: something unmeasured may run above it."""
    assert snp.against(vmpl=level) == ["VMPL_MISMATCH"]
    assert snp.but(f"{SNP}.vmpl", [level]).against() == ["VMPL_MISMATCH"]  # exact, not at most
    assert snp.but(f"{SNP}.vmpl", [level]).against(vmpl=level) == []


def test_vmpl_confusion_below_a_paravisor(azure_snp_vm: RelyingParty) -> None:
    assert azure_snp_vm.against() == []
    assert azure_snp_vm.against(vmpl=1) == ["PARAVISOR_LEVEL"]


def test_a_service_td_that_acts_on_the_td(tdx: RelyingParty) -> None:
    assert tdx.against(service_td=True) == ["SERVICE_TD_DENIED"]


def test_extended_features_beyond_the_expected(tdx: RelyingParty) -> None:
    assert tdx.against(xfam=0xE7) == ["POLICY_BIT"]
    assert "POLICY_BIT" in tdx.against(sept_ve_disable=False)
