"""A simulated Intel platform that issues format-true TDX and SGX quotes (DESIGN D12).

A platform is a directory that holds its own throw-away Intel: whoever can read it forges evidence
at will, so evidence from it **protects nothing**. It is checked by the real verifier, with the
platform's root as the only anchor, and every verdict on it says ``hardware: simulated``.

    platform.json   PPID, platform instance id, date of making
    *.key           P-256, PKCS #8 in DER, mode 600
    collateral/     root.der, chain.pem, *.json, *.crl: what a verifier is given
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.core.clock import rfc3339
from regalia.core.codec import unhex
from regalia.host.clock import system_clock
from regalia.tees.boot.evidence import replay_rtmrs
from regalia.tees.intel.evidence import IntelAnchors
from regalia.tees.intel.evidence.pck import PckFacts
from regalia.tees.intel.names import SgxType
from regalia.verifier.collateral import parse_collateral
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.anchors import simulated_anchors, simulated_pin
from regalia_testing.folder import (
    COLLATERAL,
    State,
    make_folder,
    named_keys,
    read_keys,
    read_state,
    write_folder,
)
from regalia_testing.tees.boot.eventlog import SimulatedBoot
from regalia_testing.tees.intel.authority import IntelAuthority, IntelKeys
from regalia_testing.tees.intel.defects import HEALTHY, PLATFORM_SVN
from regalia_testing.tees.intel.documents import FMSPC, PCE_ID, PCE_SVN, SGX_SVNS, Documents
from regalia_testing.tees.intel.quotes import (
    Workload,
    enclave_report,
    pem_chain,
    sign_quote,
    td_report,
)

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.tees.intel.evidence.bodies import EnclaveReport, TdReport
    from regalia_testing.tees.intel.defects import IntelDefects

FORMAT = "regalia/simulated-intel/v1"
ENCLAVE_MEASUREMENT_SIZE = 32  # bytes
_PPID_SIZE = 16


class _State(State, frozen=True, kw_only=True):
    ppid: str
    platform_instance_id: str


@dataclass(frozen=True, slots=True, repr=False)
class IntelSimulator:
    """One simulated machine with its own throw-away Intel. It has TDX and SGX."""

    authority: IntelAuthority
    ppid: bytes  # 16
    platform_instance_id: bytes  # 16
    directory: Path | None = None

    @classmethod
    def make(cls, *, now: datetime | None = None) -> IntelSimulator:
        """A platform in memory; its collateral is good for a year."""
        since = (now or system_clock()).replace(microsecond=0)
        return cls(
            IntelAuthority(IntelKeys.generate(), since),
            secrets.token_bytes(_PPID_SIZE),
            secrets.token_bytes(_PPID_SIZE),
        )

    @classmethod
    def create(cls, directory: Path, *, now: datetime | None = None) -> IntelSimulator:
        """Make a platform in a directory that is absent or empty.

        Raises:
            LocalError: the directory is not empty, or cannot be written.
        """
        make_folder(directory, what="a simulated Intel platform")
        platform = replace(cls.make(now=now), directory=directory)
        platform.write(directory)
        return platform

    @classmethod
    def open(cls, directory: Path) -> IntelSimulator:
        """Read a platform that ``create`` made.

        Raises:
            LocalError: a file is missing or unreadable.
            ParseError: a file is not what ``create`` wrote.
        """
        state = read_state(directory, _State, expected=FORMAT)
        return cls(
            IntelAuthority(read_keys(directory, IntelKeys), state.date()),
            unhex(state.ppid, what="ppid", size=_PPID_SIZE),
            unhex(state.platform_instance_id, what="platform_instance_id", size=_PPID_SIZE),
            directory,
        )

    @property
    def documents(self) -> Documents:
        """What the simulated PCS answers."""
        return Documents(self.authority.keys.tcb_signing, self.authority.since)

    @property
    def root(self) -> bytes:
        """The throw-away root, DER."""
        return self.authority.root()

    @property
    def collateral_directory(self) -> Path:
        """What a verifier is given, if the platform lies in a folder."""
        if self.directory is None:
            raise TypeError("this platform lies in no folder")
        return self.directory / COLLATERAL

    def anchors(self) -> IntelAnchors:
        """This platform's root as the only anchor."""
        return simulated_pin(IntelAnchors, self.root)

    def files(self) -> dict[str, bytes]:
        """Collateral as files by name."""
        authority, documents = self.authority, self.documents
        return {
            "root.der": authority.root(),
            "chain.pem": pem_chain(
                authority.tcb_signing(),
                authority.pck_ca(),
                authority.pck_ca(processor=True),
                authority.root(),
            ),
            "root.crl": authority.root_crl(),
            "platform.crl": authority.pck_crl(),
            "processor.crl": authority.pck_crl(processor=True),
            "tcb-info-sgx.json": documents.tcb_info("SGX"),
            "tcb-info-tdx.json": documents.tcb_info("TDX"),
            "qe-identity.json": documents.identity("QE"),
            "td-qe-identity.json": documents.identity("TD_QE"),
        }

    def verifier(self) -> Verifier:
        """A verifier that trusts this platform and nothing else."""
        anchors = simulated_anchors((self.root,))
        return Verifier(anchors, parse_collateral(self.files()))

    def facts(self, defects: IntelDefects = HEALTHY) -> PckFacts:
        """What the platform's certificate says."""
        svns = (PLATFORM_SVN[defects.level], *([2] * (SGX_SVNS - 1)))
        single = defects.processor_ca
        return PckFacts(
            ppid=self.ppid,
            svns=svns,
            pce_svn=PCE_SVN - defects.low_pce_svn,
            cpu_svn=bytes(svns),
            pce_id=b"\x01\x00" if defects.other_pce_id else PCE_ID,
            fmspc=b"\xff" * 6 if defects.other_fmspc else FMSPC,
            sgx_type=SgxType.STANDARD if single else SgxType.SCALABLE,
            platform_instance_id=None if single else self.platform_instance_id,
            dynamic_platform=None if single else False,
            cached_keys=None if single else False,
            smt=None if single else True,
        )

    def pck_chain(self, defects: IntelDefects = HEALTHY) -> bytes:
        """PEM, as it stands in a quote: PCK, its CA, the root, a NUL."""
        processor = defects.processor_ca
        pck = self.authority.pck(
            self.facts(defects), processor=processor, expired=defects.pck_expired
        )
        ca = self.authority.pck_ca(processor=processor)
        return pem_chain(pck, ca, self.authority.root()) + b"\x00"

    def td_quote(self, workload: Workload, defects: IntelDefects = HEALTHY) -> bytes:
        """A TD quote of version 4 or 5."""
        return self._quote(td_report(workload, defects), defects)

    def sgx_quote(self, workload: Workload, defects: IntelDefects = HEALTHY) -> bytes:
        """A quote of version 3; a field of 4 or 5 gives that."""
        return self._quote(enclave_report(workload, defects, self.facts(defects).cpu_svn), defects)

    def tdx_evidence(
        self,
        report_data: bytes,
        *,
        measurement: bytes,
        runtime_config: bytes,
        defects: IntelDefects = HEALTHY,
    ) -> Evidence:
        """A TD quote whose MRCONFIGID is the SHA-384 of ``runtime_config``, with its event log."""
        log = SimulatedBoot().ccel()
        registers = replay_rtmrs(log)
        workload = Workload(
            report_data,
            measurement,
            hashlib.sha384(runtime_config).digest(),
            (registers[0], registers[1], registers[2], registers[3]),
        )
        if defects.wrong_event_log:
            log = replace(log, events=log.events[:-1])
        quote = self.td_quote(workload, defects)
        return Evidence(Tee.TDX, quote, (), runtime_config, event_log=log.encode())

    evidence = tdx_evidence

    def sgx_evidence(
        self,
        report_data: bytes,
        *,
        measurement: bytes,
        runtime_config: bytes,
        defects: IntelDefects = HEALTHY,
    ) -> Evidence:
        """The quote of an enclave whose CONFIGID is the SHA-512 of ``runtime_config``."""
        config = hashlib.sha512(runtime_config).digest()
        quote = self.sgx_quote(
            Workload(report_data, measurement[:ENCLAVE_MEASUREMENT_SIZE], config), defects
        )
        return Evidence(Tee.SGX, quote, (), runtime_config)

    def _quote(self, body: TdReport | EnclaveReport, defects: IntelDefects) -> bytes:
        return sign_quote(
            body,
            keys=self.authority.keys,
            chain=self.pck_chain(defects),
            cpu_svn=self.facts(defects).cpu_svn,
            defects=defects,
        )

    def write(self, directory: Path) -> None:
        """Write what ``open`` reads."""
        state = _State(
            format=FORMAT,
            ppid=self.ppid.hex(),
            platform_instance_id=self.platform_instance_id.hex(),
            since=rfc3339(self.authority.since),
        )
        write_folder(directory, state, named_keys(self.authority.keys), self.files())
