"""The product as the golden files use it: every import of it, and the few calls behind them.

When a module moves or a name changes, this file is the one to mend; the golden files stay.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from regalia.cli.main import cli, run
from regalia.core.errors import RegaliaError
from regalia.core.types import KeyFingerprint, ModelId
from regalia.policy.baseline import BaselineWords, baseline
from regalia.policy.condition_fields import CLIENT_FIELDS, RELEASE_FIELDS, release_values
from regalia.policy.documents import parse_release_policy, platform_wildcards, wildcards
from regalia.policy.ear import device_submod, refused_submod, submod
from regalia.policy.explain import explain_verdict, platform_statements, statements
from regalia.policy.pin import OwnerChoices, pin_client, pin_lone_devices, pin_release
from regalia.policy.platform import PlatformRules
from regalia.wire.evidence import Evidence, Tee, device_nonce, devices_digest
from regalia.wire.serving import HPKE_KEY_SIZE, ServingEvidence
from regalia_testing.policy_defects import DEFECTS as SNP_DEFECTS
from regalia_testing.policy_scenario import MODEL, OWNER, PolicyScenario
from regalia_testing.tees.azure.defects import AzureDefects
from regalia_testing.tees.azure.policy import (
    AZURE_DEFECTS,
    AZURE_TDX_DEFECTS,
    azure_snp_scenario,
    azure_tdx_scenario,
)
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.boot.eventlog import SimulatedBoot
from regalia_testing.tees.intel.defects import IntelDefects
from regalia_testing.tees.intel.policy import SGX_DEFECTS, TDX_DEFECTS, sgx_scenario, tdx_scenario
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.defects import NitroDefects
from regalia_testing.tees.nitro.policy import NITRO_DEFECTS, nitro_scenario
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.nvidia.defects import NvidiaDefects
from regalia_testing.tees.nvidia.policy import DEVICE_DEFECTS, gpu_claims, with_gpus
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.tees.snp.authority import SnpKeys
from regalia_testing.tees.snp.defects import SnpDefects
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.policy import TPM_DEFECTS, tpm_scenario
from regalia_testing.tees.tpm.simulator import TpmSimulator, registers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "CLIENT_FIELDS",
    "CONFIG",
    "MODEL",
    "OWNER",
    "RELEASE_FIELDS",
    "AzureDefects",
    "AzureSimulator",
    "Evidence",
    "IntelDefects",
    "IntelSimulator",
    "NitroDefects",
    "NitroSimulator",
    "NvidiaDefects",
    "NvidiaSimulator",
    "PolicyScenario",
    "RegaliaError",
    "SimulatedBoot",
    "SnpDefects",
    "SnpKeys",
    "SnpSimulator",
    "Tee",
    "TpmAuthority",
    "TpmSimulator",
    "cli",
    "registers",
    "run",
]

Json = dict[str, Any]

CONFIG: bytes = (
    PolicyScenario().config.encode()
)  # the runtime configuration that all evidence carries


@dataclass(frozen=True)
class Kind:
    """A kind of platform in the policy half: known-good claims with a policy, and what breaks it.

    Attributes:
        defects: by name, the code that is deserved and the change of the scenario.
    """

    scenario: PolicyScenario
    defects: Mapping[str, tuple[str, Callable[[PolicyScenario], PolicyScenario]]]


def kinds() -> dict[str, Kind]:
    """Every kind of platform, by the word of its TEE."""
    return {
        "sev-snp": Kind(PolicyScenario(), SNP_DEFECTS),
        "sev-snp+gpus": Kind(with_gpus(PolicyScenario()), DEVICE_DEFECTS),
        "tdx": Kind(tdx_scenario(), TDX_DEFECTS),
        "sgx": Kind(sgx_scenario(), SGX_DEFECTS),
        "aws-nitro": Kind(nitro_scenario(), NITRO_DEFECTS),
        "tpm": Kind(tpm_scenario(PolicyScenario()), TPM_DEFECTS),
        "az-snp-vtpm": Kind(azure_snp_scenario(), AZURE_DEFECTS),
        "az-tdx-vtpm": Kind(azure_tdx_scenario(), AZURE_TDX_DEFECTS),
    }


def release_document(scenario: PolicyScenario) -> bytes:
    """The release policy of a scenario, canonical."""
    return scenario.policy.encode()


def client_document(scenario: PolicyScenario) -> bytes:
    """The client policy of a scenario, canonical."""
    return scenario.client_policy().encode()


def with_document(scenario: PolicyScenario, document: bytes) -> PolicyScenario:
    """The scenario under another release policy. Raises RegaliaError if it is not well-formed."""
    return replace(scenario, policy=parse_release_policy(document))


def pinned(scenario: PolicyScenario, *, machine: bool, config: bool) -> tuple[bytes, bytes]:
    """The release and the client policy that are pinned on a scenario's claims.

    Raises:
        RegaliaError: no policy accepts them.
    """
    choices = OwnerChoices(
        name="pinned",
        version=1,
        model_id=scenario.model_id,
        model_version_minimum=7,
        owner_key=OWNER,
        challenge_max_age_s=60,
        holders_max=1,
        lease_s=900,
        custody=("broker",),
        approvals_threshold=0,
        approvers=(),
        pin_chip=machine,
        pin_host_data=config,
    )
    now = scenario.context().now
    release = pin_release(scenario.claims, scenario.config, choices, now=now)
    client = pin_client(scenario.claims, scenario.config, choices, now=now)
    return release.encode(), client.encode()


def verdict_sentences(scenario: PolicyScenario) -> tuple[str, ...]:
    """What the release policy makes of the claims, in sentences."""
    return explain_verdict(scenario.verdict())


def client_sentences(scenario: PolicyScenario) -> tuple[str, ...]:
    """What the client policy makes of them."""
    return explain_verdict(scenario.client_verdict())


def open_rules(scenario: PolicyScenario) -> tuple[str, ...]:
    """Paths of the rules that the release policy leaves open."""
    return wildcards(scenario.policy)


def said(scenario: PolicyScenario) -> dict[str, tuple[str, str, str | None]]:
    """Of every field of the release policy: its value, the sentence, and the risk if it is open."""
    return {each.path: (each.value, each.says, each.risk) for each in statements(scenario.policy)}


def ear(scenario: PolicyScenario) -> Json:
    """The attestation result about a scenario's claims under its own platform rules."""
    platform, claims = scenario.policy.platform, scenario.claims
    found = PlatformRules(platform, built_in=False).judge(claims)
    return submod(
        platform,
        claims,
        found.findings,
        policy_ids=["the policy"],
        steps=(),
        warnings=(),
        wildcards=platform_wildcards(platform),
        workload_judged=True,
    ).wire()


