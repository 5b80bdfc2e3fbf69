"""The runtime's settings. Documented in docs/reference/configuration-runtime.md.

These settings are not measured, so brokers and clients must not rely on them. The settings that
they do rely on are in the measured ``wire.runtime_config.RuntimeConfig``, the file that
``measured_config`` names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from regalia.core.errors import CoreCode, UsageError
from regalia.host.config import load_toml
from regalia.host.localfs import read_file
from regalia.host.plugins import require_simulation
from regalia.wire.runtime_config import LIMIT, parse_runtime_config

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.wire.runtime_config import RuntimeConfig


_SHA256 = re.compile("[0-9a-f]{64}")


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections."""


class EvidenceSection(_Section, frozen=True, kw_only=True):
    """``[evidence]``: the plug-ins that read evidence from the hardware."""

    source: str
    options: dict[str, object] = {}  # passed to the plug-in, which checks them
    devices: tuple[str, ...] = ()  # device sources, asked in this order


class EngineSection(_Section, frozen=True, kw_only=True):
    """``[engine]``: the plug-in that runs the model."""

    name: str = "transformers"
    options: dict[str, object] = {}


class LimitsSection(_Section, frozen=True, kw_only=True):
    """``[limits]``: bounds on the resources that clients can consume."""

    parallel: int = 4  # generations whose steps alternate
    queue: int = 32  # generations that may wait for a place
    per_caller: int = 16  # generations of one listed caller, waiting ones included
    unread: int = 1024  # pieces of an answer that may wait for a client that reads slowly
    stall_s: int = 30  # seconds that a client may take nothing while that many pieces wait
    answer_s: int = 900  # seconds from a request to the end of its answer
    answer_tokens: int = 4096  # maximum of new tokens in one answer
    request_bytes: int = 4 << 20  # maximum size of one sealed request
    inflight_bytes: int = 64 << 20  # of all sealed requests together that are not answered
    evidence_parallel: int = 4  # evidence requests that are answered at the same time
    stream_padding: int = 256  # bytes; streamed events are padded to multiples of it, 0 = off
    drain_s: int = 10  # seconds that running answers may take after the service was stopped


class RestartSection(_Section, frozen=True, kw_only=True):
    """``[restart]``: what is done when a hosted engine that has served ends by itself."""

    attempts: int = 3  # starts within the window, after which the runtime ends; 0: none
    window_s: int = 3600  # seconds
    pause_s: int = 1  # seconds before the first start; each later one waits twice as long


class CallerSection(_Section, frozen=True, kw_only=True):
    """``[[callers]]``: somebody who may ask, and is told from others by a key."""

    name: str
    key_sha256: str  # SHA-256 of the key, 64 hexadecimal digits


class ServeConfig(_Section, frozen=True, kw_only=True):
    """The whole configuration file."""

    store: str
    broker: str
    measured_config: str
    evidence: EvidenceSection
    adapter_store: str = ""  # where the sealed adapter lies; empty: none
    listen: str = "127.0.0.1:8443"
    served_name: str = "model"
    memory: Literal["locked", "secret"] = "locked"
    load_threads: int = 2
    cache: str = ""  # folder for ciphertext of remote stores; empty: none
    cache_bytes: int = 64 << 30  # bound on what the cache holds
    peers: tuple[str, ...] = ()  # other machines' caches, asked before the store
    engine: EngineSection = EngineSection()
    engine_folder: str = "/dev/shm"  # noqa: S108 - checked to be in memory; of hosted engines
    engine_start_s: int = 900  # seconds that the processes of a hosted engine may take to start
    engine_health_s: int = 60  # seconds without a good answer after which an engine is given up
    restart: RestartSection = RestartSection()
    limits: LimitsSection = LimitsSection()
    callers: tuple[CallerSection, ...] = ()  # empty: anybody may ask, and nobody is counted
    dangerous_simulated_tee: bool = False
    dangerous_unlocked_memory: bool = False

    def dangers(self) -> tuple[str, ...]:
        """Names of the settings that are on and lower protection."""
        names = ("dangerous_simulated_tee", "dangerous_unlocked_memory")
        found = tuple(name for name in names if getattr(self, name))
        stores = {"store": self.store, "adapter_store": self.adapter_store}
        in_clear = (
            f"{name}'s dangerous_http"
            for name, address in stores.items()
            if address.startswith("oci://") and "dangerous_http" in address
        )
        return (*found, *in_clear)


def _check(config: ServeConfig) -> None:
    limits = config.limits
    positive = {
        "load_threads": config.load_threads,
        "engine_start_s": config.engine_start_s,
        "engine_health_s": config.engine_health_s,
        "restart.window_s": config.restart.window_s,
        "limits.parallel": limits.parallel,
        "limits.per_caller": limits.per_caller,
        "limits.unread": limits.unread,
        "limits.stall_s": limits.stall_s,
        "limits.answer_s": limits.answer_s,
        "limits.answer_tokens": limits.answer_tokens,
        "limits.request_bytes": limits.request_bytes,
        "limits.evidence_parallel": limits.evidence_parallel,
    }
    natural = {
        "restart.attempts": config.restart.attempts,
        "restart.pause_s": config.restart.pause_s,
        "limits.queue": limits.queue,
        "limits.stream_padding": limits.stream_padding,
        "limits.drain_s": limits.drain_s,
    }
    wrong = [name for name, value in positive.items() if value < 1]
    wrong += [name for name, value in natural.items() if value < 0]
    if len(set(config.evidence.devices)) != len(config.evidence.devices):
        wrong.append("evidence.devices")  # a device counted twice is refused by every verifier
    if not config.broker.startswith(("https://", "http://")):
        wrong.append("broker (no http or https URL)")
    if not config.served_name.isprintable() or not config.served_name.strip():
        wrong.append("served_name")
    if limits.inflight_bytes < limits.request_bytes:
        wrong.append("limits.inflight_bytes")
    if not _callers_are_distinct(config.callers):
        wrong.append("callers")
    if wrong:
        raise UsageError(CoreCode.BAD_CONFIG, f"out of range: {', '.join(wrong)}")


def _callers_are_distinct(callers: tuple[CallerSection, ...]) -> bool:
    digests = {caller.key_sha256 for caller in callers}
    names = {caller.name for caller in callers}
    well_formed = all(_SHA256.fullmatch(digest) for digest in digests) and "" not in names
    return well_formed and len(digests) == len(names) == len(callers)


def load_config(path: Path) -> ServeConfig:
    """Read the runtime's TOML file.

    Raises:
        UsageError: BAD_CONFIG, a setting is unknown, of the wrong type or out of range; or
            SIMULATION_NOT_INSTALLED.
        LocalError: the file cannot be read.
    """
    config = load_toml(path, ServeConfig)
    if config.dangerous_simulated_tee:
        require_simulation("dangerous_simulated_tee")
    _check(config)
    return config


def load_measured(config: ServeConfig, beside: Path) -> tuple[RuntimeConfig, bytes]:
    """Read the measured configuration.

    Args:
        config: settings, which hold the path of the file.
        beside: folder of the settings file; a relative path starts from it.

    Returns:
        The parsed configuration, and its exact bytes, which are what was measured.

    Raises:
        LocalError: the file cannot be read.
        ParseError: it is malformed.
    """
    data = read_file(beside / config.measured_config, limit=LIMIT)
    return parse_runtime_config(data), data
