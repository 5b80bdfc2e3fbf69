"""The Azure section: what its rules accept, pinning, conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import Revocation
from regalia.core.errors import ParseError
from regalia.policy.documents import parse_release_policy
from regalia.policy.pin import pin_client, pin_release
from regalia_testing.tees.azure.policy import (
    AZURE_SNP,
    VM_ID,
    azure_snp_scenario,
    azure_tdx_scenario,
    below,
    register,
    vm,
)
from tests.policy.choices import owner_choices

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario

VM = f"{AZURE_SNP}.vm"
PARAVISOR = f"{AZURE_SNP}.paravisor"


@pytest.fixture
def scenario() -> PolicyScenario:
    return azure_snp_scenario()


def test_log_or_registers_must_hold_the_workload(scenario: PolicyScenario) -> None:
    assert scenario.demand(f"{VM}.pcrs", "any").codes() == []
    assert scenario.demand(f"{VM}.boot.boot_images", "any").codes() == []


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


@pytest.mark.parametrize("condition", ["claims.tdx.xfam != ''", "claims.azure.secure_boot"])
def test_conditions_on_tdx(condition: str) -> None:
    assert azure_tdx_scenario().demand("conditions", [condition]).codes() == []
