"""Rules about what the attester is used for: runtime configuration, model, place, time, people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.policy.registry import plugin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding
    from regalia.policy.case import Case, ReleaseCase, ReleaseRule, Rule

EGRESS_MAX = 256  # entries of a runtime configuration; more is a list that nobody reads


def config_digest(case: Case) -> Iterator[Finding]:
    """(20) The configuration that came along is the one that the hardware recorded."""
    claims = case.claims
    binding = plugin_of(claims).binding
    expected = binding.expected(case.context.runtime_config.encode())
    if claims.config_binding != expected:
        yield finding(
            PolicyCode.CONFIG_MISMATCH,
            f"the runtime configuration demands {binding.name} {expected.hex()}; it is "
            f"{claims.config_binding.hex() or 'absent'}",
        )


def model(case: Case) -> Iterator[Finding]:
    """(21) The model that was asked for is the policy's and the measured configuration's."""
    wanted = case.policy.model.id
    if str(case.context.model_id) != wanted:
        yield finding(
            PolicyCode.MODEL_MISMATCH,
            f"asked for {case.context.model_id}; the policy is for {wanted}",
        )
    if case.context.runtime_config.model_id != wanted:
        yield finding(
            PolicyCode.MODEL_MISMATCH,
            f"the runtime is configured for {shown(case.context.runtime_config.model_id)};"
            f" the policy is for {wanted}",
        )


def model_version(case: Case) -> Iterator[Finding]:
    """(22) Not an older version than the owner still accepts."""
    minimum = case.policy.model.version_minimum
    if case.context.model_version < minimum:
        yield finding(
            PolicyCode.MODEL_VERSION_TOO_OLD,
            f"model version {case.context.model_version}; at least {minimum}",
        )


def trust(case: Case) -> Iterator[Finding]:
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


def egress(case: Case) -> Iterator[Finding]:
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


def placement(case: Case) -> Iterator[Finding]:
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
            yield finding(
                PolicyCode.EMPTY_RULE, f"placement.{field} is an empty list, which accepts nothing"
            )
        elif value not in accepted:
            yield finding(
                PolicyCode.PLACEMENT_DENIED,
                f"{shown(value)} is not among the accepted {field}: {listing(accepted)}",
            )


def freshness(case: Case) -> Iterator[Finding]:
    """(26) The challenge's age. A negative age (a clock that was set back) is refused too."""
    age, limit = case.context.challenge_age_s, case.policy.freshness.challenge_max_age_s
    if not 0 <= age <= limit:
        yield finding(
            PolicyCode.EVIDENCE_TOO_OLD, f"the challenge is {age:.1f} s old; at most {limit} s"
        )


def holders(case: ReleaseCase) -> Iterator[Finding]:
    """(27) The cap on concurrent holders leaves room for one more."""
    if not 0 <= case.context.active_holders < case.policy.holders_max:
        yield finding(
            PolicyCode.HOLDERS_EXHAUSTED,
            f"{case.context.active_holders} leases are held; at most {case.policy.holders_max}",
        )


def custody(case: ReleaseCase) -> Iterator[Finding]:
    """(28) Where the model key is in clear while it is rewrapped."""
    accepted: list[str] = list(case.policy.custody)
    if not accepted:
        yield finding(PolicyCode.EMPTY_RULE, "custody is an empty list, which accepts nothing")
    elif case.context.custody not in accepted:
        yield finding(
            PolicyCode.CUSTODY_DENIED,
            f"custody {shown(case.context.custody)}; accepted: {listing(accepted)}",
        )


def approvals(case: ReleaseCase) -> Iterator[Finding]:
    """(29) m of n approvers have signed. Approvals by others do not count."""
    wanted = set(case.policy.approvals.approvers)
    given = wanted & case.context.approvals
    if len(given) < case.policy.approvals.threshold:
        missing = listing(sorted(wanted - given))
        yield finding(
            PolicyCode.APPROVALS_MISSING,
            f"{len(given)} of {case.policy.approvals.threshold} approvals; still open: {missing}",
        )


COMMON_RULES: tuple[Rule, ...] = (
    config_digest,
    model,
    model_version,
    trust,
    egress,
    placement,
    freshness,
)

RELEASE_RULES: tuple[ReleaseRule, ...] = (holders, custody, approvals)
