"""Every kind of machine that weights may be released to, made of simulated parts or a live TPM.

What a release, a client and ``policy pin`` must do with each of them is tested over ``MACHINES``:
a new kind of evidence is one more entry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

from regalia.appraisal.collateral_rule import CollateralRule
from regalia.host import plugins
from regalia.host.localfs import write_new
from regalia.verifier.collateral import parse_collateral
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import Tee
from regalia_testing.anchors import simulated_anchors
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.intel.quotes import pem_chain
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.tees.snp.simulator import SnpSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from regalia.wire.evidence import EvidenceSource
    from regalia_testing.accepted_evidence import Simulated
    from regalia_testing.tees.tpm.swtpm import SoftwareTpm, TpmMaker

    Make = Callable[[Path], "SimulatedMachine"]  # from an absent or empty directory

Defects = dict[str, object]
PPCIE = 2  # FEATURE_FLAG of GPUs whose links to the switches are protected


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMachine:
    """One machine: its evidence source, and what a verifier needs to believe it.

    Attributes:
        source: plug-in of the group ``regalia.evidence_sources``.
        options: of the plug-in.
        roots: DER; what ``--dangerous-simulated-anchor`` names.
        collateral: files by name.
        revocation: the strictest rule that a verifier can demand of its collateral.
        devices: those beside the CPU.
        defects: defects by what is wrong; all kinds of machine use the same words.
    """

    tee: Tee
    source: str
    options: Mapping[str, object]
    roots: tuple[bytes, ...]
    collateral: Mapping[str, bytes]
    revocation: Literal["required", "any"] = "required"
    devices: NvidiaSimulator | None = None
    defects: Mapping[str, Defects] = field(default_factory=dict)

    def open(self, defect: str | None = None) -> EvidenceSource:
        """Its evidence source, as a runtime opens it."""
        opener = cast(
            "Callable[[dict[str, object]], EvidenceSource]",
            plugins.load(plugins.EVIDENCE_SOURCES, self.source),
        )
        defects = {} if defect is None else {"defects": self.defects[defect]}
        return opener({**self.options, **defects})

    @property
    def rule(self) -> CollateralRule:
        """For looking at its evidence without a policy."""
        return CollateralRule.of_words(self.revocation, grace_days=0)

    def verifier(self, *others: SimulatedMachine) -> Verifier:
        """A verifier that trusts this machine, ``others``, and nothing else."""
        known = (self, *others)
        files = {
            f"{index}/{name}": data
            for index, machine in enumerate(known)
            for name, data in machine.collateral.items()
        }
        roots = dict.fromkeys(root for machine in known for root in machine.roots)
        return Verifier(simulated_anchors(tuple(roots)), parse_collateral(files))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write what commands are given, into a folder that is there.

        Returns:
            The folder of its collateral, and the file with its roots. ``evidence.toml``, beside
            them, is what a runtime's configuration says of it.
        """
        collateral, roots = folder / "collateral", folder / "roots.pem"
        collateral.mkdir()
        for name, data in self.collateral.items():
            write_new(collateral / name, data)
        write_new(roots, pem_chain(*self.roots))
        write_new(folder / "evidence.toml", self.section().encode())
        return collateral, roots

    def section(self) -> str:
        """The section ``[evidence]`` of a runtime's configuration."""
        lines = ["[evidence]", f"source = {_toml(self.source)}", "", "[evidence.options]"]
        lines += [f"{name} = {_toml(value)}" for name, value in self.options.items()]
        return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A string, number, boolean, or table of these."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _workload(config: str) -> dict[str, Defects]:
    """Simulated platforms differ in what they call a wrong configuration."""
    return {
        "debug": {"debug": True},
        "measurement": {"wrong_measurement": True},
        "config": {config: True},
        "stale": {"stale_nonce": True},
    }


def snp_machine(folder: Path) -> SimulatedMachine:
    """SEV-SNP."""
    platform = SnpSimulator.create(folder)
    return SimulatedMachine(
        tee=Tee.SEV_SNP,
        source="simulated-snp",
        options={"platform": str(folder)},
        roots=(platform.ark,),
        collateral=_files(platform.collateral_directory),
        defects=_workload("wrong_host_data"),
    )


def _intel(folder: Path, tee: Tee) -> SimulatedMachine:
    platform = IntelSimulator.create(folder)
    return SimulatedMachine(
        tee=tee,
        source=f"simulated-{tee}",
        options={"platform": str(folder)},
        roots=(platform.authority.root(),),
        collateral=platform.files(),
        defects=_workload("wrong_config"),
    )


