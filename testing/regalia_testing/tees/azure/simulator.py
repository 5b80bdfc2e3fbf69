"""Simulated Azure confidential VMs on a simulated AMD or Intel platform (DESIGN D12).

A VM is a directory that holds all its keys: whoever can read it forges evidence at will, so
evidence from it **protects nothing**.

    platform.json   kind of TEE, vmUniqueId
    ak.key          the vTPM's attestation key, RSA-2048, PKCS #8 in DER, mode 600
    hardware/       a ``SnpSimulator`` or ``IntelSimulator``, with collateral/ for verifiers
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import rsa

from regalia.core.clock import rfc3339
from regalia.core.errors import CoreCode, ParseError
from regalia.host.clock import system_clock
from regalia.tees.azure.evidence.hcl import HARDWARE_REPORT_SIZE, ReportType
from regalia.tees.azure.evidence.wire import AzureDocument
from regalia.tees.intel.evidence.td_report import LocalTdReport, encode_local_td_report
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.folder import (
    COLLATERAL,
    State,
    make_folder,
    read_rsa_key,
    read_state,
    write_folder,
)
from regalia_testing.tees.azure.defects import HEALTHY
from regalia_testing.tees.azure.guest import AK_BITS, AzureGuest
from regalia_testing.tees.intel import defects as intel_defects
from regalia_testing.tees.intel.quotes import Workload, td_report
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.snp import defects as snp_defects
from regalia_testing.tees.snp.simulator import SnpSimulator

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.tees.intel.evidence import IntelAnchors
    from regalia.tees.snp.evidence import SnpAnchors
    from regalia.verifier.verifier import Verifier
    from regalia_testing.tees.azure.defects import AzureDefects
    from regalia_testing.tees.snp.authority import SnpKeys

FORMAT = "regalia/simulated-azure/v1"
_MR_CONFIG_ID = bytes(48)
_TDINFO_DIGEST_AT = 80


class _State(State, frozen=True, kw_only=True):
    tee: str
    vm_unique_id: str


@dataclass(frozen=True, slots=True, repr=False)
class AzureSimulator:
    """One VM on a platform of its own: AMD's if ``snp``, else Intel's."""

    guest: AzureGuest
    snp: SnpSimulator | None
    intel: IntelSimulator | None
    directory: Path

    @classmethod
    def create(
        cls,
        directory: Path,
        tee: Tee = Tee.AZURE_SNP,
        *,
        now: datetime | None = None,
        keys: SnpKeys | None = None,
    ) -> AzureSimulator:
        """Make a VM in a directory that is absent or empty.

        Args:
            directory: where its keys will lie, in clear, mode 700.
            tee: AZURE_SNP or AZURE_TDX.
            now: from when certificates and collateral are valid.
            keys: of a simulated AMD to reuse.

        Raises:
            LocalError: the directory is not empty, or cannot be written.
        """
        make_folder(directory, what="a simulated Azure confidential VM")
        ak = rsa.generate_private_key(65537, AK_BITS)
        vm_unique_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)).upper()
        since = (now or system_clock()).replace(microsecond=0)
        state = _State(format=FORMAT, tee=tee, vm_unique_id=vm_unique_id, since=rfc3339(since))
        write_folder(directory, state, {"ak": ak}, {})
        guest, hardware = AzureGuest(ak, vm_unique_id), directory / "hardware"
        if tee is Tee.AZURE_SNP:
            platform = SnpSimulator.create(hardware, now=since, keys=keys)
            return cls(guest, platform, None, directory)
        return cls(guest, None, IntelSimulator.create(hardware, now=since), directory)

    @classmethod
    def open(cls, directory: Path) -> AzureSimulator:
        """Read a VM that ``create`` made.

        Raises:
            LocalError: a file is missing or unreadable.
            ParseError: a file is not what ``create`` wrote.
        """
        state = read_state(directory, _State, expected=FORMAT)
        if state.tee not in {Tee.AZURE_SNP, Tee.AZURE_TDX}:
            raise ParseError(CoreCode.MALFORMED, f"{directory} is no simulated Azure VM")
        ak = read_rsa_key(directory, "ak")
        guest = AzureGuest(ak, state.vm_unique_id)
        hardware = directory / "hardware"
        if state.tee == Tee.AZURE_SNP:
            return cls(guest, SnpSimulator.open(hardware), None, directory)
        return cls(guest, None, IntelSimulator.open(hardware), directory)

    @property
    def tee(self) -> Tee:
        """Which of Azure's two kinds."""
        return Tee.AZURE_SNP if self.intel is None else Tee.AZURE_TDX

    @property
    def collateral_directory(self) -> Path:
        """What a verifier is given."""
        return self.directory / "hardware" / COLLATERAL

    @property
    def hardware(self) -> SnpSimulator | IntelSimulator:
        """The platform below."""
        found = self.snp or self.intel
        if found is None:
            raise TypeError("a VM runs on one kind of hardware")
        return found

    @property
    def root(self) -> bytes:
        """The hardware's root, DER."""
        return self.hardware.root

    def anchors(self) -> SnpAnchors | IntelAnchors:
        """The hardware's root as the only anchor."""
        return self.hardware.anchors()

    def verifier(self) -> Verifier:
        """A verifier that trusts this VM's hardware and nothing else."""
        return self.hardware.verifier()

    def evidence(
        self,
        report_data: bytes,
        *,
        measurement: bytes,
        runtime_config: bytes,
        defects: AzureDefects = HEALTHY,
    ) -> Evidence:
        """Evidence whose vTPM quoted the SHA-256 of ``report_data``, with PCR15 extended.

        Args:
            report_data: 64 bytes.
            measurement: 48 bytes, the paravisor's.
            runtime_config: exact bytes.
            defects: what is wrong with the VM.
        """
        hardware_report, td_quote, endorsements = self._hardware(measurement, defects)
        pcrs = self.guest.pcrs(runtime_config, defects)
        quoted, signature = self.guest.quote(report_data, pcrs, defects)
        bank = next(iter(pcrs.values()))
        if defects.register_altered:
            bank[4] = bytes(len(bank[4]))
        if defects.register_missing:
            del bank[4]
        kind = ReportType.SNP if self.tee is Tee.AZURE_SNP else ReportType.TDX
        document = AzureDocument(
            hcl_report=self.guest.hcl_report(kind, hardware_report, defects),
            td_quote=td_quote,
            quoted=quoted,
            signature=signature,
            pcrs=pcrs,
        )
        log = self.guest.event_log(defects)
        return Evidence(self.tee, document.encode(), endorsements, runtime_config, event_log=log)

    def _hardware(
        self, measurement: bytes, defects: AzureDefects
    ) -> tuple[bytes, bytes, tuple[bytes, ...]]:
        """Report of 1184 bytes, TD quote, endorsements."""
        data = self.guest.report_data(defects)
        if self.snp is not None:
            below = replace(
                snp_defects.HEALTHY,
                debug=defects.debug,
                migrate=defects.migratable,
                wrong_measurement=defects.wrong_measurement,
                vmpl=defects.vmpl,
            )
            report = self.snp.report(
                data, measurement=measurement, host_data=bytes(32), defects=below
            )
            return report, b"", self.snp.endorsements(below)
        if self.intel is None:
            raise TypeError("a VM runs on one kind of hardware")
        chosen = replace(
            intel_defects.HEALTHY,
            debug=defects.debug,
            migratable=defects.migratable,
            wrong_measurement=defects.wrong_measurement,
        )
        workload = Workload(data, measurement, _MR_CONFIG_ID)
        return _td_report(workload, chosen, defects), self.intel.td_quote(workload, chosen), ()


def _td_report(
    workload: Workload, chosen: intel_defects.IntelDefects, defects: AzureDefects
) -> bytes:
    """The TDREPORT of the same TD as the quote, and zeros."""
    body = td_report(workload, chosen)
    values = {
        field.name: getattr(body, field.name)
        for field in fields(LocalTdReport)
        if field.name != "mr_service_td"
    }
    service_td = body.later.mr_service_td if body.later else bytes(48)
    local = LocalTdReport(**values, mr_service_td=service_td)
    if defects.other_td_report:
        local = replace(local, rtmr2=b"\x01" * 48)
    raw = bytearray(encode_local_td_report(local))
    if defects.td_report_digest:
        raw[_TDINFO_DIGEST_AT] ^= 1
    return bytes(raw).ljust(HARDWARE_REPORT_SIZE, b"\x00")
