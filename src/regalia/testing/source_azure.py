"""Evidence source plug-ins ``simulated-az-snp`` and ``simulated-az-tdx``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import regalia
from regalia.core.errors import CoreCode, UsageError
from regalia.formats.evidence import Tee
from regalia.testing.azure import SimulatedAzure
from regalia.testing.azure_knobs import HEALTHY
from regalia.testing.options import platform_options
from regalia.testing.snp import measure_code

if TYPE_CHECKING:
    from regalia.formats.evidence import DeviceEvidence, Evidence, EvidenceSource
    from regalia.testing.azure_knobs import AzureKnobs


@dataclass(frozen=True, slots=True)
class SimulatedAzureSource:
    """Issues evidence of a VM whose paravisor "measures" the code that this process runs."""

    platform: SimulatedAzure
    measurement: bytes  # 48
    knobs: AzureKnobs

    @property
    def simulated(self) -> bool:
        """Always: the process that asks also holds every key."""
        return True

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """Evidence whose vTPM quoted the SHA-256 of ``report_data`` (64 bytes)."""
        return self.platform.evidence(
            report_data,
            measurement=self.measurement,
            runtime_config=runtime_config,
            knobs=self.knobs,
        )

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """None: this platform has a CPU only."""
        return ()


def open_snp_source(options: dict[str, object]) -> EvidenceSource:
    """Open the VM that the configuration names.

    Args:
        options: ``platform``, the directory of a ``SimulatedAzure`` on SNP; optionally
            ``knobs``, a table of ``AzureKnobs`` fields, to show how defects are refused.

    Raises:
        UsageError: BAD_CONFIG, an option is missing, unknown or of the wrong type.
        LocalError: the platform cannot be read.
        ParseError: the platform is damaged.
    """
    return _open(options, Tee.AZURE_SNP, "simulated-az-snp")


def open_tdx_source(options: dict[str, object]) -> EvidenceSource:
    """Like ``open_snp_source``, on TDX."""
    return _open(options, Tee.AZURE_TDX, "simulated-az-tdx")


def _open(options: dict[str, object], tee: Tee, source: str) -> EvidenceSource:
    directory, knobs = platform_options(options, HEALTHY, source=source)
    measurement = measure_code(Path(regalia.__file__).parent)
    platform = SimulatedAzure.open(directory)
    if platform.tee is not tee:
        raise UsageError(CoreCode.BAD_CONFIG, f"{source}: {directory} is a VM of {platform.tee}")
    return SimulatedAzureSource(platform, measurement, knobs)
