"""What holds for the rules of every TEE: the good scenario, one code a defect, and empty lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import Hardware
from regalia.appraisal.policy_codes import PolicyCode
from regalia.policy.documents import parse_client_policy, parse_release_policy
from regalia.policy.explain import explain_verdict
from regalia.policy.pin import pin_client, pin_release
from regalia.policy.registry import POLICY_PLUGINS
from regalia.policy.verdict import Allow, Deny
from regalia.wire.evidence import Tee
from regalia_testing.policy_defects import DEFECTS, SNP
from regalia_testing.policy_scenario import PolicyScenario, changed
from regalia_testing.tees.azure.policy import (
    AZURE_DEFECTS,
    AZURE_SNP,
    AZURE_TDX,
    AZURE_TDX_DEFECTS,
    azure_snp_scenario,
    azure_tdx_scenario,
)
from regalia_testing.tees.intel.policy import (
    SGX,
    SGX_DEFECTS,
    TDX,
    TDX_DEFECTS,
    sgx_scenario,
    tdx_scenario,
)
from regalia_testing.tees.nitro.policy import NITRO, NITRO_DEFECTS, nitro_scenario
from regalia_testing.tees.nvidia.policy import DEVICE_DEFECTS
from regalia_testing.tees.tpm.policy import TPM, TPM_DEFECTS, tpm_scenario
from tests.policy.choices import owner_choices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Defect = tuple[str, Callable[[PolicyScenario], PolicyScenario]]


@dataclass(frozen=True)
class Rules:
    """The rules of one TEE.

    Attributes:
        make: a scenario that the policy allows.
        section: where the words of the TEE stand.
        defects: what a scenario may have wrong, and the code of it.
        lists: fields of the section whose list of accepted values is never empty.
        registers: fields whose table of registers is never empty, and no register's list either.
        left_open: where the good scenario has wildcards.
        not_pinned: defects of the claims that a pinned policy accepts, because pinning leaves
            the word to the owner.
    """

    make: Callable[[], PolicyScenario]
    section: str
    defects: Mapping[str, Defect]
    lists: Iterable[str]
    registers: Iterable[str] = ()
    left_open: str | None = None
    not_pinned: frozenset[str] = frozenset()


_TDX_LISTS = (
    *("tcb_statuses", "ppids", "mrtd", "mr_config_id", "mr_owner", "mr_owner_config"),
    *("mr_seam", "mr_signer_seam", "xfam", "rtmrs.rtmr0", "rtmrs.rtmr1", "rtmrs.rtmr2"),
    "rtmrs.rtmr3",
)
_VM_LISTS = ("vm.vm_ids", "vm.boot.boot_images")
RULES = {
    Tee.SEV_SNP: Rules(
        PolicyScenario,
        SNP,
        DEFECTS,
        ("products", "measurements", "host_data", "id_blocks", "vmpl", "signing_keys", "chip_ids"),
        not_pinned=frozenset({"csp", "csp_absent"}),
    ),
    Tee.TDX: Rules(
        tdx_scenario, TDX, TDX_DEFECTS, _TDX_LISTS, not_pinned=frozenset({"advisory", "module"})
    ),
    Tee.SGX: Rules(
        sgx_scenario,
        SGX,
        SGX_DEFECTS,
        (
            *("tcb_statuses", "ppids", "mrenclaves", "mrsigners", "isv_prod_ids", "config_ids"),
            "xfrm",
        ),
        not_pinned=frozenset({"advisory"}),
    ),
    Tee.TPM: Rules(
        lambda: tpm_scenario(PolicyScenario()),
        TPM,
        TPM_DEFECTS,
        ("bindings", "eks", "manufacturers", "boot.boot_images", "boot.loader_texts"),
        registers=("pcrs",),
        not_pinned=frozenset({"rebooted", "enrolment_unknown"}),
    ),
    Tee.NITRO: Rules(
        nitro_scenario,
        NITRO,
        NITRO_DEFECTS,
        ("pcr0", "pcr1", "pcr2", "pcr3", "pcr8", "pcr16", "instances"),
        not_pinned=frozenset({"old"}),
    ),
    Tee.AZURE_SNP: Rules(
        azure_snp_scenario,
        AZURE_SNP,
        AZURE_DEFECTS,
        (
            *(f"paravisor.{name}" for name in ("products", "measurements", "host_data", "vmpl")),
            *("paravisor.chip_ids", *_VM_LISTS),
        ),
        registers=("vm.pcrs",),
    ),
    Tee.AZURE_TDX: Rules(
        azure_tdx_scenario,
        AZURE_TDX,
        AZURE_TDX_DEFECTS,
        ("paravisor.mrtd", *_VM_LISTS),
        registers=("vm.pcrs",),
        left_open=f"{AZURE_TDX}.paravisor.",
    ),
}


def test_every_tee_has_its_rules_here() -> None:
    assert set(RULES) == set(Tee)


@pytest.mark.parametrize("tee", RULES)
def test_the_scene_itself_is_allowed(tee: Tee) -> None:
    rules = RULES[tee]
    scenario = rules.make()
    for verdict in (scenario.verdict(), scenario.client_verdict()):
        assert isinstance(verdict, Allow), verdict
        assert verdict.hardware is Hardware.GENUINE
        if rules.left_open is None:
            assert verdict.wildcards == ()
        else:
            assert verdict.wildcards != ()
            assert all(path.startswith(rules.left_open) for path in verdict.wildcards)
    assert parse_release_policy(scenario.policy.encode()) == scenario.policy
    assert parse_client_policy(scenario.client_policy().encode()) == scenario.client_policy()


@pytest.mark.parametrize(
    ("tee", "name"), [(tee, name) for tee, rules in RULES.items() for name in rules.defects]
)
def test_one_defect_gives_its_code_and_no_other(tee: Tee, name: str) -> None:
    code, defect = RULES[tee].defects[name]
    verdict = defect(RULES[tee].make()).verdict()
    assert isinstance(verdict, Deny)
    assert [each.code.name for each in verdict.reasons] == [code]
    assert all(each.fix for each in verdict.reasons)
    assert (verdict.error().code.name, verdict.error().exit_status) == (code, 6)
    assert all(len(line) < 600 for line in explain_verdict(verdict))


def test_every_code_has_a_defect() -> None:
    defects = [*DEVICE_DEFECTS.values()]
    for rules in RULES.values():
        defects += rules.defects.values()
    assert {code for code, _ in defects} | {"EMPTY_RULE"} == set(PolicyCode.__members__)


def empties() -> list[tuple[Tee, str, object]]:
    found: list[tuple[Tee, str, object]] = []
    for tee, rules in RULES.items():
        found += [(tee, field, []) for field in rules.lists]
        found += [(tee, field, value) for field in rules.registers for value in ({}, {"4": []})]
    return found


@pytest.mark.parametrize(("tee", "field", "empty"), empties())
def test_an_empty_list_of_accepted_values_denies(tee: Tee, field: str, empty: object) -> None:
    path = f"{RULES[tee].section}.{field}"
    verdict = RULES[tee].make().demand(path, empty).verdict()
    assert isinstance(verdict, Deny)
    assert [each.code.name for each in verdict.reasons] == ["EMPTY_RULE"]
    assert path in verdict.reasons[0].what


def pinned(tee: Tee, **choices: bool) -> PolicyScenario:
    """The good scenario under a policy that was pinned from it."""
    scenario = RULES[tee].make()
    chosen = owner_choices(scenario, **choices)
    policy = pin_release(scenario.claims, scenario.config, chosen, now=scenario.context().now)
    client = pin_client(scenario.claims, scenario.config, chosen, now=scenario.context().now)
    assert client.platform == policy.platform
    return replace(scenario, policy=policy, approvals=frozenset())


@pytest.mark.parametrize("tee", RULES)
@pytest.mark.parametrize("pin_chip", [True, False])
@pytest.mark.parametrize("pin_host_data", [True, False])
def test_a_pinned_policy_accepts_what_it_was_pinned_from(
    tee: Tee, *, pin_chip: bool, pin_host_data: bool
) -> None:
    scenario = pinned(tee, pin_chip=pin_chip, pin_host_data=pin_host_data)
    assert scenario.codes() == []
    platform = scenario.policy.platform
    (plugin,) = [each for each in POLICY_PLUGINS if getattr(platform, each.name) is not None]
    assert plugin.tee is tee
    assert plugin.lists_machines(getattr(platform, plugin.name)) is pin_chip
    assert parse_release_policy(scenario.policy.encode()) == scenario.policy


def broken_claims() -> list[tuple[Tee, str]]:
    """The defects that are of the claims, and not of the policy."""
    return [
        (tee, name)
        for tee, rules in RULES.items()
        for name, (_, defect) in rules.defects.items()
        if defect(rules.make()).policy == rules.make().policy
    ]


@pytest.mark.parametrize(("tee", "name"), broken_claims())
def test_a_pinned_policy_refuses_what_differs(tee: Tee, name: str) -> None:
    """In the sections about the platform; what else a policy says is the owner's choice."""
    code, defect = RULES[tee].defects[name]
    platform = pinned(tee).policy.platform
    broken = defect(RULES[tee].make())
    codes = replace(broken, policy=changed(broken.policy, "platform", platform)).codes()
    assert (code in codes) is (name not in RULES[tee].not_pinned), codes
