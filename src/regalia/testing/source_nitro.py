"""Evidence source plug-in ``simulated-nitro``: a simulated hypervisor in place of AWS's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import regalia
from regalia.testing.nitro import SimulatedNitro
from regalia.testing.nitro_knobs import HEALTHY
from regalia.testing.options import platform_options
from regalia.testing.snp import measure_code

if TYPE_CHECKING:
    from regalia.formats.evidence import DeviceEvidence, Evidence, EvidenceSource
    from regalia.testing.nitro_knobs import NitroKnobs


@dataclass(frozen=True, slots=True)
class SimulatedNitroSource:
    """Issues documents over the code that this process runs; each process is an enclave."""

    platform: SimulatedNitro
    measurement: bytes  # 48
    knobs: NitroKnobs

    @property
    def simulated(self) -> bool:
        """Always: the process that asks also holds every key."""
        return True

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A document whose nonce is ``report_data`` (64 bytes)."""
        return self.platform.evidence(
            report_data,
            measurement=self.measurement,
            runtime_config=runtime_config,
            knobs=self.knobs,
        )

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """None: enclaves have no devices."""
        return ()


def open_source(options: dict[str, object]) -> EvidenceSource:
    """Open the platform that the configuration names.

    Args:
        options: ``platform``, the directory of a ``SimulatedNitro``; optionally ``knobs``, a
            table of ``NitroKnobs`` fields, to show how defects are refused.

    Raises:
        UsageError: BAD_CONFIG, an option is missing, unknown or of the wrong type.
        LocalError: the platform cannot be read.
        ParseError: the platform is damaged.
    """
    directory, knobs = platform_options(options, HEALTHY, source="simulated-nitro")
    measurement = measure_code(Path(regalia.__file__).parent)
    return SimulatedNitroSource(SimulatedNitro.open(directory), measurement, knobs)
