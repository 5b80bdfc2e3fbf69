"""Claims of AMD SEV-SNP: what a verified report says."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.claims import require_mint
from regalia.core.bits import bit
from regalia.tees.snp.names import GuestPolicyBit
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from regalia.appraisal.claims import DeviceClaims, Hardware, Revocation
    from regalia.core.types import Digest


@dataclass(frozen=True, slots=True)
class Tcb:
    """Security version numbers of one TCB_VERSION, by component. ``fmc`` is 0 before Turin."""

    fmc: int
    bootloader: int
    tee: int
    snp: int
    microcode: int

    def components(self) -> dict[str, int]:
        """By name, in the order of the SNP ABI."""
        return {
            "fmc": self.fmc,
            "bootloader": self.bootloader,
            "tee": self.tee,
            "snp": self.snp,
            "microcode": self.microcode,
        }


@dataclass(frozen=True, slots=True)
class Firmware:
    """SEV firmware version."""

    major: int
    minor: int
    build: int


@dataclass(frozen=True, slots=True)
class SnpClaims:
    """A genuine, fresh SEV-SNP report whose report data is what the verifier expected.

    Field names follow the SEV-SNP firmware ABI, ATTESTATION_REPORT.
    """

    hardware: Hardware
    product: str  # Milan, Genoa, Turin
    revocation: Revocation
    evidence_digest: Digest
    report_version: int
    guest_svn: int
    policy: int  # guest POLICY, 64 bits
    family_id: bytes  # 16
    image_id: bytes  # 16
    vmpl: int
    signing_key: str  # "vcek" or "vlek"
    csp_id: str | None  # VLEK only
    platform_info: int
    report_data: bytes  # 64
    measurement: bytes  # 48
    host_data: bytes  # 32
    id_key_digest: bytes  # 48
    author_key_digest: bytes  # 48
    report_id: bytes  # 32
    chip_id: bytes  # 64; zero for VLEK
    current_tcb: Tcb
    reported_tcb: Tcb
    committed_tcb: Tcb
    launch_tcb: Tcb
    current_firmware: Firmware
    committed_firmware: Firmware
    launch_mit_vector: int
    current_mit_vector: int
    mint: InitVar[object]
    devices: tuple[DeviceClaims, ...] = ()
    tee: Tee = field(default=Tee.SEV_SNP, init=False)

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)

    @property
    def instance(self) -> bytes:
        """CHIP_ID."""
        return self.chip_id

    @property
    def guest(self) -> bytes:
        """REPORT_ID: drawn at launch."""
        return self.report_id

    @property
    def config_binding(self) -> bytes:
        """HOST_DATA."""
        return self.host_data

    @property
    def tcb(self) -> dict[str, int | str]:
        """REPORTED_TCB."""
        return dict(self.reported_tcb.components())

    @property
    def debug(self) -> bool:
        """Guest policy bit 19."""
        return bit(self.policy, GuestPolicyBit.DEBUG)

    @property
    def migratable(self) -> bool:
        """Guest policy bit 18."""
        return bit(self.policy, GuestPolicyBit.MIGRATE_MA)