def refused_ear(code: str) -> Json:
    """The attestation result about evidence that a verifier refused with this code."""
    return refused_submod(code, policy_ids=["the policy"], steps=()).wire()


def device_ear() -> Json:
    """The attestation result about one healthy GPU."""
    return device_submod(gpu_claims(0), (), warnings=(), policy_ids=["the policy"], steps=()).wire()


def pinned_devices(*, machine: bool) -> bytes:
    """The platform section that is pinned on two GPUs without a CPU."""
    return pin_lone_devices((gpu_claims(0), gpu_claims(1)), pin_machine=machine).encode()


def condition_values(scenario: PolicyScenario) -> Json:
    """What conditions of a release policy see of a scenario."""
    return release_values(scenario.claims, scenario.context())


def baselines() -> dict[str, BaselineWords]:
    """Words that a person may add to the baseline, by what they say."""
    plain = BaselineWords(hardware="genuine", revocation="required", machines=(), grace_days=0)
    return {
        "plain": plain,
        "revocation any": replace(plain, revocation="any"),
        "simulated": replace(plain, hardware="dangerous_simulated"),
        "one machine": replace(plain, machines=("44" * 16,)),
        "grace": replace(plain, grace_days=7),
    }


def baseline_document(words: BaselineWords) -> bytes:
    """The baseline, canonical."""
    return baseline(words).encode()


def baseline_open(words: BaselineWords) -> dict[str, tuple[str, str, str | None]]:
    """What the baseline leaves open, as ``said``."""
    found = platform_statements(baseline(words))
    return {each.path: (each.value, each.says, each.risk) for each in found}


def strict_document() -> bytes:
    """One release policy with the sections of all scenarios, which no real machine meets."""
    document: Json = json.loads(release_document(kinds()["sev-snp+gpus"].scenario))
    for kind in kinds().values():
        document["platform"] |= {
            name: section
            for name, section in json.loads(release_document(kind.scenario))["platform"].items()
            if isinstance(section, dict)
        }
    document["conditions"] = []
    _leave_revocation_open(document["platform"])
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _leave_revocation_open(value: Any) -> None:  # noqa: ANN401 - JSON
    """Else a verifier without lists would refuse before any rule is looked at."""
    members = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict) and "revocation" in value:
        value["revocation"] = "any"
    for inner in members:
        if isinstance(inner, dict | list):
            _leave_revocation_open(inner)


def changes(defects: type, others: Mapping[str, Iterable[object]]) -> dict[str, Any]:
    """Every state of a simulated platform that differs from the healthy one in one thing.

    Args:
        defects: the dataclass of its states; each of its flags is turned over by itself.
        others: further values, by the name of the field.
    """
    flags = {
        each.name: (not each.default,) for each in fields(defects) if isinstance(each.default, bool)
    }
    return {
        f"{name}={value}": defects(**{name: value})
        for name, values in {**flags, **others}.items()
        for value in values
    }


def serving(
    collect: Callable[[bytes], Evidence],
    devices: NvidiaSimulator,
    challenge: bytes,
    state: NvidiaDefects,
) -> bytes:
    """What a runtime with devices answers to a challenge.

    Args:
        collect: makes evidence of the CPU over report data.
        devices: those beside the CPU.
        challenge: 32 bytes.
        state: the devices' defects.
    """
    keys = (b"\x01" * HPKE_KEY_SIZE, b"\x02" * 422)
    answer = ServingEvidence(
        collect(bytes(64)), *keys, ModelId(bytes(32)), 3, None, KeyFingerprint(bytes(32))
    )
    binding = answer.binding(challenge)
    beside = devices.evidence(device_nonce(binding.role, challenge, keys[0]), state)
    bound = replace(binding, device_evidence=devices_digest(beside))
    evidence = replace(collect(bound.report_data()), devices=beside)
    return replace(answer, evidence=evidence).encode()


WORDS = MappingProxyType({"model": str(MODEL), "owner": str(OWNER)})
