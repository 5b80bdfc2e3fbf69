"""The rules of a policy: about every platform, and about what the attester is used for.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
Those of a TEE are in its policy plug-in, and those of the device set in ``device_set``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.finding import empty, finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput
from regalia.policy.device_set import device_findings
from regalia.policy.registry import plugin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.finding import Finding
    from regalia.policy.context import ClientContext, ReleaseContext
    from regalia.policy.documents import ClientPolicy, Platform, ReleasePolicy

EGRESS_MAX = 256  # entries of a runtime configuration; more is a list that nobody reads

_HARDWARE: Mapping[str, Hardware] = MappingProxyType(
    {"genuine": Hardware.GENUINE, "dangerous_simulated": Hardware.SIMULATED}
)

# -- the platform ---------------------------------------------------------------------------------


def platform_findings(platform: Platform, claims: Claims) -> Iterator[Finding]:
    """Every finding about the attester itself, in the order of the rules.

    Args:
        platform: the policy's demands.
        claims: verified.
    """
    yield from _hardware(platform, claims)
    yield from _debug(claims)
    yield from _migration(claims)
    yield from _tee(platform, claims)
    yield from _grace(platform, claims)
    yield from device_findings(platform.devices, claims.devices)


def lone_device_findings(platform: Platform, devices: Sequence[DeviceClaims]) -> Iterator[Finding]:
    """The rules about devices that came without a CPU: for looking at, never for a release.

    Args as ``platform_findings``, with the devices' claims.
    """
    for device in devices:
        yield from _hardware(platform, device)
        yield from _grace(platform, device)
    yield from device_findings(platform.devices, devices)


def _hardware(platform: Platform, claims: Claims | DeviceClaims) -> Iterator[Finding]:
    """(1) Each word accepts one kind of hardware, and no word accepts both."""
    wanted = _HARDWARE.get(platform.hardware)
    if claims.hardware is wanted:
        return
    if claims.hardware is Hardware.GENUINE:
        yield finding(
            PolicyCode.HARDWARE_NOT_SIMULATED,
            f"the evidence is genuine; the policy wants {platform.hardware}",
        )
    else:
        yield finding(
            PolicyCode.SIMULATED_HARDWARE,
            f"the evidence is {claims.hardware}; the policy wants {platform.hardware}",
        )


def _debug(claims: Claims) -> Iterator[Finding]:
    """(2) In debug mode the host reads the workload. There is no word that accepts it."""
    if claims.debug:
        yield finding(PolicyCode.DEBUG_ENABLED, f"{claims.tee} evidence says debug mode")


def _migration(claims: Claims) -> Iterator[Finding]:
    """(3) A migration agent may export the workload. There is no word that accepts it."""
    if claims.migratable:
        yield finding(
            PolicyCode.MIGRATION_ALLOWED, f"{claims.tee} evidence says that migration is allowed"
        )


def _tee(platform: Platform, claims: Claims) -> Iterator[Finding]:
    """(4) to (17): the section of this TEE. Without one the TEE is not accepted."""
    plugin = plugin_of(claims)
    section = getattr(platform, plugin.name)
    if section is None:
        yield finding(
            PolicyCode.TEE_NOT_ACCEPTED, f"the policy has no section that accepts {claims.tee}"
        )
        return
    yield from plugin.rules(RuleInput(section, claims, plugin.path))


def _grace(platform: Platform, claims: Claims | DeviceClaims) -> Iterator[Finding]:
    """(18) Collateral out of date counts only under the policy's own word for it."""
    beside: Sequence[DeviceClaims] = getattr(claims, "devices", ())
    late = any(each.revocation is Revocation.GRACE for each in (claims, *beside))
    if late and platform.dangerous_collateral_grace_days == 0:
        yield finding(
            PolicyCode.COLLATERAL_LATE,
            "the collateral is out of date; dangerous_collateral_grace_days is 0",
        )


# -- what it is used for --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule looks at: one policy, one set of claims, one context."""

    policy: ReleasePolicy | ClientPolicy
    claims: Claims
    context: ClientContext


@dataclass(frozen=True, slots=True)
class ReleaseCase(Case):
    """The same for a release, whose policy and context say more."""

    policy: ReleasePolicy
    context: ReleaseContext


def _platform(case: Case) -> Iterator[Finding]:
    """(1) to (19)."""
    return platform_findings(case.policy.platform, case.claims)


def _config_digest(case: Case) -> Iterator[Finding]:
    return config_findings(case.claims, case.context.runtime_config.encode())


def config_findings(claims: Claims, runtime_config: bytes) -> Iterator[Finding]:
    """(20) The configuration that came along is the one that the hardware recorded.

    Args:
        claims: verified, of the CPU.
        runtime_config: exact bytes, untrusted.
    """
    binding = plugin_of(claims).binding
    expected = binding.expected(runtime_config)
    if claims.config_binding != expected:
        yield finding(
            PolicyCode.CONFIG_MISMATCH,
            f"the runtime configuration demands {binding.name} {expected.hex()}; it is "
            f"{claims.config_binding.hex() or 'absent'}",
        )


def _model(case: Case) -> Iterator[Finding]:
    """(21) The model that was asked for is the policy's, and one that the runtime may load."""
    wanted = case.policy.model.id
    if str(case.context.model_id) != wanted:
        yield finding(
            PolicyCode.MODEL_MISMATCH,
            f"asked for {case.context.model_id}; the policy is for {wanted}",
        )
    config = case.context.runtime_config
    if wanted not in (config.model_id, *config.adapters):
        yield finding(
            PolicyCode.MODEL_MISMATCH,
            f"the runtime is configured for {shown(config.model_id)}; the policy is for {wanted}",
        )


