"""Evidence source plug-ins of simulated platforms, each in place of one kind of hardware.

``simulated-snp``, ``-tdx``, ``-sgx``, ``-nitro``, ``-az-snp``, ``-az-tdx``. Their options are those
of ``regalia_testing.options.platform_options``; every ``open_*`` raises

    UsageError: BAD_CONFIG, an option is missing, unknown or of the wrong type.
    LocalError: the platform cannot be read.
    ParseError: the platform is damaged.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import regalia
from regalia.core.errors import CoreCode, UsageError
from regalia.wire.evidence import Tee
from regalia_testing.options import platform_options
from regalia_testing.tees.azure import defects as azure_defects
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.intel import defects as intel_defects
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro import defects as nitro_defects
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.snp import defects as snp_defects
from regalia_testing.tees.snp.simulator import SnpSimulator, measure_code

if TYPE_CHECKING:
    from regalia.wire.evidence import DeviceEvidence, Evidence, EvidenceSource

SGX_VERSION = 3
K_contra = TypeVar("K_contra", contravariant=True)


class Issue(Protocol[K_contra]):
    """How a simulated platform makes evidence, with what its defects spoil in it."""

    def __call__(
        self, report_data: bytes, *, measurement: bytes, runtime_config: bytes, defects: K_contra
    ) -> Evidence:
        """Evidence over ``report_data`` (64 bytes)."""


@dataclass(frozen=True, slots=True)
class SimulatedSource(Generic[K_contra]):
    """Issues evidence over the code that this process runs: each process is a guest."""

    issue: Issue[K_contra]
    defects: K_contra
    measurement: bytes  # 48; an SGX enclave's is the first 32 of them

    @property
    def simulated(self) -> bool:
        """Always: the process that asks also holds every key."""
        return True

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """Evidence over ``report_data`` (64 bytes), with its certificates."""
        return self.issue(
            report_data,
            measurement=self.measurement,
            runtime_config=runtime_config,
            defects=self.defects,
        )

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """None: these platforms have a CPU only."""
        return ()


def open_snp(options: dict[str, object]) -> EvidenceSource:
    """A guest on the ``SnpSimulator`` that the configuration names."""
    directory, defects = platform_options(options, snp_defects.HEALTHY, source="simulated-snp")
    # REPORT_ID is drawn at the launch of a guest.
    platform = replace(SnpSimulator.open(directory), report_id=secrets.token_bytes(32))
    return SimulatedSource(platform.evidence, defects, _measurement())


def open_tdx(options: dict[str, object]) -> EvidenceSource:
    """A TD on the ``IntelSimulator`` that the configuration names."""
    platform, defects = _intel(options, intel_defects.HEALTHY, Tee.TDX)
    return SimulatedSource(platform.tdx_evidence, defects, _measurement())


def open_sgx(options: dict[str, object]) -> EvidenceSource:
    """An enclave on the ``IntelSimulator`` that the configuration names."""
    healthy = replace(intel_defects.HEALTHY, version=SGX_VERSION)
    platform, defects = _intel(options, healthy, Tee.SGX)
    return SimulatedSource(platform.sgx_evidence, defects, _measurement())


def open_nitro(options: dict[str, object]) -> EvidenceSource:
    """An enclave on the ``NitroSimulator`` that the configuration names."""
    directory, defects = platform_options(options, nitro_defects.HEALTHY, source="simulated-nitro")
    return SimulatedSource(NitroSimulator.open(directory).evidence, defects, _measurement())


def open_azure_snp(options: dict[str, object]) -> EvidenceSource:
    """The ``AzureSimulator`` that the configuration names, on SNP."""
    return _azure(options, Tee.AZURE_SNP, "simulated-az-snp")


def open_azure_tdx(options: dict[str, object]) -> EvidenceSource:
    """The ``AzureSimulator`` that the configuration names, on TDX."""
    return _azure(options, Tee.AZURE_TDX, "simulated-az-tdx")


def _intel(
    options: dict[str, object], healthy: intel_defects.IntelDefects, tee: Tee
) -> tuple[IntelSimulator, intel_defects.IntelDefects]:
    directory, defects = platform_options(options, healthy, source=f"simulated-{tee}")
    return IntelSimulator.open(directory), defects


def _azure(options: dict[str, object], tee: Tee, source: str) -> EvidenceSource:
    """The paravisor "measures" the code that this process runs."""
    directory, defects = platform_options(options, azure_defects.HEALTHY, source=source)
    platform = AzureSimulator.open(directory)
    if platform.tee is not tee:
        raise UsageError(CoreCode.BAD_CONFIG, f"{source}: {directory} is a VM of {platform.tee}")
    return SimulatedSource(platform.evidence, defects, _measurement())


def _measurement() -> bytes:
    return measure_code(Path(regalia.__file__).parent)
