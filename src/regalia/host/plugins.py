"""Plug-ins are entry points, and only those named in the configuration are imported."""

from __future__ import annotations

from importlib.metadata import entry_points

from regalia.core.errors import CoreCode, UsageError

EVIDENCE_SOURCES = "regalia.evidence_sources"
DEVICE_SOURCES = "regalia.device_sources"
KEY_STORES = "regalia.key_stores"
ENGINES = "regalia.engines"
ADDED_COMMANDS = "regalia.commands"


def load(group: str, name: str) -> object:
    """Import the one plug-in called ``name`` in ``group``.

    Raises:
        UsageError: PLUGIN_UNKNOWN if it is missing, ambiguous, or its imports fail.
    """
    found = entry_points(group=group, name=name)
    if len(found) != 1:
        have = sorted({point.name for point in entry_points(group=group)})
        raise UsageError(
            CoreCode.PLUGIN_UNKNOWN, f"{group}: no single plug-in {name!r}; installed: {have}"
        )
    (point,) = found
    try:
        return point.load()
    except ImportError as exc:
        raise UsageError(
            CoreCode.PLUGIN_UNKNOWN, f"{group}: {name!r} does not import: {exc}"
        ) from exc
