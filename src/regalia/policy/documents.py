"""Release and client policies as documents. Spec: docs/spec/policy.md.

Every field is required; leaving a thing open is written ``"any"``, and that word shows in
``explain``, in the verdict and in the log. Bytes are lower-case hex.

Building one of these structs checks nothing; parsing checks types, ranges and what stands at the
end of this file. A list of accepted values may be empty: such a policy is well-formed and denies
everything. Whatever is built by hand and not well-formed matches no claims, so it denies.
"""

from __future__ import annotations

import re
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from regalia.appraisal.collateral_rule import CollateralRule, RevocationRule
from regalia.appraisal.policy_doc import Count, Doc, Listed, Unrestricted, Version
from regalia.appraisal.policy_words import WORD_MAX, bad, each, typed, word
from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import KeyFingerprint, ModelId, PolicyId
from regalia.policy.device_set import check_devices
from regalia.policy.registry import POLICY_PLUGINS, plugin_for
from regalia.tees.azure.policy.section import AzureSnp, AzureTdx
from regalia.tees.intel.policy.section import Sgx, Tdx
from regalia.tees.nitro.policy.section import Nitro
from regalia.tees.nvidia.policy.section import Device
from regalia.tees.snp.policy.section import Snp
from regalia.tees.tpm.policy.section import Tpm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regalia.wire.evidence import Tee

RELEASE_FORMAT = "regalia/release-policy/v1"
CLIENT_FORMAT = "regalia/client-policy/v1"
PAYLOAD_TYPE = "application/vnd.regalia.policy.v1+json"
LIMIT = 256 * 1024  # bytes
COLLATERAL_GRACE_MAX_DAYS = 90
CONDITIONS_MAX = 32
EXPRESSION_MAX = 1024  # characters

_LOG_KEY = re.compile(r"[\x21-\x2a\x2c-\x7e]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2}")
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-f:.]+\]):([0-9]{1,5})")
_PORT_MAX = 65535


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


def collateral_rule(platform: Platform, tee: Tee) -> CollateralRule:
    """What a policy demands of the collateral for one kind of TEE.

    Without a section nothing is asked: evaluation refuses such a TEE whatever else is true, and
    that is then the reason that is given, not a list that happens to be missing.

    Args:
        platform: the policy's demands.
        tee: whose section counts.
    """
    plugin = plugin_for(tee)
    section = getattr(platform, plugin.name)
    required = section is not None and plugin.needs_revocation(section)
    return CollateralRule(
        RevocationRule.REQUIRED if required else RevocationRule.ANY,
        timedelta(days=platform.dangerous_collateral_grace_days),
    )


class PlacementRule(Doc, frozen=True, kw_only=True):
    """Accepted operator-asserted (and measured) placements."""

    regions: Listed
    sites: Listed
    tiers: Listed


class RuntimeRule(Doc, frozen=True, kw_only=True):
    """What the measured runtime configuration must say."""

    owner_key: str | Unrestricted  # fingerprint of the key that signs model and policy
    log_key: str | Unrestricted  # signed-note verifier key of the log
    egress: Listed  # host:port that may be listed there; [] = none may
    # Surfaces of the engine that may be open there, by name; [] or absent = none may.
    opens: Listed | msgspec.UnsetType = msgspec.UNSET
    # Adapters that may be merged into the model there, model:<64 hex>; [] or absent = none may.
    adapters: Listed | msgspec.UnsetType = msgspec.UNSET

    @property
    def surfaces(self) -> Listed:
        """Surfaces of the engine that may be open."""
        return [] if self.opens is msgspec.UNSET else self.opens

    @property
    def accepted_adapters(self) -> Listed:
        """Adapters that may be merged into the model."""
        return [] if self.adapters is msgspec.UNSET else self.adapters


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
    custody: list[Literal["broker", "kms", "hsm"]]
    approvals: Approvals
    conditions: list[str]  # CEL over the claims; all must be true
    # What must sign the owner's documents, the approvals and the log; absent = classical.
    signatures: Literal["classical", "post-quantum"] | msgspec.UnsetType = msgspec.UNSET

    @property
    def wants_post_quantum(self) -> bool:
        """Whether only signatures that outlast quantum computers count."""
        return self.signatures == "post-quantum"

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
    _check_platform(platform)
    return platform


def parse_release_policy(payload: bytes) -> ReleasePolicy:
    """Parse a DSSE payload whose signature the caller has verified. Raises ParseError."""
    policy = parse_json(payload, ReleasePolicy, limit=LIMIT, what="release policy")
    if policy.format != RELEASE_FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"release policy: format {policy.format[:80]!r}")
    _check_common(policy)
    each(policy.custody, "custody", typed)
    _check_approvals(policy.approvals)
    return policy