def _model_version(case: Case) -> Iterator[Finding]:
    """(22) Not an older version than the owner still accepts."""
    minimum = case.policy.model.version_minimum
    if case.context.model_version < minimum:
        yield finding(
            PolicyCode.MODEL_VERSION_TOO_OLD,
            f"model version {case.context.model_version}; at least {minimum}",
        )


def _trust(case: Case) -> Iterator[Finding]:
    """(23) Whom the runtime trusts: the owner's key and the log's key."""
    rule, config = case.policy.runtime, case.context.runtime_config
    if rule.owner_key not in ("any", config.owner_key):
        yield finding(
            PolicyCode.OWNER_KEY_MISMATCH,
            f"the runtime trusts owner {shown(config.owner_key)}; wanted: {rule.owner_key}",
        )
    if rule.log_key not in ("any", config.log_key):
        yield finding(
            PolicyCode.LOG_KEY_MISMATCH,
            f"the runtime trusts log {shown(config.log_key)}; wanted: {rule.log_key}",
        )


def _egress(case: Case) -> Iterator[Finding]:
    """(24) Addresses that the workload may reach: a subset of the accepted ones."""
    listed = case.context.runtime_config.egress
    if len(listed) > EGRESS_MAX:
        yield finding(
            PolicyCode.EGRESS_DENIED,
            f"the runtime may reach {len(listed)} addresses; at most {EGRESS_MAX}",
        )
        return
    accepted = case.policy.runtime.egress
    if accepted == "any":
        return
    extra = [address for address in listed if address not in accepted]
    if extra:
        yield finding(
            PolicyCode.EGRESS_DENIED,
            f"the runtime may reach {listing(extra)}; accepted: {listing(accepted)}",
        )


def _surfaces(case: Case) -> Iterator[Finding]:
    """(24) Surfaces of the engine that are open: a subset of the accepted ones."""
    accepted = case.policy.runtime.surfaces
    if accepted == "any":
        return
    extra = [name for name in case.context.runtime_config.surfaces if name not in accepted]
    if extra:
        yield finding(
            PolicyCode.SURFACE_DENIED,
            f"the engine opens {listing(extra)}; accepted: {listing(accepted)}",
        )


def _adapters(case: Case) -> Iterator[Finding]:
    """(24) The adapter that is merged into the model: the policy's own subject, or accepted."""
    accepted = case.policy.runtime.accepted_adapters
    if accepted == "any":
        return
    known = (case.policy.model.id, *accepted)
    extra = [name for name in case.context.runtime_config.adapters if name not in known]
    if extra:
        yield finding(
            PolicyCode.ADAPTER_DENIED,
            f"the runtime merges {listing(extra)} into the model; accepted: {listing(accepted)}",
        )


def _placement(case: Case) -> Iterator[Finding]:
    """(25) Region, site and tier, as the operator asserts them in the measured configuration."""
    rule, have = case.policy.placement, case.context.runtime_config.placement
    for field, accepted, value in (
        ("regions", rule.regions, have.region),
        ("sites", rule.sites, have.site),
        ("tiers", rule.tiers, have.tier),
    ):
        if accepted == "any":
            continue
        if not accepted:
            yield empty(f"placement.{field}")
        elif value not in accepted:
            yield finding(
                PolicyCode.PLACEMENT_DENIED,
                f"{shown(value)} is not among the accepted {field}: {listing(accepted)}",
            )


def _freshness(case: Case) -> Iterator[Finding]:
    """(26) The challenge's age. A negative age (a clock that was set back) is refused too."""
    age, limit = case.context.challenge_age_s, case.policy.freshness.challenge_max_age_s
    if not 0 <= age <= limit:
        yield finding(
            PolicyCode.EVIDENCE_TOO_OLD, f"the challenge is {age:.1f} s old; at most {limit} s"
        )


def _holders(case: ReleaseCase) -> Iterator[Finding]:
    """(27) The cap on concurrent holders leaves room for one more."""
    if not 0 <= case.context.active_holders < case.policy.holders_max:
        yield finding(
            PolicyCode.HOLDERS_EXHAUSTED,
            f"leases held: {case.context.active_holders}; at most {case.policy.holders_max}",
        )


def _custody(case: ReleaseCase) -> Iterator[Finding]:
    """(28) Where the model key is in clear while it is rewrapped."""
    accepted: list[str] = list(case.policy.custody)
    if not accepted:
        yield empty("custody")
    elif case.context.custody not in accepted:
        yield finding(
            PolicyCode.CUSTODY_DENIED,
            f"custody {shown(case.context.custody)}; accepted: {listing(accepted)}",
        )


def _approvals(case: ReleaseCase) -> Iterator[Finding]:
    """(29) m of n approvers have signed. Approvals by others do not count."""
    wanted = set(case.policy.approvals.approvers)
    given = wanted & case.context.approvals
    if len(given) < case.policy.approvals.threshold:
        missing = listing(sorted(wanted - given))
        yield finding(
            PolicyCode.APPROVALS_MISSING,
            f"{len(given)} of {case.policy.approvals.threshold} approvals; still open: {missing}",
        )


COMMON_RULES: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _platform,
    _config_digest,
    _model,
    _model_version,
    _trust,
    _egress,
    _surfaces,
    _adapters,
    _placement,
    _freshness,
)
RELEASE_RULES: tuple[Callable[[ReleaseCase], Iterator[Finding]], ...] = (
    *COMMON_RULES,
    _holders,
    _custody,
    _approvals,
)
