"""Plug-ins are entry points, and only those named in the configuration are imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, UsageError
from regalia.core.extras import missing_extra

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

EVIDENCE_SOURCES = "regalia.evidence_sources"
DEVICE_SOURCES = "regalia.device_sources"
KEY_STORES = "regalia.key_stores"
ENGINES = "regalia.engines"
ADDED_COMMANDS = "regalia.commands"
SIMULATED_ANCHORS = "regalia.simulated_anchors"


def announced(group: str) -> EntryPoints:
    """What installed distributions announce in ``group``. Nothing of it is imported."""
    # It takes a quarter of the time of `regalia --help`, and most commands have no plug-in.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return entry_points(group=group)


def load(group: str, name: str) -> object:
    """Import the one plug-in called ``name`` in ``group``.

    Args:
        group: of entry points.
        name: as the configuration has it.

    Raises:
        UsageError: PLUGIN_UNKNOWN if it is missing, ambiguous, its imports fail, or its module
            lacks what the entry point names; EXTRA_MISSING if imports fail for a package that was
            not installed.
    """
    every = announced(group)
    found = every.select(name=name)
    if len(found) != 1:
        have = sorted({point.name for point in every})
        raise UsageError(
            CoreCode.PLUGIN_UNKNOWN, f"{group}: no single plug-in {name!r}; installed: {have}"
        )
    (point,) = found
    try:
        return point.load()
    except ImportError as exc:
        broken = UsageError(CoreCode.PLUGIN_UNKNOWN, f"{group}: {name!r} does not import: {exc}")
        raise missing_extra(exc) or broken from exc
    except AttributeError as exc:
        if exc.obj is not sys.modules.get(point.module):
            raise  # of the plug-in's own code
        raise UsageError(
            CoreCode.PLUGIN_UNKNOWN, f"{group}: {name!r} is {point.value}, which is not there"
        ) from exc


def require_simulation(setting: str) -> None:
    """Refuse a setting that needs simulated platforms before it has any effect.

    Args:
        setting: the option or configuration key, as its user wrote it; for the message.

    Raises:
        UsageError: SIMULATION_NOT_INSTALLED.
    """
    if not announced(SIMULATED_ANCHORS):
        raise UsageError(
            CoreCode.SIMULATION_NOT_INSTALLED,
            f"{setting} asks for simulated platforms, and regalia-testing is not installed",
        )


def load_simulated_anchors(setting: str) -> object:
    """Import the function that makes anchors of simulated roots. No product code can.

    Call this only when a ``dangerous_`` setting asks for it.

    Args:
        setting: the option or configuration key that asks; for the message.

    Returns:
        A ``regalia.verifier.anchors.MakeSimulatedAnchors``.

    Raises:
        UsageError: SIMULATION_NOT_INSTALLED, or PLUGIN_UNKNOWN if it does not import.
    """
    require_simulation(setting)
    return load(SIMULATED_ANCHORS, "testing")
