"""The Azure section: pinning, sentences, conditions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regalia.appraisal.claims import Revocation
from regalia.appraisal.collateral_rule import CollateralRule
from regalia.core.errors import ParseError
from regalia.policy.documents import collateral_rule, parse_release_policy
from regalia.policy.explain import explain_policy, statements
from regalia.policy.pin import pin_client, pin_release
from regalia.policy.verdict import Allow
from regalia.wire.evidence import Tee
from regalia_testing.policy_scenario import PolicyScenario
from regalia_testing.tees.azure.policy import (
    AZURE_SNP,
    AZURE_TDX,
    VM_ID,
    azure_snp_scenario,
    azure_tdx_scenario,
    below,
    register,
    vm,
)
from tests.policy.choices import owner_choices

VM = f"{AZURE_SNP}.vm"
PARAVISOR = f"{AZURE_SNP}.paravisor"


@pytest.fixture
def scenario() -> PolicyScenario:
    return azure_snp_scenario()


def test_log_or_registers_must_hold_the_workload(scenario: PolicyScenario) -> None:
    assert scenario.demand(f"{VM}.pcrs", "any").codes() == []
    assert scenario.demand(f"{VM}.boot.boot_images", "any").codes() == []


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (f"{VM}.secure_boot", "any", f"{VM}.secure_boot"),
        (f"{VM}.tpm", "any", f"{VM}.tpm"),
        (f"{VM}.console", "allow", f"{VM}.console=allow"),
        (f"{VM}.vm_ids", "any", f"{VM}.vm_ids"),
        (f"{PARAVISOR}.host_data", "any", f"{PARAVISOR}.host_data"),
        (
            f"{PARAVISOR}.platform_info_required",
            [],
            f"{PARAVISOR}.platform_info_required=[]",
        ),
    ],
)
def test_what_is_open_shows(scenario: PolicyScenario, path: str, value: object, name: str) -> None:
    opened = scenario.demand(path, value)
    verdict = opened.verdict()
    assert isinstance(verdict, Allow), verdict
    assert verdict.wildcards == (name,)
    assert any(line.startswith(f"OPEN {path} ") for line in explain_policy(opened.policy))


def test_an_open_word_accepts_what_it_says(scenario: PolicyScenario) -> None:
    for path, value, change in (
        (f"{VM}.secure_boot", "any", vm(secure_boot=False)),
        (f"{VM}.tpm", "any", vm(tpm_enabled=False)),
        (f"{VM}.console", "allow", vm(console_enabled=True)),
        (f"{VM}.vm_ids", "any", vm(vm_unique_id="another")),
        (f"{PARAVISOR}.revocation", "any", below(revocation=Revocation.UNKNOWN)),
    ):
        assert change(scenario.demand(path, value)).codes() == []


def test_registers_that_are_not_listed_are_not_looked_at(scenario: PolicyScenario) -> None:
    assert register(10, b"\xee" * 32)(scenario).codes() == []


def test_another_sections_word_is_nothing(scenario: PolicyScenario) -> None:
    """An owner who accepts SNP alone has said nothing of paravisors."""
    alone = scenario.demand(AZURE_SNP, None).demand(
        "platform.snp", PolicyScenario().policy.platform.snp
    )
    assert alone.codes() == ["TEE_NOT_ACCEPTED"]
    theirs = (
        PolicyScenario()
        .demand("platform.snp", None)
        .demand(AZURE_SNP, scenario.policy.platform.azure_snp)
    )
    assert theirs.codes() == ["TEE_NOT_ACCEPTED"]


def test_words_for_collateral(scenario: PolicyScenario) -> None:
    assert collateral_rule(scenario.policy.platform, Tee.AZURE_SNP) == CollateralRule.of_words(
        "required", 0
    )
    opened = scenario.demand(f"{PARAVISOR}.revocation", "any")
    assert collateral_rule(opened.policy.platform, Tee.AZURE_SNP) == CollateralRule.of_words(
        "any", 0
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{VM}.pcrs", {"24": ["00" * 32]}),
        (f"{VM}.pcrs", {"04": ["00" * 32]}),
        (f"{VM}.pcrs", {"x": ["00" * 32]}),
        (f"{VM}.pcrs", {"4": ["00" * 31]}),
        (f"{VM}.pcrs", {"4": ["00" * 32, "00" * 32]}),
        (f"{VM}.vm_ids", ["any"]),
        (f"{VM}.console", "any"),
        (f"{PARAVISOR}.measurements", ["00"]),
    ],
)
def test_documents_that_are_not_well_formed(
    scenario: PolicyScenario, path: str, value: object
) -> None:
    with pytest.raises(ParseError):
        parse_release_policy(scenario.demand(path, value).policy.encode())
    parse_release_policy(scenario.policy.encode())


def test_every_field_has_a_sentence(scenario: PolicyScenario) -> None:
    section = scenario.policy.platform.azure_snp
    assert section is not None
    said = {each.path for each in statements(scenario.policy)}
    assert {f"{VM}.{name}" for name in section.vm.__struct_fields__} - said == {f"{VM}.boot"}
    assert {f"{VM}.boot.{name}" for name in section.vm.boot.__struct_fields__} <= said
    below_paths = {f"{PARAVISOR}.{name}" for name in section.paravisor.__struct_fields__}
    assert below_paths - said == {f"{PARAVISOR}.guest_policy"}  # its members have sentences
    assert any(path.startswith(f"{PARAVISOR}.guest_policy.") for path in said)


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        (f"claims.azure.vm_unique_id == '{VM_ID}'", None),
        ("claims.azure.secure_boot && !claims.azure.console_enabled", None),
        (f"claims.azure.pcrs.pcr7 == '{'07' * 32}'", None),
        ("claims.azure.reset_count == 2 && claims.vmpl == 0", None),
        ("claims.guest_svn >= 3", None),
        ("claims.azure.reset_count > 2", "CONDITION_FALSE"),
        ("claims.nitro.age_ms < 10", "CONDITION_ERROR"),
    ],
)
def test_conditions(scenario: PolicyScenario, condition: str, code: str | None) -> None:
    assert scenario.demand("conditions", [condition]).codes() == ([code] if code else [])


@pytest.mark.parametrize("pin", [True, False])
def test_a_pinned_policy_accepts_what_it_was_pinned_from(
    scenario: PolicyScenario, *, pin: bool
) -> None:
    chosen = owner_choices(scenario, pin_chip=pin, pin_host_data=pin)
    policy = pin_release(scenario.claims, scenario.config, chosen, now=scenario.context().now)
    pin_client(scenario.claims, scenario.config, chosen, now=scenario.context().now)
    section = policy.platform.azure_snp
    assert section is not None
    assert policy.platform.snp is None
    assert (section.vm.vm_ids == "any") == (not pin)
    assert section.vm.pcrs != "any"
    assert ("15" in section.vm.pcrs) == pin
    assert section.paravisor.host_data != "any"
    pinned = replace(scenario, policy=policy, approvals=frozenset())
    assert pinned.codes() == []
    for change in (
        register(4, b"\xee" * 32),
        register(7, b"\xee" * 32),
        vm(secure_boot=False),
        vm(console_enabled=True),
        below(measurement=b"\xee" * 48),
        below(host_data=b"\xee" * 32),
    ):
        assert change(pinned).codes()


# On TDX. The words about the VM are the same; the rules of a TD have tests of their own.


def test_words_for_collateral_on_tdx() -> None:
    platform = azure_tdx_scenario().policy.platform
    assert collateral_rule(platform, Tee.AZURE_TDX) == CollateralRule.of_words("required", 0)


def test_sections_of_the_two_kinds_are_apart(scenario: PolicyScenario) -> None:
    tdx = azure_tdx_scenario()
    swapped = tdx.demand(AZURE_TDX, None).demand(AZURE_SNP, scenario.policy.platform.azure_snp)
    assert swapped.codes() == ["TEE_NOT_ACCEPTED"]
    alone = tdx.demand("platform.tdx", tdx.policy.platform.azure_tdx.paravisor)
    assert alone.demand(AZURE_TDX, None).codes() == ["TEE_NOT_ACCEPTED"]


def test_sentences_on_tdx() -> None:
    said = {each.path for each in statements(azure_tdx_scenario().policy)}
    for name in ("secure_boot", "tpm", "console", "vm_ids", "pcrs"):
        assert f"{AZURE_TDX}.vm.{name}" in said
    assert f"{AZURE_TDX}.paravisor.mrtd" in said
    assert f"{AZURE_TDX}.paravisor.rtmrs.rtmr0" in said


@pytest.mark.parametrize("condition", ["claims.tdx.xfam != ''", "claims.azure.secure_boot"])
def test_conditions_on_tdx(condition: str) -> None:
    assert azure_tdx_scenario().demand("conditions", [condition]).codes() == []
