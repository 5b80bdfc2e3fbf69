"""Chooses what serves the model, by the engine that the configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from regalia.engines.hosted import HostedEngine
from regalia.host import plugins
from regalia.runtime.inprocess import InProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.engines.base import BuildEngine
    from regalia.runtime.config import ServeConfig
    from regalia.runtime.workload import Workload


def choose_workload(
    config: ServeConfig, folder: Path, *, on_failed: Callable[[str], None]
) -> Workload:
    """Import the engine's plug-in, and make what it needs.

    Args:
        config: names the engine.
        folder: folder that relative paths in the settings start from.
        on_failed: called, from any thread, when an engine in processes of its own fails.

    Raises:
        UsageError: PLUGIN_UNKNOWN.
    """
    plugin = plugins.load(plugins.ENGINES, config.engine.name)
    if isinstance(plugin, HostedEngine):
        from regalia.runtime.hosted.workload import Hosted

        return Hosted(config, folder, plugin, on_failed=on_failed)
    return InProcess(config, cast("BuildEngine", plugin))
