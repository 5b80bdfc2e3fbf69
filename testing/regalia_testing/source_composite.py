"""Evidence source plug-in ``simulated-composite``: a simulated CPU with simulated devices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, UsageError
from regalia_testing.options import defects_from
from regalia_testing.sources import open_snp
from regalia_testing.tees.nvidia.defects import HEALTHY_DEVICE
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator

if TYPE_CHECKING:
    from regalia.wire.evidence import DeviceEvidence, Evidence, EvidenceSource
    from regalia_testing.tees.nvidia.defects import NvidiaDefects


_OWN_OPTIONS = frozenset({"devices", "device_defects"})


@dataclass(frozen=True, slots=True)
class CompositeSource:
    """Asks a CPU's source, and the devices beside it."""

    cpu: EvidenceSource
    devices: NvidiaSimulator
    defects: NvidiaDefects = HEALTHY_DEVICE

    @property
    def simulated(self) -> bool:
        """Always."""
        return True

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """As the CPU's source."""
        return self.cpu.collect(report_data, runtime_config)

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        """Of every device, in one order."""
        return self.devices.evidence(nonce, self.defects)


def open_source(options: dict[str, object]) -> EvidenceSource:
    """Open the platform and the devices that the configuration names.

    Args:
        options: those of ``simulated-snp``, and ``devices``, the directory of
            ``NvidiaSimulator``; optionally ``device_defects``, a table of ``NvidiaDefects`` fields.

    Raises:
        UsageError: BAD_CONFIG, an option is missing, unknown or of the wrong type.
        LocalError: the platform or the devices cannot be read.
        ParseError: they are damaged.
    """
    rest = {name: value for name, value in options.items() if name not in _OWN_OPTIONS}
    directory = options.get("devices")
    if not isinstance(directory, str | Path) or not str(directory):
        raise UsageError(
            CoreCode.BAD_CONFIG, "simulated-composite: `devices` must name a directory"
        )
    chosen = options.get("device_defects", {})
    if not isinstance(chosen, dict):
        raise UsageError(
            CoreCode.BAD_CONFIG, "simulated-composite: `device_defects` must be a table"
        )
    defects = defects_from(chosen, HEALTHY_DEVICE)
    return CompositeSource(open_snp(rest), NvidiaSimulator.open(Path(directory)), defects)
