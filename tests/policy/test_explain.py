"""Explanations: every field is spoken of, every wildcard has its risk, every denial its fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from regalia.appraisal.claims import Hardware
from regalia.policy.documents import wildcards
from regalia.policy.explain import EXPLANATIONS, explain_policy, explain_verdict, statements
from regalia.tees.snp.policy.section import FirmwareMinimum, GuestPolicy
from regalia_testing.policy_defects import NO_ID_BLOCK
from regalia_testing.policy_scenario import ID_BLOCK
from regalia_testing.tees.nvidia.policy import gpu_entry

if TYPE_CHECKING:
    from regalia.policy.documents import ReleasePolicy
    from regalia_testing.policy_scenario import PolicyScenario


def _paths(document: msgspec.Struct, prefix: str = "") -> list[str]:
    out: list[str] = []
    for name in document.__struct_fields__:
        value = getattr(document, name)
        path = f"{prefix}{name}"
        if isinstance(value, msgspec.Struct) and not isinstance(value, FirmwareMinimum):
            out += _paths(value, f"{path}.")
        elif value is not None:  # a section that is absent
            out.append(path)
    return out


def _all_open(scenario: PolicyScenario) -> PolicyScenario:
    snp = (
        "measurements",
        "host_data",
        "id_blocks",
        "guest_policy.single_socket",
        "guest_policy.mem_aes_256_xts",
        "guest_policy.rapl_dis",
        "guest_policy.ciphertext_hiding",
        "guest_policy.page_swap_disable",
        "tcb_minimum",
        "firmware_minimum",
        "mitigations_required",
        "csp_ids",
        "chip_ids",
        "revocation",
    )
    for path in snp:
        scenario = scenario.demand(f"platform.snp.{path}", "any")
    for path in ("regions", "sites", "tiers"):
        scenario = scenario.demand(f"placement.{path}", "any")
    for path in ("owner_key", "log_key", "egress", "opens", "adapters"):
        scenario = scenario.demand(f"runtime.{path}", "any")
    return scenario.demand("platform.hardware", "dangerous_simulated").demand(
        "platform.snp.platform_info_required", []
    )


def test_every_field_of_both_documents_is_spoken_of(scenario: PolicyScenario) -> None:
    for policy in (scenario.policy, scenario.client_policy()):
        assert [each.path for each in statements(policy)] == [
            each.path for each in EXPLANATIONS if each.path in _paths(policy)
        ]
        assert set(_paths(policy)) == {each.path for each in statements(policy)}


def test_statements_are_sentences_with_the_values(scenario: PolicyScenario) -> None:
    for policy in (scenario.policy, _all_open(scenario).policy):
        for each in statements(policy):
            assert each.says.endswith("."), each
            assert each.says[0].isupper() or each.says[0].isdigit(), each
            assert "{}" not in each.says, each
    text = "\n".join(explain_policy(scenario.policy))
    for value in ("11" * 48, "eu-north", "1.55.21", "900 s", "2 approvers", "guest_svn >= 3"):
        assert value in text


def test_every_wildcard_is_explained_with_its_risk(scenario: PolicyScenario) -> None:
    policy = _all_open(scenario).policy
    sentences = explain_policy(policy)
    left_open = wildcards(policy)
    assert len(left_open) == 24
    for path in left_open:
        name = path.partition("=")[0]
        (sentence,) = [each for each in sentences if each.startswith(f"OPEN {name} = ")]
        risk = sentence.partition(": ")[2]
        assert len(risk) > 20
        assert risk.endswith(".")
    assert f"Left open: {len(left_open)}." in sentences


def test_what_an_id_block_leaves_open_is_explained_too(scenario: PolicyScenario) -> None:
    """A wildcard inside an entry of a list is as loud as one outside."""
    blocks = [
        ID_BLOCK,
        msgspec.structs.replace(ID_BLOCK, author_key="any", family_id="any", image_id="any"),
    ]
    policy = scenario.demand("platform.snp.id_blocks", blocks).policy
    names = [
        f"platform.snp.id_blocks[1].{name}" for name in ("author_key", "family_id", "image_id")
    ]
    assert list(wildcards(policy)) == names
    sentences = explain_policy(policy)
    assert "Left open: 3." in sentences
    for name in names:
        assert any(each.startswith(f"{name}: Any ") for each in sentences)
        assert any(each.startswith(f"OPEN {name} = any: ") for each in sentences)
    assert any("none at all" in each for each in explain_policy(_without_id_block(scenario)))


def _without_id_block(scenario: PolicyScenario) -> ReleasePolicy:
    return scenario.demand("platform.snp.id_blocks", [NO_ID_BLOCK]).policy


def test_whoever_signs_sees_all_of_it(scenario: PolicyScenario) -> None:
    """A list or a condition that is cut could hide what an attacker put at its end."""
    digests = [f"{n:02x}" * 48 for n in range(40)]
    condition = " && ".join(f"claims.guest_svn != {n}" for n in range(40))
    policy = (
        scenario.demand("platform.snp.measurements", digests)
        .demand("conditions", [condition])
        .demand("runtime.egress", [f"host-{n}.example:443" for n in range(40)])
        .policy
    )
    text = "\n".join(explain_policy(policy))
    values = "\n".join(each.value for each in statements(policy))
    for part in (digests[-1], condition, "host-39.example:443"):
        assert part in text
        assert part in values


def test_a_closed_policy_says_so(scenario: PolicyScenario) -> None:
    sentences = explain_policy(scenario.policy)
    assert "Nothing is left open." in sentences
    assert not any(each.startswith("OPEN") for each in sentences)


@pytest.mark.parametrize(
    "path", ["platform.snp.products", "platform.snp.measurements", "custody", "placement.regions"]
)
def test_an_empty_list_is_said_to_deny(scenario: PolicyScenario, path: str) -> None:
    text = "\n".join(explain_policy(scenario.demand(path, []).policy))
    assert "this policy denies everything" in text


def test_weak_words_are_spoken_of(scenario: PolicyScenario) -> None:
    weak = (
        scenario.demand("platform.snp.provisional_firmware", "allow")
        .demand("approvals.threshold", 0)
        .demand("approvals.approvers", [])
        .demand("conditions", [])
        .demand("runtime.egress", [])
        .demand("platform.snp.csp_ids", [])
        .demand("platform.snp.tcb_minimum", {})
        .demand("platform.devices", [gpu_entry()])
        .demand(
            "platform.snp.guest_policy",
            GuestPolicy(
                abi_minor_min=0,
                abi_major_min=0,
                smt="deny",
                single_socket="any",
                cxl="allow",
                mem_aes_256_xts="any",
                rapl_dis="any",
                ciphertext_hiding="any",
                page_swap_disable="any",
            ),
        )
    )
    text = "\n".join(explain_policy(weak.policy))
    for sentence in (
        "not committed is accepted",
        "no person's approval",
        "no further conditions",
        "may list no outbound address",
        "No cloud provider's VLEK",
        "No product has a TCB minimum",
        "Exactly 8 devices must be there",
        "must refuse to run with SMT",
        "CXL memory may be attached",
        "may span sockets",
        "may run without ciphertext hiding",
    ):
        assert sentence in text


def test_a_denial_says_why_and_what_would_fix_it(scenario: PolicyScenario) -> None:
    sentences = explain_verdict(scenario.attest(vmpl=1, chip_id=b"\x09" * 64).verdict())
    text = "\n".join(sentences)
    assert sentences[0] == "DENY: 2 reasons."
    assert "1. INSTANCE_NOT_ALLOWED: " in text
    assert "2. VMPL_MISMATCH: VMPL 1; accepted: 0." in text
    assert text.count("Why it matters: ") == 2
    assert text.count("What would fix it: ") == 2
    assert "09" * 64 in text
    assert explain_verdict(scenario.attest(vmpl=1).verdict())[0] == "DENY: 1 reason."


def test_simulation_and_wildcards_are_said_of_an_allowed_verdict_too(
    scenario: PolicyScenario,
) -> None:
    trial = _all_open(scenario).attest(hardware=Hardware.SIMULATED)
    trial = trial.demand("platform.snp.measurements", ["11" * 48])
    sentences = explain_verdict(trial.verdict())
    assert sentences[0].startswith("ALLOW")
    assert any("simulated" in each and "protects nothing" in each for each in sentences)
    assert any("leaves it open" in each and "placement.sites" in each for each in sentences)
    assert len(explain_verdict(scenario.verdict())) == 1
