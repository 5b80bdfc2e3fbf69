"""Release and client policies as documents. Spec: docs/spec/policy.md.

Every field is required; leaving a thing open is written ``"any"``, and that word shows in
``explain``, in the verdict and in the log. Bytes are lower-case hex.

Building one of these structs checks nothing; parsing checks types, ranges and the rules of
``regalia.policy.document_checks``. Whatever is built by hand and not well-formed matches no
claims, so it denies.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from regalia.appraisal.policy_doc import Count, Doc, Unrestricted, Version
from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import PolicyId
from regalia.policy.document_checks import check_client, check_platform, check_release
from regalia.policy.registry import POLICY_PLUGINS, plugin_for
from regalia.tees.azure.policy.section import AzureSnp, AzureTdx
from regalia.tees.intel.policy.section import Sgx, Tdx
from regalia.tees.nitro.policy.section import Nitro
from regalia.tees.nvidia.policy.section import Device
from regalia.tees.snp.policy.section import Snp
from regalia.tees.tpm.policy.section import Tpm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.wire.evidence import Tee

RELEASE_FORMAT = "regalia/release-policy/v1"
CLIENT_FORMAT = "regalia/client-policy/v1"
PAYLOAD_TYPE = "application/vnd.regalia.policy.v1+json"
LIMIT = 256 * 1024  # bytes
COLLATERAL_GRACE_MAX_DAYS = 90


class Platform(Doc, frozen=True, kw_only=True, omit_defaults=True):
    """The attester: which hardware, in which state, running what.

    Each TEE has a section. A TEE whose section is absent is not accepted.
    """

    hardware: Literal["genuine", "dangerous_simulated"]
    snp: Snp | None = None
    tpm: Tpm | None = None
    tdx: Tdx | None = None
    sgx: Sgx | None = None
    nitro: Nitro | None = None
    azure_snp: AzureSnp | None = None
    azure_tdx: AzureTdx | None = None
    devices: list[Device]  # the exact device set; empty = CPU only, and any device is a refusal
    dangerous_collateral_grace_days: Annotated[
        int, msgspec.Meta(ge=0, le=COLLATERAL_GRACE_MAX_DAYS)
    ] = 0

    def encode(self) -> bytes:
        """Canonical JSON: a part of a policy, to be put into one."""
        return canonical_json(self)


# The field of ``Platform`` that holds each TEE's section.
SECTIONS: Mapping[Tee, str] = MappingProxyType(
    {plugin.tee: plugin.name for plugin in POLICY_PLUGINS}
)


def collateral_words(platform: Platform, tee: Tee) -> tuple[Literal["required", "any"], int]:
    """What the section of ``tee`` says of revocation, and the days of grace for collateral.

    Without a section nothing is asked: evaluation refuses such a TEE whatever else is true, and
    that is then the reason that is given, not a list that happens to be missing.

    Args:
        platform: the policy's demands.
        tee: whose section counts.
    """
    plugin = plugin_for(tee)
    section = getattr(platform, plugin.name)
    required = section is not None and plugin.needs_revocation(section)
    return "required" if required else "any", platform.dangerous_collateral_grace_days


class PlacementRule(Doc, frozen=True, kw_only=True):
    """Accepted operator-asserted (and measured) placements."""

    regions: list[str] | Unrestricted
    sites: list[str] | Unrestricted
    tiers: list[str] | Unrestricted


class RuntimeRule(Doc, frozen=True, kw_only=True):
    """What the measured runtime configuration must say."""

    owner_key: str | Unrestricted  # fingerprint of the key that signs model and policy
    log_key: str | Unrestricted  # signed-note verifier key of the log
    egress: list[str] | Unrestricted  # host:port that may be listed there; [] = none may


class ModelRule(Doc, frozen=True, kw_only=True):
    """The one model that this policy is about."""

    id: str  # model:<64 hex>
    version_minimum: Count


class Freshness(Doc, frozen=True, kw_only=True):
    """How old a challenge may be when its evidence arrives."""

    challenge_max_age_s: Annotated[int, msgspec.Meta(ge=1, le=3600)]


class Approvals(Doc, frozen=True, kw_only=True):
    """m-of-n approvals a release needs: key fingerprints of approvers, and how many."""

    threshold: Annotated[int, msgspec.Meta(ge=0, le=16)]
    approvers: list[str]


class ReleasePolicy(Doc, frozen=True, kw_only=True):
    """Under which conditions the broker releases a model key. Signed by the model owner."""

    format: str
    name: str
    version: Version  # monotonic per model; a broker refuses to go back
    model: ModelRule
    platform: Platform
    freshness: Freshness
    placement: PlacementRule
    runtime: RuntimeRule
    holders_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]  # with an unexpired lease
    lease_s: Annotated[int, msgspec.Meta(ge=1, le=31_536_000)]
    custody: list[Literal["broker", "hsm"]]
    approvals: Approvals
    conditions: list[str]  # CEL over the claims; all must be true

    def encode(self) -> bytes:
        """Canonical JSON: the DSSE payload."""
        return canonical_json(self)

    def policy_id(self) -> PolicyId:
        """SHA-256 of the payload."""
        return PolicyId.of(self.encode())


class ClientPolicy(Doc, frozen=True, kw_only=True):
    """What a client demands of a runtime before it sends a prompt. Local, not signed."""

    format: str
    name: str
    model: ModelRule
    platform: Platform
    freshness: Freshness
    placement: PlacementRule
    runtime: RuntimeRule
    conditions: list[str]

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self)


def parse_platform(data: bytes) -> Platform:
    """Inverse of ``Platform.encode``. Raises ParseError."""
    platform = parse_json(data, Platform, limit=LIMIT, what="platform section")
    check_platform(platform)
    return platform


def parse_release_policy(payload: bytes) -> ReleasePolicy:
    """Parse a DSSE payload whose signature the caller has verified. Raises ParseError."""
    policy = parse_json(payload, ReleasePolicy, limit=LIMIT, what="release policy")
    if policy.format != RELEASE_FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"release policy: format {policy.format[:80]!r}")
    check_release(policy)
    return policy


def parse_client_policy(data: bytes) -> ClientPolicy:
    """Parse a client policy. Raises ParseError."""
    policy = parse_json(data, ClientPolicy, limit=LIMIT, what="client policy")
    if policy.format != CLIENT_FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"client policy: format {policy.format[:80]!r}")
    check_client(policy)
    return policy