def tdx_machine(folder: Path) -> SimulatedMachine:
    """TDX."""
    return _intel(folder, Tee.TDX)


def sgx_machine(folder: Path) -> SimulatedMachine:
    """SGX."""
    return _intel(folder, Tee.SGX)


def machine_of(folder: Path, platform: Simulated, tee: Tee, source: str) -> SimulatedMachine:
    """A machine of a simulator that lies in a folder, with lists of every authority.

    Args:
        folder: where the simulator lies.
        platform: that simulator.
        tee: its kind.
        source: the plug-in that opens it.
    """
    return SimulatedMachine(
        tee=tee,
        source=source,
        options={"platform": str(folder)},
        roots=(platform.root,),
        collateral=_files(platform.collateral_directory),
        defects=_workload("wrong_config"),
    )


def nitro_machine(folder: Path) -> SimulatedMachine:
    """An AWS Nitro enclave. AWS's lists are seldom at hand: certificates live for hours."""
    found = machine_of(folder, NitroSimulator.create(folder), Tee.NITRO, "simulated-nitro")
    return replace(found, revocation="any")


def _azure(folder: Path, tee: Tee, source: str) -> SimulatedMachine:
    platform = AzureSimulator.create(folder, tee)
    root = platform.snp.ark if platform.snp is not None else b""
    root = platform.intel.authority.root() if platform.intel is not None else root
    return SimulatedMachine(
        tee=tee,
        source=source,
        options={"platform": str(folder)},
        roots=(root,),
        collateral=_files(platform.collateral_directory),
        defects=_workload("wrong_config"),
    )


def azure_snp_machine(folder: Path) -> SimulatedMachine:
    """An Azure confidential VM on SEV-SNP."""
    return _azure(folder, Tee.AZURE_SNP, "simulated-az-snp")


def azure_tdx_machine(folder: Path) -> SimulatedMachine:
    """An Azure confidential VM on TDX."""
    return _azure(folder, Tee.AZURE_TDX, "simulated-az-tdx")


def _composite(folder: Path, *, gpus: int, switches: int, defects: Defects) -> SimulatedMachine:
    cpu = snp_machine(folder / "cpu")
    devices = NvidiaSimulator.create(folder / "devices", gpus, switches)
    return SimulatedMachine(
        tee=cpu.tee,
        source="simulated-composite",
        options={**cpu.options, "devices": str(folder / "devices"), "device_defects": defects},
        roots=(*cpu.roots, devices.root),
        collateral={**cpu.collateral, **_files(folder / "devices" / "collateral")},
        devices=devices,
        defects=cpu.defects,
    )


def gpu_machine(folder: Path) -> SimulatedMachine:
    """SEV-SNP with two NVIDIA GPUs."""
    return _composite(folder, gpus=2, switches=0, defects={})


def protected_pcie_machine(folder: Path) -> SimulatedMachine:
    """SEV-SNP with eight NVIDIA GPUs and four switches, in Protected PCIe mode."""
    return _composite(folder, gpus=8, switches=4, defects={"feature": PPCIE})


def tpm_machine(tpm: SoftwareTpm, maker: TpmMaker, *, now: datetime) -> SimulatedMachine:
    """A machine with a TPM that is switched on, enrolled here by credential activation."""
    from regalia_testing.tees.tpm.live_enrolment import enrol  # noqa: PLC0415 - needs the extra `tpm`

    known = enrol(tpm.tcti, roots=[maker.root], intermediates=[maker.intermediate], now=now)
    return SimulatedMachine(
        tee=Tee.TPM,
        source="tpm",
        options={"tcti": tpm.tcti, "event_log": ""},
        roots=(maker.root,),
        collateral={
            "intermediate.der": maker.intermediate,
            "enrolment.json": known.enrolment.encode(),
        },
        revocation="any",  # swtpm's authority issues no lists
    )


MACHINES: Mapping[str, Make] = MappingProxyType(
    {
        "sev-snp": snp_machine,
        "tdx": tdx_machine,
        "sgx": sgx_machine,
        "aws-nitro": nitro_machine,
        "az-snp-vtpm": azure_snp_machine,
        "az-tdx-vtpm": azure_tdx_machine,
        "sev-snp+gpus": gpu_machine,
        "sev-snp+gpus+switches": protected_pcie_machine,
    }
)
