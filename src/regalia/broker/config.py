"""The broker's settings. Documented in docs/reference/configuration-broker.md.

Paths are relative to the folder of the configuration file. Every file that the settings name is
read once, at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import CoreCode, UsageError
from regalia.host.config import load_toml
from regalia.host.plugins import require_simulation

if TYPE_CHECKING:
    from pathlib import Path


SIMULATED_ANCHOR = "attest.dangerous_simulated_anchor"
_CHALLENGE_TTL_MAX_S = 3600


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
    concurrent: int = 8  # requests that are processed at the same time
    waiting: int = 24  # requests that may wait in addition
    body_timeout_s: int = 10  # seconds that a request body may take to arrive


class ModelSection(_Section, frozen=True, kw_only=True):
    """``[[models]]``: one model that may be released."""

    manifest: str
    policy: str
    owner_keys: list[str]
    owner_threshold: int = 1
    approvals: list[str] = []
    approver_keys: list[str] = []


class BrokerConfig(_Section, frozen=True, kw_only=True):
    """The whole configuration file."""

    listen: str = "127.0.0.1:8441"
    state: StateSection
    log: LogSection
    keys: KeysSection
    attest: AttestSection
    limits: LimitsSection = LimitsSection()
    models: list[ModelSection]

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
    limits = config.limits
    positive = {
        "limits.challenge_ttl_s": limits.challenge_ttl_s,
        "limits.concurrent": limits.concurrent,
        "limits.body_timeout_s": limits.body_timeout_s,
        "attest.collateral_threshold": config.attest.collateral_threshold,
        **{f"models[{i}].owner_threshold": m.owner_threshold for i, m in enumerate(config.models)},
    }
    wrong = [name for name, value in positive.items() if value < 1]
    if limits.challenge_ttl_s > _CHALLENGE_TTL_MAX_S:
        wrong.append("limits.challenge_ttl_s")
    if limits.waiting < 0:
        wrong.append("limits.waiting")
    if not config.models:
        wrong.append("models (none)")
    wrong += [f"models[{i}].owner_keys" for i, m in enumerate(config.models) if not m.owner_keys]
    if wrong:
        raise UsageError(CoreCode.BAD_CONFIG, f"{path}: out of range: {', '.join(wrong)}")
    return config
