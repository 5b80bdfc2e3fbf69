"""Every kind of machine that weights may be released to, made of simulated parts or a live TPM.

What a release, a client and ``policy pin`` must do with each of them is tested over ``MACHINES``:
a new kind of evidence is one more entry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
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


def machine_of(  # noqa: PLR0913 - what tells one kind from another
    folder: Path,
    platform: Simulated,
    tee: Tee,
    source: str,
    *,
    config: str = "wrong_config",
    revocation: Literal["required", "any"] = "required",
) -> SimulatedMachine:
    """A machine of a simulator that lies in a folder.

    Args:
        folder: where the simulator lies.
        platform: that simulator.
        tee: its kind.
        source: the plug-in that opens it.
        config: what its defects call a wrong configuration.
        revocation: "any" if its authorities publish no lists that a verifier could have.
    """
    return SimulatedMachine(
        tee=tee,
        source=source,
        options={"platform": str(folder)},
        roots=(platform.root,),
        collateral=_files(platform.collateral_directory),
        revocation=revocation,
        defects={
            "debug": {"debug": True},
            "measurement": {"wrong_measurement": True},
            "config": {config: True},
            "stale": {"stale_nonce": True},
        },
    )


def _snp_machine(folder: Path) -> SimulatedMachine:
    platform = SnpSimulator.create(folder)
    return machine_of(folder, platform, Tee.SEV_SNP, "simulated-snp", config="wrong_host_data")


def _azure_machine(folder: Path, tee: Tee, source: str) -> SimulatedMachine:
    return machine_of(folder, AzureSimulator.create(folder, tee), tee, source)


def _composite(folder: Path, *, gpus: int, switches: int, defects: Defects) -> SimulatedMachine:
    cpu = _snp_machine(folder / "cpu")
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
        "sev-snp": _snp_machine,
        "tdx": lambda folder: machine_of(
            folder, IntelSimulator.create(folder), Tee.TDX, "simulated-tdx"
        ),
        "sgx": lambda folder: machine_of(
            folder, IntelSimulator.create(folder), Tee.SGX, "simulated-sgx"
        ),
        "aws-nitro": lambda folder: machine_of(
            folder, NitroSimulator.create(folder), Tee.NITRO, "simulated-nitro", revocation="any"
        ),
        "az-snp-vtpm": lambda folder: _azure_machine(folder, Tee.AZURE_SNP, "simulated-az-snp"),
        "az-tdx-vtpm": lambda folder: _azure_machine(folder, Tee.AZURE_TDX, "simulated-az-tdx"),
        "sev-snp+gpus": lambda folder: _composite(folder, gpus=2, switches=0, defects={}),
        # In Protected PCIe mode.
        "sev-snp+gpus+switches": lambda folder: _composite(
            folder, gpus=8, switches=4, defects={"feature": PPCIE}
        ),
    }
)
