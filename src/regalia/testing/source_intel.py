"""Evidence source plug-ins ``simulated-tdx`` and ``simulated-sgx``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import regalia
from regalia.formats.evidence import Tee
from regalia.testing.intel import SimulatedIntel
from regalia.testing.intel_knobs import HEALTHY, require_words
from regalia.testing.options import platform_options
from regalia.testing.snp import measure_code

if TYPE_CHECKING:
    from regalia.formats.evidence import DeviceEvidence, Evidence, EvidenceSource
    from regalia.testing.intel_knobs import IntelKnobs

SGX_VERSION = 3


@dataclass(frozen=True, slots=True)
class SimulatedIntelSource:
    """Issues quotes over the code that this process runs."""

    platform: SimulatedIntel
    tee: Tee
    measurement: bytes  # 48; an enclave's is the first 32 of them
    knobs: IntelKnobs

    @property
    def simulated(self) -> bool:
        """Always: the process that asks also holds every key."""
        return True

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A quote over ``report_data`` (64 bytes)."""
        tdx = self.tee is Tee.TDX
        evidence = self.platform.tdx_evidence if tdx else self.platform.sgx_evidence
        return evidence(
            report_data,
            measurement=self.measurement,
            runtime_config=runtime_config,
            knobs=self.knobs,
        )

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """None: this platform has a CPU only."""
        return ()


def open_tdx_source(options: dict[str, object]) -> EvidenceSource:
    """Open the platform that the configuration names, as a TD on it.

    Args:
        options: ``platform``, the directory of a ``SimulatedIntel``; optionally ``knobs``, a
            table of ``IntelKnobs`` fields, to show how defects are refused.

    Raises:
        UsageError: BAD_CONFIG, an option is missing, unknown or of the wrong type.
        LocalError: the platform cannot be read.
        ParseError: the platform is damaged.
    """
    return _open(options, Tee.TDX, HEALTHY)


def open_sgx_source(options: dict[str, object]) -> EvidenceSource:
    """Like ``open_tdx_source``, as an enclave."""
    return _open(options, Tee.SGX, replace(HEALTHY, version=SGX_VERSION))


def _open(options: dict[str, object], tee: Tee, healthy: IntelKnobs) -> EvidenceSource:
    directory, knobs = platform_options(options, healthy, source=f"simulated-{tee}")
    require_words(knobs)
    measurement = measure_code(Path(regalia.__file__).parent)
    return SimulatedIntelSource(SimulatedIntel.open(directory), tee, measurement, knobs)
