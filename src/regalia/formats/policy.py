"""Release and client policies as documents. Spec: docs/spec/policy.md.

Every field is required; leaving a thing open is written ``"any"``, and that word shows in
``explain``, in the verdict and in the log. Bytes are lower-case hex.

Building one of these structs checks nothing; parsing checks types, ranges and the rules of
``regalia.formats.policy_checks``. Whatever is built by hand and not well-formed matches no
claims, so it denies.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import PolicyId
from regalia.formats.policy_checks import check_client, check_release

RELEASE_FORMAT = "regalia/release-policy/v1"
CLIENT_FORMAT = "regalia/client-policy/v1"
PAYLOAD_TYPE = "application/vnd.regalia.policy.v1+json"
LIMIT = 256 * 1024  # bytes

Any = Literal["any"]

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Vmpl = Annotated[int, msgspec.Meta(ge=0, le=3)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_Version = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all policy structs."""


class TcbMinimum(_Doc, frozen=True, kw_only=True):
    """Component-wise minimum for reported, committed and launch TCB of one product."""

    fmc: _Byte  # 0 before Turin
    bootloader: _Byte
    tee: _Byte
    snp: _Byte
    microcode: _Byte


class FirmwareMinimum(_Doc, frozen=True, kw_only=True):
    """Lowest accepted SEV firmware version, compared as (major, minor, build)."""

    major: _Byte
    minor: _Byte
    build: _Byte


class GuestPolicy(_Doc, frozen=True, kw_only=True):
    """Guest POLICY bits. DEBUG and MIGRATE_MA have no words here: they are always refused."""

    abi_minor_min: _Byte
    abi_major_min: _Byte
    smt: Literal["allow", "deny"]
    single_socket: Literal["required", "any"]
    cxl: Literal["allow", "deny"]


class Snp(_Doc, frozen=True, kw_only=True):
    """What an SEV-SNP platform must be. A list of accepted values that is empty denies."""

    products: list[str]  # Milan needs its chip named in chip_ids, see docs/limitations.md
    measurements: list[str] | Any  # 48 bytes each
    host_data: list[str] | Any  # 32 bytes each; SHA-256 of the accepted runtime configurations
    id_keys: list[str] | Any  # ID_KEY_DIGEST, 48 bytes each
    vmpl: list[_Vmpl]
    guest_policy: GuestPolicy
    platform_info_required: list[str]  # names of PLATFORM_INFO bits, e.g. ALIAS_CHECK_COMPLETE
    tcb_minimum: dict[str, TcbMinimum] | Any  # by product
    firmware_minimum: FirmwareMinimum | Any
    provisional_firmware: Literal["deny", "allow"]  # current TCB above the committed one
    mitigations_required: _Count | Any  # bits of LAUNCH and CURRENT_MIT_VECTOR (report v5)
    report_version_minimum: _Count
    signing_keys: list[Literal["vcek", "vlek"]]
    csp_ids: list[str] | Any  # for VLEK
    chip_ids: list[str] | Any  # 64 bytes each
    revocation: Literal["required", "any"]


class Platform(_Doc, frozen=True, kw_only=True):
    """The attester: which hardware, in which state, running what."""

    hardware: Literal["genuine", "dangerous_simulated"]
    snp: Snp
    devices: list[str]  # the exact device set; empty = CPU only, and any device is a refusal


class PlacementRule(_Doc, frozen=True, kw_only=True):
    """Accepted operator-asserted (and measured) placements."""

    regions: list[str] | Any
    sites: list[str] | Any
    tiers: list[str] | Any


class RuntimeRule(_Doc, frozen=True, kw_only=True):
    """What the measured runtime configuration must say."""

    owner_key: str | Any  # fingerprint of the key that signs model and policy
    log_key: str | Any  # signed-note verifier key of the log
    egress: list[str] | Any  # host:port that may be listed there; [] = none may


class ModelRule(_Doc, frozen=True, kw_only=True):
    """The one model that this policy is about."""

    id: str  # model:<64 hex>
    version_minimum: _Count


class Freshness(_Doc, frozen=True, kw_only=True):
    """How old a challenge may be when its evidence arrives."""

    challenge_max_age_s: Annotated[int, msgspec.Meta(ge=1, le=3600)]


class Approvals(_Doc, frozen=True, kw_only=True):
    """m-of-n approvals a release needs: key fingerprints of approvers, and how many."""

    threshold: Annotated[int, msgspec.Meta(ge=0, le=16)]
    approvers: list[str]


class ReleasePolicy(_Doc, frozen=True, kw_only=True):
    """Under which conditions the broker releases a model key. Signed by the model owner."""

    format: str
    name: str
    version: _Version  # monotonic per model; a broker refuses to go back
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


class ClientPolicy(_Doc, frozen=True, kw_only=True):
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
