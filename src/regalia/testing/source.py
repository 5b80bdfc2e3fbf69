"""Evidence source plug-in ``simulated-snp``: a simulated platform in place of hardware."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import regalia
from regalia.core.errors import CoreCode, UsageError
from regalia.testing.snp import SimulatedPlatform, measure_code
from regalia.testing.snp_knobs import knobs_from_options

if TYPE_CHECKING:
    from regalia.formats.evidence import DeviceEvidence, Evidence, EvidenceSource
    from regalia.testing.snp_knobs import Knobs


@dataclass(frozen=True, slots=True)
class SimulatedSource:
    """Issues reports over the code that this process runs."""

    platform: SimulatedPlatform
    measurement: bytes  # 48
    knobs: Knobs

    @property
    def simulated(self) -> bool:
        """Always: the process that asks also holds every key."""
        return True

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A report over ``report_data`` (64 bytes), with its certificate chain."""
        return self.platform.evidence(
            report_data,
            measurement=self.measurement,
            runtime_config=runtime_config,
            knobs=self.knobs,
        )

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """None: this platform has a CPU only."""
        return ()


def open_source(options: dict[str, object]) -> EvidenceSource:
    """Open the platform that the configuration names.

    Args:
        options: ``platform``, the directory of a ``SimulatedPlatform``; optionally ``knobs``, a
            table of ``Knobs`` fields, to show how defects are refused.

    Raises:
        UsageError: BAD_CONFIG, an option is missing, unknown or of the wrong type.
        LocalError: the platform cannot be read.
        ParseError: the platform is damaged.
    """
    unknown = sorted(set(options) - {"platform", "knobs"})
    if unknown:
        raise UsageError(CoreCode.BAD_CONFIG, f"simulated-snp: unknown options {unknown}")
    directory = options.get("platform")
    if not isinstance(directory, str | Path) or not str(directory):
        raise UsageError(CoreCode.BAD_CONFIG, "simulated-snp: `platform` must name a directory")
    knobs = options.get("knobs", {})
    if not isinstance(knobs, dict):
        raise UsageError(CoreCode.BAD_CONFIG, "simulated-snp: `knobs` must be a table")
    chosen = knobs_from_options(knobs)
    measurement = measure_code(Path(regalia.__file__).parent)
    # REPORT_ID is drawn at the launch of a guest; here each process is a guest of its own.
    platform = replace(SimulatedPlatform.open(Path(directory)), report_id=secrets.token_bytes(32))
    return SimulatedSource(platform, measurement, chosen)
