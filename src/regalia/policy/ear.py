"""From claims and findings to an attestation result with its trustworthiness vector (AR4SI).

The vector follows from what was seen, never from a wish: an accepted weakness is a warning, a
simulated TEE too, and a refusal is contraindicated whatever the other claims say.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.check import Source
from regalia.core.plain import plain_fields
from regalia.policy.ear_document import Status, Submod, TrustVector
from regalia.policy.registry import plugin_of
from regalia.policy.warnings import cpu_warnings, device_warnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from regalia.appraisal.check import Step
    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.finding import Finding
    from regalia.policy.documents import Platform

# AR4SI values that are used here (draft-ietf-rats-ar4si, section 2.3.4).
GENUINE, WEAKENED, SIMULATED, REVOCATION_NOT_KNOWN = 2, 32, 33, 34
CONTRAINDICATED, NOT_RECOGNIZED, CRYPTO_FAILED = 96, 97, 99
UNKNOWN_WORKLOAD, BOOT_MEASURED = 33, 3
AFFIRMED = 2

# Members of claims that this verifier concludes; all others stand in what the hardware signed.
_DERIVED = frozenset(
    {
        "age_ms",
        "ak_binding",
        "evidence_digest",
        "hardware",
        "product",
        "revocation",
        "rims",
        "rims_missing",
        "tee",
    }
)

# Which claim of the vector a warning weakens, and how far.
_WEAKENED: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "SIMULATED_HARDWARE": ("hardware", SIMULATED),
        "REVOCATION_UNKNOWN": ("hardware", REVOCATION_NOT_KNOWN),
        "COLLATERAL_LATE": ("hardware", WEAKENED),
        "PLATFORM_WEAKENED": ("hardware", WEAKENED),
        "CHECK_LEFT_OPEN": ("hardware", WEAKENED),
        "FRESHNESS_UNCHECKED": ("instance_identity", WEAKENED),
        "MEMORY_NOT_ISOLATED": ("runtime_opaque", WEAKENED),
        "RIM_MISSING": ("executables", UNKNOWN_WORKLOAD),
        "DEVICE_MODE_UNSTATED": ("configuration", WEAKENED),
        "DEVICES_UNBOUND": ("sourced_data", WEAKENED),
    }
)

# Which claim of the vector a refusal spoils, and how far. Everything else spoils ``hardware``.
_SPOILED: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "CHAIN_INVALID": ("hardware", CRYPTO_FAILED),
        "SIGNATURE_INVALID": ("hardware", CRYPTO_FAILED),
        "LEAF_BINDING_MISMATCH": ("hardware", CRYPTO_FAILED),
        "CRL_SIG_INVALID": ("hardware", CRYPTO_FAILED),
        "COLLATERAL_SIG_INVALID": ("hardware", CRYPTO_FAILED),
        "ROOT_UNTRUSTED": ("hardware", NOT_RECOGNIZED),
        "COLLATERAL_MISSING": ("hardware", NOT_RECOGNIZED),
        "CRL_MISSING": ("hardware", NOT_RECOGNIZED),
        "TCB_NO_MATCH": ("hardware", NOT_RECOGNIZED),
        "RIM_MISSING": ("hardware", NOT_RECOGNIZED),
        "NONCE_MISMATCH": ("instance_identity", CRYPTO_FAILED),
        "NONCE_WELL_KNOWN": ("instance_identity", CRYPTO_FAILED),
        "AK_UNBOUND": ("instance_identity", NOT_RECOGNIZED),
        "INSTANCE_NOT_ALLOWED": ("instance_identity", NOT_RECOGNIZED),
        "COMPOSITE_MISMATCH": ("sourced_data", CONTRAINDICATED),
        "DEVICE_SET_MISMATCH": ("sourced_data", CONTRAINDICATED),
        "DEVICE_FEATURE_DENIED": ("sourced_data", CONTRAINDICATED),
        "DEVICE_FIRMWARE_DENIED": ("sourced_data", CONTRAINDICATED),
        "RIM_MISMATCH": ("sourced_data", CONTRAINDICATED),
        "DEBUG_ENABLED": ("runtime_opaque", CONTRAINDICATED),
        "MIGRATION_ALLOWED": ("configuration", CONTRAINDICATED),
        "POLICY_BIT": ("configuration", CONTRAINDICATED),
        "PLATFORM_FLAG_MISSING": ("configuration", CONTRAINDICATED),
        "VMPL_MISMATCH": ("configuration", CONTRAINDICATED),
        "RESERVED_BIT_SET": ("configuration", CONTRAINDICATED),
        "MEASUREMENT_UNKNOWN": ("executables", UNKNOWN_WORKLOAD),
        "WORKLOAD_UNPINNED": ("executables", UNKNOWN_WORKLOAD),
        "ID_KEY_UNKNOWN": ("executables", UNKNOWN_WORKLOAD),
        "IMAGE_SIGNER_UNKNOWN": ("executables", UNKNOWN_WORKLOAD),
        "PCR_UNKNOWN": ("executables", UNKNOWN_WORKLOAD),
        "ROLE_NOT_ALLOWED": ("configuration", CONTRAINDICATED),
        "VM_CONFIGURATION_DENIED": ("configuration", CONTRAINDICATED),
        "EVENTLOG_MISMATCH": ("executables", CRYPTO_FAILED),
        "EVENTLOG_UNKNOWN_EVENT": ("executables", NOT_RECOGNIZED),
        "CONFIG_MISMATCH": ("configuration", CONTRAINDICATED),
        "HOST_DATA_UNKNOWN": ("configuration", CONTRAINDICATED),
        "SERVICE_TD_DENIED": ("configuration", CONTRAINDICATED),
        "TD_OWNER_UNKNOWN": ("configuration", CONTRAINDICATED),
        "EVENT_LOG_INSUFFICIENT": ("executables", UNKNOWN_WORKLOAD),
        "ENCLAVE_VERSION_DENIED": ("executables", UNKNOWN_WORKLOAD),
    }
)


def refused_submod(code: str, *, policy_ids: Sequence[str], steps: Iterable[Step]) -> Submod:
    """The result about evidence that a verifier refused: there are no claims.

    Args:
        code: of the refusal.
        policy_ids: of the policies that would have been asked.
        steps: the checks, up to the one that refused.
    """
    return Submod(
        status=Status.CONTRAINDICATED,
        vector=_spoil(TrustVector(), [code]),
        policy_ids=tuple(policy_ids),
        attester_claims={},
        verifier_claims={"checks": _checks(steps), "findings": [code]},
    )


def submod(  # noqa: PLR0913 - the facts of one appraisal
    platform: Platform,
    claims: Claims,
    findings: Sequence[Finding],
    *,
    warnings: Sequence[Finding],
    policy_ids: Sequence[str],
    steps: Iterable[Step],
    wildcards: Sequence[str],
    workload_judged: bool,
) -> Submod:
    """The result about verified evidence.

    Args:
        platform: the policy's demands.
        claims: verified.
        findings: rules that they do not meet.
        warnings: of the exchange; those about the claims themselves are added here.
        policy_ids: of the policies that were asked.
        steps: the checks that were made.
        wildcards: rules that were left open.
        workload_judged: whether any rule asked what runs.
    """
    codes = [finding.code.name for finding in findings]
    warned = (*cpu_warnings(claims), *warnings)
    vector = _weaken(_vector(platform, claims, workload_judged=workload_judged), warned)
    vector = _spoil(vector, codes)
    return Submod(
        status=Status.CONTRAINDICATED if codes else vector.status(),
        vector=vector,
        policy_ids=tuple(policy_ids),
        attester_claims=_sourced(claims),
        verifier_claims={
            "checks": _checks(steps),
            "findings": codes,
            "warnings": _names(warned),
            "wildcards": list(wildcards),
        },
    )


def device_submod(
    device: DeviceClaims,
    findings: Sequence[Finding],
    *,
    warnings: Sequence[Finding],
    policy_ids: Sequence[str],
    steps: Iterable[Step],
) -> Submod:
    """The result about one verified device. It says nothing of a workload: no GPU measures one.

    Args:
        device: verified.
        findings: of the whole machine.
        warnings: of the exchange; those about the device itself are added here.
        policy_ids: of the policies that were asked.
        steps: the checks that were made.
    """
    codes = [finding.code.name for finding in findings]
    warned = (*device_warnings(device), *warnings)
    vector = _weaken(TrustVector(hardware=GENUINE, configuration=AFFIRMED), warned)
    vector = _spoil(vector, codes)
    return Submod(
        status=Status.CONTRAINDICATED if codes else vector.status(),
        vector=vector,
        policy_ids=tuple(policy_ids),
        attester_claims=_with_sources(plain_fields(device)),
        verifier_claims={
            "checks": _checks(steps),
            "findings": codes,
            "warnings": _names(warned),
        },
    )


def _names(found: Iterable[Finding]) -> list[str]:
    """Codes in order, each once."""
    return list(dict.fromkeys(each.code.name for each in found))


def _vector(platform: Platform, claims: Claims, *, workload_judged: bool) -> TrustVector:
    plugin = plugin_of(claims)
    section = getattr(platform, plugin.name)
    # That this machine is among the listed ones, a rule checked.
    listed = section is not None and plugin.lists_machines(section)
    return TrustVector(
        hardware=GENUINE,
        configuration=AFFIRMED,
        executables=BOOT_MEASURED if workload_judged else 0,
        instance_identity=AFFIRMED if listed else 0,
        runtime_opaque=AFFIRMED,
        sourced_data=AFFIRMED if claims.devices else 0,
    )


def _sourced(claims: Claims) -> dict[str, dict[str, object]]:
    """Every claim with who stands behind it."""
    return _with_sources(plain_fields(claims))


def _with_sources(values: Mapping[str, object]) -> dict[str, dict[str, object]]:
    return {
        name: {
            "value": value,
            "source": (
                Source.VERIFIER_DERIVED if name in _DERIVED else Source.HARDWARE_PROVEN
            ).value,
        }
        for name, value in values.items()
        if name != "devices"  # each has a submodule of its own
    }


def _weaken(vector: TrustVector, warnings: Iterable[Finding]) -> TrustVector:
    places = (_WEAKENED.get(each.code.name, ("hardware", WEAKENED)) for each in warnings)
    return _lowered(vector, places)


def _spoil(vector: TrustVector, codes: Iterable[str]) -> TrustVector:
    return _lowered(vector, (_SPOILED.get(code, ("hardware", CONTRAINDICATED)) for code in codes))


def _lowered(vector: TrustVector, places: Iterable[tuple[str, int]]) -> TrustVector:
    """The vector with these claims, where they are worse than what stands there."""
    for name, value in places:
        if getattr(vector, name) < value:
            vector = replace(vector, **{name: value})
    return vector


def _checks(steps: Iterable[Step]) -> list[dict[str, str | bool]]:
    return [
        {
            "name": step.check.name,
            "outcome": step.outcome.value,
            "passed": step.passed,
            "code": step.code,
            "seen": step.seen,
            "wanted": step.wanted,
            "source": step.check.source.value,
        }
        for step in steps
    ]
