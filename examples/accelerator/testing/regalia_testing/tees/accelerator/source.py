"""Evidence source plug-in ``simulated-accelerator``. It protects nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia_testing.options import platform_options
from regalia_testing.sources import SimulatedSource, launch_measurement
from regalia_testing.tees.accelerator.defects import HEALTHY
from regalia_testing.tees.accelerator.simulator import AcceleratorSimulator

if TYPE_CHECKING:
    from regalia.wire.evidence import EvidenceSource


def open_source(options: dict[str, object]) -> EvidenceSource:
    """A program on the ``AcceleratorSimulator`` that the configuration names.

    Raises:
        UsageError: BAD_CONFIG, an option is missing, unknown or of the wrong type.
        LocalError: the platform cannot be read.
        ParseError: the platform is damaged.
    """
    directory, defects = platform_options(options, HEALTHY, source="simulated-accelerator")
    platform = AcceleratorSimulator.open(directory)
    return SimulatedSource(platform.evidence, defects, launch_measurement())
