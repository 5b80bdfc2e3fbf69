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
from functools import cache
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
    from collections.abc import Callable

    from _typeshed import DataclassInstance

    from regalia.wire.evidence import DeviceEvidence, Evidence, EvidenceSource

    D = TypeVar("D", bound=DataclassInstance)

SGX_VERSION = 3
K_contra = TypeVar("K_contra", contravariant=True)
P = TypeVar("P")


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


@cache
def launch_measurement() -> bytes:
    """What a simulated platform "measures": the code that this process was started with, once."""
    return measure_code(Path(regalia.__file__).parent)


def _source(
    name: str,
    open_platform: Callable[[Path], P],
    healthy: D,
    issue: Callable[[P], Issue[D]],
) -> Callable[[dict[str, object]], EvidenceSource]:
    """The plug-in of a name, for the platform in the folder that the configuration names."""

    def open_source(options: dict[str, object]) -> EvidenceSource:
        directory, defects = platform_options(options, healthy, source=name)
        return SimulatedSource(issue(open_platform(directory)), defects, launch_measurement())

    return open_source


def _new_guest(directory: Path) -> SnpSimulator:
    """REPORT_ID is drawn at the launch of a guest."""
    return replace(SnpSimulator.open(directory), report_id=secrets.token_bytes(32))


def _azure(tee: Tee, name: str) -> Callable[[dict[str, object]], EvidenceSource]:
    def open_platform(directory: Path) -> AzureSimulator:
        platform = AzureSimulator.open(directory)
        if platform.tee is not tee:
            raise UsageError(CoreCode.BAD_CONFIG, f"{name}: {directory} is a VM of {platform.tee}")
        return platform

    return _source(name, open_platform, azure_defects.HEALTHY, lambda vm: vm.evidence)


open_snp = _source("simulated-snp", _new_guest, snp_defects.HEALTHY, lambda guest: guest.evidence)
open_tdx = _source(
    "simulated-tdx", IntelSimulator.open, intel_defects.HEALTHY, lambda td: td.tdx_evidence
)
open_sgx = _source(
    "simulated-sgx",
    IntelSimulator.open,
    replace(intel_defects.HEALTHY, version=SGX_VERSION),
    lambda enclave: enclave.sgx_evidence,
)
open_nitro = _source(
    "simulated-nitro", NitroSimulator.open, nitro_defects.HEALTHY, lambda enclave: enclave.evidence
)
open_azure_snp = _azure(Tee.AZURE_SNP, "simulated-az-snp")
open_azure_tdx = _azure(Tee.AZURE_TDX, "simulated-az-tdx")
