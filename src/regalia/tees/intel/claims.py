"""Claims of Intel TDX and SGX: what a verified quote says, and what Intel says of its platform.

Field names follow Intel's specifications: TDREPORT and the TD quote body, the SGX REPORT, the PCK
certificate profile and the PCS API.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.claims import require_mint
from regalia.core.bits import bit
from regalia.tees.intel.names import TD_ATTRIBUTES_TUD, SgxAttributeBit, TdAttributeBit
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.claims import DeviceClaims, Hardware, Revocation
    from regalia.core.types import Digest
    from regalia.tees.intel.names import SgxType, TcbStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelClaims:
    """What TDX and SGX have in common: the platform below, and collateral about it.

    Attributes:
        tcb_status: of platform, TDX module at launch and quoting enclave together.
        current_tcb_status: the same with the TDX module that runs now, where the quote says.
        advisory_ids: of all three, sorted.
        tcb_date: of the platform's level, as Intel wrote it.
        tcb_evaluation_data_number: the lower of TCB info's and QE identity's.
        collateral_issued: when the older of the two documents was issued.
        collateral_next_update: when the first of the two goes out of date.
        platform_instance_id: of a multi-package platform; None on others, like the flags below.
    """

    hardware: Hardware
    revocation: Revocation
    evidence_digest: Digest
    quote_version: int
    report_data: bytes  # 64
    tcb_status: TcbStatus
    current_tcb_status: TcbStatus
    qe_status: TcbStatus
    qe_isv_svn: int
    advisory_ids: tuple[str, ...]
    tcb_date: str
    tcb_evaluation_data_number: int
    collateral_issued: datetime
    collateral_next_update: datetime
    fmspc: bytes  # 6
    pce_id: bytes  # 2
    cpu_svn: bytes  # 16, as certified
    pce_svn: int
    ppid: bytes  # 16
    sgx_type: SgxType
    platform_instance_id: bytes | None  # 16
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt: bool | None
    devices: tuple[DeviceClaims, ...] = ()
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)

    @property
    def tcb(self) -> dict[str, int | str]:
        """CPUSVN and PCESVN as certified, and what Intel says of them."""
        return {
            "status": self.tcb_status,
            "cpu_svn": self.cpu_svn.hex(),
            "pce_svn": self.pce_svn,
            "evaluation_data_number": self.tcb_evaluation_data_number,
        }

    @property
    def instance(self) -> bytes:
        """PPID: of the package that holds the provisioning key."""
        return self.ppid


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogClaims:
    """An event log that reproduces the four RTMRs.

    Attributes:
        digest: SHA-256 over register, digest and proven data of each measured event, with lengths.
        events: how many were measured.
        opaque: events whose digest is proven, and what it is a digest of is not.
        unknown: likewise, and of a type that has no meaning here.
    """

    digest: Digest
    events: int
    opaque: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxClaims(IntelClaims):
    """A genuine, fresh TD quote whose report data is what the verifier expected.

    ``event_log`` is None if no log came along; then nothing is known of what the RTMRs were
    extended with.
    """

    tee_tcb_svn: bytes  # 16; of the TDX module that launched the TD
    tee_tcb_svn_2: bytes | None  # 16; of the one that runs now; TDX 1.5 only
    module_status: TcbStatus | None  # None for modules of version 0, which have no identity
    mr_seam: bytes  # 48
    mr_signer_seam: bytes  # 48
    seam_attributes: bytes  # 8
    td_attributes: int
    xfam: int
    mr_td: bytes  # 48, like the ones below
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    mr_service_td: bytes | None  # None in bodies of TDX 1.0
    td_id: bytes | None  # 32; body type 4 only
    event_log: EventLogClaims | None
    tee: Tee = field(default=Tee.TDX, init=False)

    @property
    def product(self) -> str:
        """There is one product line."""
        return "Intel TDX"

    @property
    def measurement(self) -> bytes:
        """MRTD: the TD's memory at launch."""
        return self.mr_td

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        """RTMR0 to RTMR3."""
        return self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3

    @property
    def guest(self) -> bytes:
        """TD_ID, which only body type 4 has."""
        return self.td_id or b""

    @property
    def config_binding(self) -> bytes:
        """MRCONFIGID."""
        return self.mr_config_id

    @property
    def debug(self) -> bool:
        """Any bit of the group TUD: the host may debug or profile the TD."""
        return bool(self.td_attributes & TD_ATTRIBUTES_TUD)

    @property
    def migratable(self) -> bool:
        """TDATTRIBUTES bit 29: a migration TD may carry the TD away."""
        return bit(self.td_attributes, TdAttributeBit.MIGRATABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxClaims(IntelClaims):
    """A genuine, fresh SGX quote whose report data is what the verifier expected."""

    enclave_cpu_svn: bytes  # 16, as the enclave's report has it
    misc_select: int
    attributes: int
    xfrm: int
    mr_enclave: bytes  # 32
    mr_signer: bytes  # 32
    isv_prod_id: int
    isv_svn: int
    isv_ext_prod_id: bytes  # 16
    isv_family_id: bytes  # 16
    config_id: bytes  # 64
    config_svn: int
    tee: Tee = field(default=Tee.SGX, init=False)

    @property
    def product(self) -> str:
        """There is one product line."""
        return "Intel SGX"

    @property
    def measurement(self) -> bytes:
        """MRENCLAVE."""
        return self.mr_enclave

    @property
    def guest(self) -> bytes:
        """Nothing tells two enclaves of one measurement apart."""
        return b""

    @property
    def config_binding(self) -> bytes:
        """CONFIGID."""
        return self.config_id

    @property
    def debug(self) -> bool:
        """ATTRIBUTES bit 1."""
        return bit(self.attributes, SgxAttributeBit.DEBUG)

    @property
    def migratable(self) -> bool:
        """Enclaves are not migrated."""
        return False
