"""The measured configuration of a runtime. Spec: docs/spec/release-exchange.md.

The hardware records its SHA-256 (in HOST_DATA on SNP), so a host cannot point a genuine runtime
at another owner, log or model without changing the evidence. It contains no addresses of brokers
or stores, because those peers are not trusted.
"""

from __future__ import annotations

import re

import msgspec

from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, ModelId

FORMAT = "regalia/runtime-config/v1"
LIMIT = 64 * 1024  # bytes
OPENS_MAX = 32  # surfaces
_SURFACE = re.compile(r"[a-z][a-z0-9-]{0,63}")


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Location of the runtime. It is measured, but it is only the operator's assertion."""

    region: str
    site: str
    tier: str


class RuntimeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The owner, log and model that the runtime trusts, and its location."""

    format: str
    model_id: str  # model:<64 hex>
    owner_key: str  # key:<64 hex>: fingerprint of the key that signs model and policy
    log_key: str  # signed-note verifier key of the transparency log (C2SP)
    placement: Placement
    egress: list[str]  # host:port that the workload may reach; empty = none
    # Surfaces of the engine that are open beyond its default, by name, sorted; absent = none.
    opens: list[str] | msgspec.UnsetType = msgspec.UNSET
    # model:<64 hex> of the one adapter that is merged into the model; absent = none.
    adapter: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def adapters(self) -> tuple[str, ...]:
        """Identifiers of the adapters that are merged into the model: none, or one."""
        return () if self.adapter is msgspec.UNSET else (self.adapter,)

    @property
    def surfaces(self) -> tuple[str, ...]:
        """Surfaces of the engine that are open."""
        return () if self.opens is msgspec.UNSET else tuple(self.opens)

    def encode(self) -> bytes:
        """Encode as canonical JSON, whose SHA-256 the hardware records."""
        return canonical_json(self)

    def digest(self) -> Digest:
        """SHA-256 of the encoding, which HOST_DATA must contain on SNP."""
        return Digest.of(self.encode())


def parse_runtime_config(data: bytes) -> RuntimeConfig:
    """Parse a runtime configuration. Inverse of ``RuntimeConfig.encode``. Raises ParseError."""
    config = parse_json(data, RuntimeConfig, limit=LIMIT, what="runtime configuration")
    if config.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"runtime configuration: format {config.format!r}")
    if config.opens is not msgspec.UNSET:
        _check_opens(config.opens)
    for adapter in config.adapters:
        _check_adapter(adapter, config.model_id)
    return config


def _check_adapter(adapter: str, model_id: str) -> None:
    """Refuse what is no identifier, and a model that would be merged into itself."""
    if str(ModelId.parse(adapter)) == model_id:
        raise ParseError(
            CoreCode.MALFORMED, "runtime configuration: the adapter is the model itself"
        )


def _check_opens(names: list[str]) -> None:
    """Refuse all lists but one for each set of surfaces. An empty set is written by no list."""
    if not 0 < len(names) <= OPENS_MAX:
        raise ParseError(
            CoreCode.MALFORMED,
            f"runtime configuration: opens has {len(names)} entries, want 1 to {OPENS_MAX}",
        )
    if not all(map(_SURFACE.fullmatch, names)) or names != sorted(set(names)):
        raise ParseError(
            CoreCode.MALFORMED,
            "runtime configuration: opens is no sorted list of distinct words",
        )
