"""Write a policy from known-good claims: what was measured is pinned, the rest is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from regalia.formats.claims import Hardware, Revocation
from regalia.formats.policy import (
    CLIENT_FORMAT,
    RELEASE_FORMAT,
    Approvals,
    ClientPolicy,
    FirmwareMinimum,
    Freshness,
    GuestPolicy,
    ModelRule,
    PlacementRule,
    Platform,
    ReleasePolicy,
    RuntimeRule,
    Snp,
    TcbMinimum,
    parse_client_policy,
    parse_release_policy,
)
from regalia.formats.snp_names import (
    ABI_MAJOR_SHIFT,
    ABI_MINOR_MASK,
    GuestPolicyBit,
    PlatformInfoBit,
    bit,
)
from regalia.policy.context import ClientContext, ReleaseContext
from regalia.policy.evaluate import evaluate_client, evaluate_release
from regalia.policy.verdict import Deny

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.core.types import KeyFingerprint, ModelId
    from regalia.formats.claims import SnpClaims
    from regalia.formats.runtime_config import RuntimeConfig
    from regalia.policy.verdict import Verdict

# Bits of PLATFORM_INFO that protect the guest; those that the known-good platform sets are pinned.
_PROTECTIVE = (
    PlatformInfoBit.TSME_EN,
    PlatformInfoBit.ECC_EN,
    PlatformInfoBit.RAPL_DIS,
    PlatformInfoBit.CIPHERTEXT_HIDING_EN,
    PlatformInfoBit.ALIAS_CHECK_COMPLETE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerChoices:
    """What no evidence can tell. Seconds are whole.

    Attributes:
        owner_key: fingerprint of the key that signs the model and this policy.
        pin_chip: accept this one chip only. Needed for Milan.
        pin_host_data: accept this one runtime configuration only.
    """

    name: str
    version: int
    model_id: ModelId
    model_version_minimum: int
    owner_key: KeyFingerprint
    challenge_max_age_s: int
    holders_max: int
    lease_s: int
    custody: tuple[Literal["broker", "hsm"], ...]
    approvals_threshold: int
    approvers: tuple[KeyFingerprint, ...]
    pin_chip: bool
    pin_host_data: bool


def pin_release(
    claims: SnpClaims, config: RuntimeConfig, choices: OwnerChoices, *, now: datetime
) -> ReleasePolicy:
    """A release policy that these claims meet.

    Args:
        claims: known-good, from a verifier.
        config: the runtime configuration that came with the evidence.
        choices: the owner's.
        now: time of the check that the claims meet the policy.

    Raises:
        ParseError: a choice, or a value in the configuration, has no place in a policy.
        PolicyDenied: no such policy exists, e.g. for a debug guest, for a Milan chip that is
            not pinned, or for a configuration of another owner or model.
    """
    policy = ReleasePolicy(
        format=RELEASE_FORMAT,
        name=choices.name,
        version=choices.version,
        model=_model(choices),
        platform=_platform(claims, choices),
        freshness=Freshness(challenge_max_age_s=choices.challenge_max_age_s),
        placement=_placement(config),
        runtime=_runtime(config, choices),
        holders_max=choices.holders_max,
        lease_s=choices.lease_s,
        custody=list(choices.custody),
        approvals=Approvals(
            threshold=choices.approvals_threshold,
            approvers=[str(approver) for approver in choices.approvers],
        ),
        conditions=[],
    )
    policy = parse_release_policy(policy.encode())
    context = ReleaseContext(
        now=now,
        challenge_age_s=0,
        runtime_config=config,
        model_id=choices.model_id,
        model_version=choices.model_version_minimum,
        active_holders=0,
        approvals=frozenset(policy.approvals.approvers),
        custody=next(iter(choices.custody), ""),
    )
    _must_allow(evaluate_release(policy, claims, context))
    return policy


def pin_client(
    claims: SnpClaims, config: RuntimeConfig, choices: OwnerChoices, *, now: datetime
) -> ClientPolicy:
    """A client policy that these claims meet. As ``pin_release``."""
    policy = ClientPolicy(
        format=CLIENT_FORMAT,
        name=choices.name,
        model=_model(choices),
        platform=_platform(claims, choices),
        freshness=Freshness(challenge_max_age_s=choices.challenge_max_age_s),
        placement=_placement(config),
        runtime=_runtime(config, choices),
        conditions=[],
    )
    policy = parse_client_policy(policy.encode())
    context = ClientContext(
        now=now,
        challenge_age_s=0,
        runtime_config=config,
        model_id=choices.model_id,
        model_version=choices.model_version_minimum,
    )
    _must_allow(evaluate_client(policy, claims, context))
    return policy


def _must_allow(verdict: Verdict) -> None:
    if isinstance(verdict, Deny):
        raise verdict.error()


def _model(choices: OwnerChoices) -> ModelRule:
    return ModelRule(id=str(choices.model_id), version_minimum=choices.model_version_minimum)


def _placement(config: RuntimeConfig) -> PlacementRule:
    where = config.placement
    return PlacementRule(regions=[where.region], sites=[where.site], tiers=[where.tier])


def _runtime(config: RuntimeConfig, choices: OwnerChoices) -> RuntimeRule:
    return RuntimeRule(
        owner_key=str(choices.owner_key), log_key=config.log_key, egress=list(config.egress)
    )


def _platform(claims: SnpClaims, choices: OwnerChoices) -> Platform:
    genuine = claims.hardware is Hardware.GENUINE
    return Platform(
        hardware="genuine" if genuine else "dangerous_simulated",
        snp=_snp(claims, choices),
        devices=[],
    )


def _snp(claims: SnpClaims, choices: OwnerChoices) -> Snp:
    committed = (
        claims.current_tcb == claims.committed_tcb
        and claims.current_firmware == claims.committed_firmware
    )
    firmware = min(
        (version.major, version.minor, version.build)
        for version in (claims.current_firmware, claims.committed_firmware)
    )
    return Snp(
        products=[claims.product],
        measurements=[claims.measurement.hex()],
        host_data=[claims.host_data.hex()] if choices.pin_host_data else "any",
        id_keys=[claims.id_key_digest.hex()],
        vmpl=[claims.vmpl],
        guest_policy=_guest_policy(claims),
        platform_info_required=[
            index.name for index in _PROTECTIVE if bit(claims.platform_info, index)
        ],
        tcb_minimum={claims.product: _tcb_minimum(claims)},
        firmware_minimum=FirmwareMinimum(major=firmware[0], minor=firmware[1], build=firmware[2]),
        provisional_firmware="deny" if committed else "allow",
        mitigations_required=(claims.launch_mit_vector & claims.current_mit_vector) or "any",
        report_version_minimum=claims.report_version,
        signing_keys=["vlek" if claims.signing_key == "vlek" else "vcek"],
        csp_ids=[] if claims.csp_id is None else [claims.csp_id],
        chip_ids=[claims.chip_id.hex()] if choices.pin_chip else "any",
        revocation="required" if claims.revocation is Revocation.CHECKED else "any",
    )


def _guest_policy(claims: SnpClaims) -> GuestPolicy:
    have = claims.policy
    return GuestPolicy(
        abi_major_min=(have >> ABI_MAJOR_SHIFT) & ABI_MINOR_MASK,
        abi_minor_min=have & ABI_MINOR_MASK,
        smt="allow" if bit(have, GuestPolicyBit.SMT) else "deny",
        single_socket="required" if bit(have, GuestPolicyBit.SINGLE_SOCKET) else "any",
        cxl="allow" if bit(have, GuestPolicyBit.CXL_ALLOW) else "deny",
    )


def _tcb_minimum(claims: SnpClaims) -> TcbMinimum:
    """The lowest of reported, committed and launch, by component, so that the evidence meets it."""
    each = [
        tcb.components() for tcb in (claims.reported_tcb, claims.committed_tcb, claims.launch_tcb)
    ]
    lowest = {name: min(tcb[name] for tcb in each) for name in each[0]}
    return TcbMinimum(**lowest)
