"""The broker's settings. Documented in docs/reference/configuration-broker.md.

Paths are relative to the folder of the configuration file. Every file that the settings name is
read once, at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.core.types import Digest
from regalia.host.config import load_toml
from regalia.host.plugins import require_simulation
from regalia.wire.statement import check_tenant

if TYPE_CHECKING:
    from pathlib import Path


SIMULATED_ANCHOR = "attest.dangerous_simulated_anchor"
# Lowest and highest value of each limit. A limit that nobody reaches is none, and one that no
# machine can hold fails when it is needed.
_RANGES = {
    "challenge_ttl_s": (1, 3600),
    "peer_refusals": (1, 100_000),
    "peer_requests": (1, 100_000),
    "denials_logged": (1, 100_000),
    "concurrent": (1, 256),
    "waiting": (0, 4096),
    "body_mib": (8, 4096),  # one request has up to 8 MiB
    "body_timeout_s": (1, 600),
}


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: immutable, and unknown settings are an error."""


class StateSection(_Section, frozen=True, kw_only=True):
    """``[state]``: used challenges, leases, version floors, what was seen of the log."""

    database: str


class LogSection(_Section, frozen=True, kw_only=True):
    """``[log]``: the transparency log."""

    database: str
    origin: str
    key: str
    passphrase_file: str | None = None


class KeysSection(_Section, frozen=True, kw_only=True):
    """``[keys]``: the key store."""

    store: str  # SCHEME:LOCATION
    passphrase_file: str | None = None


class AttestSection(_Section, frozen=True, kw_only=True):
    """``[attest]``: certificates and revocation lists."""

    collateral: str  # a folder of loose files, or a signed bundle
    collateral_signers: list[str] = []  # public keys; without any, a bundle is refused
    collateral_threshold: int = 1
    collateral_name: str | None = None  # the site that the bundle must be for
    dangerous_simulated_anchor: str | None = None


class LimitsSection(_Section, frozen=True, kw_only=True):
    """``[limits]``: bounds on the resources that clients on the network can consume."""

    challenge_ttl_s: int = 60
    peer_refusals: int = 30  # refusals that one address may cause in a minute
    peer_requests: int = 50  # requests that one address may begin in a second; more wait
    denials_logged: int = 60  # refusals of one kind in a minute with an entry of their own
    concurrent: int = 8  # requests that are processed at the same time
    waiting: int = 24  # requests that may wait in addition
    body_mib: int = 64  # MiB of request bodies that are processed or wait
    body_timeout_s: int = 10  # seconds that a request body may take to arrive


class ModelSection(_Section, frozen=True, kw_only=True):
    """``[[models]]``: one model that may be released."""

    manifest: str
    policy: str
    owner_keys: list[str]
    owner_threshold: int = 1
    approvals: list[str] = []
    approver_keys: list[str] = []
    tenant: str | None = None  # one of ``[[tenants]]``


class TenantSection(_Section, frozen=True, kw_only=True):
    """``[[tenants]]``: owners whose signed statements decide about models."""

    name: str
    charter: str  # sha256:<hex>, digest of statement 1
    statements: str | None = None  # a folder of signed statements that are taken at the start


class BrokerConfig(_Section, frozen=True, kw_only=True):
    """The whole configuration file."""

    listen: str = "127.0.0.1:8441"
    state: StateSection
    log: LogSection
    keys: KeysSection
    attest: AttestSection
    limits: LimitsSection = LimitsSection()
    models: list[ModelSection]
    tenants: list[TenantSection] = []

    def dangers(self) -> tuple[str, ...]:
        """Names of the settings that are on and lower protection."""
        simulated = self.attest.dangerous_simulated_anchor is not None
        return (SIMULATED_ANCHOR,) if simulated else ()


def load_config(path: Path) -> BrokerConfig:
    """Read the broker's TOML file.

    Raises:
        UsageError: BAD_CONFIG, a setting is unknown, of the wrong type or out of range; or
            SIMULATION_NOT_INSTALLED.
        LocalError: the file cannot be read.
    """
    config = load_toml(path, BrokerConfig)
    for setting in config.dangers():
        require_simulation(setting)
    wrong = [
        f"limits.{name} ({low} to {high})"
        for name, (low, high) in _RANGES.items()
        if not low <= getattr(config.limits, name) <= high
    ]
    wrong += _impossible_thresholds(config)
    if not config.models:
        wrong.append("models (none)")
    wrong += _wrong_tenants(config)
    if wrong:
        raise UsageError(CoreCode.BAD_CONFIG, f"{path}: out of range: {', '.join(wrong)}")
    return config


def _wrong_tenants(config: BrokerConfig) -> list[str]:
    """Tenants that are no tenants, stand there twice, or are named by models and not there."""
    names = [tenant.name for tenant in config.tenants]
    wrong = [f"tenants.name {name!r}, twice" for name in names if names.count(name) > 1]
    for tenant in config.tenants:
        try:
            check_tenant(tenant.name)
            Digest.parse(tenant.charter)
        except ParseError as exc:
            wrong.append(f"tenants: {exc.what}")
    wrong += [
        f"models[{number}].tenant {model.tenant!r}, not among [[tenants]]"
        for number, model in enumerate(config.models)
        if model.tenant is not None and model.tenant not in names
    ]
    return wrong


def _impossible_thresholds(config: BrokerConfig) -> list[str]:
    """Thresholds that nothing or that everything would reach."""
    attest = config.attest
    keys = {
        # Without signers the collateral is a folder of files, and the threshold says nothing.
        "attest.collateral_threshold": (attest.collateral_threshold, attest.collateral_signers),
        **{
            f"models[{number}].owner_threshold": (model.owner_threshold, model.owner_keys)
            for number, model in enumerate(config.models)
        },
    }
    wrong = [
        f"{name} ({threshold} of {len(named)} keys)"
        for name, (threshold, named) in keys.items()
        if threshold < 1 or (named and threshold > len(named))
    ]
    wrong += [f"models[{i}].owner_keys" for i, m in enumerate(config.models) if not m.owner_keys]
    return wrong