def parse_client_policy(data: bytes) -> ClientPolicy:
    """Parse a client policy. Raises ParseError."""
    policy = parse_json(data, ClientPolicy, limit=LIMIT, what="client policy")
    if policy.format != CLIENT_FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"client policy: format {policy.format[:80]!r}")
    _check_common(policy)
    return policy


# -- what is left open; found by walking the document, so no rule is forgotten ---------------------

_GRACE = "platform.dangerous_collateral_grace_days"

# Values other than "any" by which a field demands nothing, by path.
_OPEN_VALUES: Mapping[str, object] = MappingProxyType(
    {
        "platform.hardware": "dangerous_simulated",
        **{
            f"{plugin.path}.{field.name}": field.open_value
            for plugin in POLICY_PLUGINS
            for field in plugin.fields
            if field.open_value is not None
        },
    }
)


def wildcards(policy: msgspec.Struct) -> tuple[str, ...]:
    """Paths of the rules that a policy of either kind leaves open, in document order.

    ``path`` alone means that the rule says ``"any"``; ``path=value`` is another value that
    demands nothing. A document's name is free text and no rule.
    """
    return tuple(_walk("", policy))


def platform_wildcards(platform: Platform) -> tuple[str, ...]:
    """The same for the platform's rules alone."""
    return tuple(_walk("platform.", platform))


def wildcards_for(platform: Platform, tee: Tee | None) -> tuple[str, ...]:
    """Those of the platform's rules that one kind of attester is held against.

    Args:
        platform: the policy's demands.
        tee: the attester's kind; None for devices without a CPU.
    """
    others = tuple(f"{plugin.path}." for plugin in POLICY_PLUGINS if plugin.tee is not tee)
    return tuple(path for path in platform_wildcards(platform) if not path.startswith(others))


def _walk(prefix: str, document: msgspec.Struct) -> Iterator[str]:
    for name in document.__struct_fields__:
        path = f"{prefix}{name}"
        value: object = getattr(document, name)
        if isinstance(value, msgspec.Struct):
            yield from _walk(f"{path}.", value)
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                if isinstance(entry, msgspec.Struct):
                    yield from _walk(f"{path}[{index}].", entry)
        elif value == "any" and path != "name":
            yield path
        if path == _GRACE and value:
            yield f"{path}={_text(value)}"
        if path in _OPEN_VALUES and value == _OPEN_VALUES[path]:
            yield f"{path}={_text(value)}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# -- what is well-formed beyond types and ranges; every refusal names the field by its path --------


def _check_common(policy: ReleasePolicy | ClientPolicy) -> None:
    word(policy.name, "name")
    _digest(ModelId, policy.model.id, "model.id")
    _check_platform(policy.platform)
    for name in ("regions", "sites", "tiers"):
        each(getattr(policy.placement, name), f"placement.{name}", word)
    _check_runtime(policy.runtime)
    if len(policy.conditions) > CONDITIONS_MAX:
        raise bad("conditions", f"{len(policy.conditions)} entries, at most {CONDITIONS_MAX}")
    each(policy.conditions, "conditions", _expression)


def _check_platform(platform: Platform) -> None:
    check_devices(platform.devices)
    for plugin in POLICY_PLUGINS:
        section = getattr(platform, plugin.name)
        if section is not None:
            plugin.check(section, plugin.path)


def _check_runtime(rule: RuntimeRule) -> None:
    if rule.owner_key != "any":
        _fingerprint(rule.owner_key, "runtime.owner_key")
    if rule.log_key != "any" and _LOG_KEY.fullmatch(rule.log_key) is None:
        raise bad("runtime.log_key", "want a signed-note key, <origin>+<8 hex>+<base64>")
    each(rule.egress, "runtime.egress", _host_port)
    each(rule.surfaces, "runtime.opens", word)
    each(rule.accepted_adapters, "runtime.adapters", _model_id)


def _check_approvals(approvals: Approvals) -> None:
    each(approvals.approvers, "approvals.approvers", _fingerprint)
    if approvals.threshold > len(approvals.approvers):
        raise bad(
            "approvals.threshold",
            f"{approvals.threshold} of {len(approvals.approvers)} approvers can never be reached",
        )


def _expression(value: str, path: str) -> None:
    if not 0 < len(value) <= EXPRESSION_MAX:
        raise bad(path, f"want 1 to {EXPRESSION_MAX} characters, got {len(value)}")


def _model_id(value: str, path: str) -> None:
    _digest(ModelId, value, path)


def _digest(kind: type[ModelId | KeyFingerprint], value: str, path: str) -> None:
    try:
        kind.parse(value)
    except ParseError as exc:
        raise bad(path, exc.what) from exc


def _fingerprint(value: str, path: str) -> None:
    _digest(KeyFingerprint, value, path)


def _host_port(value: str, path: str) -> None:
    match = _HOST_PORT.fullmatch(value)
    if match is None or not 0 < int(match[1]) <= _PORT_MAX:
        raise bad(path, f"want host:port, got {value[:WORD_MAX]!r}")
