"""Claims of Azure confidential VMs: a TEE below, the paravisor's word, and its vTPM's quote."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.claims import require_mint
from regalia.appraisal.config_binding import TPM_PCR
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.claims import DeviceClaims, Hardware, Revocation
    from regalia.core.types import Digest, KeyFingerprint
    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.intel.claims import TdxClaims
    from regalia.tees.snp.claims import SnpClaims


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureVm:
    """The VM's configuration as the measured paravisor saw it at boot."""

    secure_boot: bool
    console_enabled: bool
    tpm_enabled: bool
    tpm_persisted: bool | None  # None: the paravisor does not say
    root_cert_thumbprint: str
    vm_unique_id: str
    user_data: bytes  # 64, or empty


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureVtpm:
    """What the paravisor's vTPM quoted.

    Attributes:
        ak: fingerprint of the attestation key, which the hardware's report vouches for.
        extra_data: what the quote is bound to: the SHA-256 of the report data.
        pcrs: SHA-256 bank, 24 registers.
        boot: what the event log says of the boot, proven by the registers; None without a log.
    """

    ak: KeyFingerprint
    extra_data: bytes
    pcrs: Mapping[int, bytes]
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    boot: BootFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _AzureClaims:
    """What Azure's two kinds of confidential VM have in common."""

    evidence_digest: Digest
    vm: AzureVm
    vtpm: AzureVtpm
    devices: tuple[DeviceClaims, ...] = ()
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)

    @property
    def report_data(self) -> bytes:
        """What the vTPM quoted (extraData): SHA-256 of what the verifier expected."""
        return self.vtpm.extra_data

    @property
    def guest(self) -> bytes:
        """``vmUniqueId`` and the vTPM's reset count: one boot of one VM."""
        return f"{self.vm.vm_unique_id}#{self.vtpm.reset_count}".encode()

    @property
    def config_binding(self) -> bytes:
        """PCR15."""
        return self.vtpm.pcrs[TPM_PCR]


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSnpClaims(_AzureClaims):
    """A genuine SEV-SNP report of the paravisor, and a fresh quote by the vTPM it vouches for.

    The report is as old as the boot; what is fresh is the quote.
    """

    snp: SnpClaims  # its report data is the digest of the paravisor's runtime data
    tee: Tee = field(default=Tee.AZURE_SNP, init=False)

    @property
    def hardware(self) -> Hardware:
        """Whose root vouches for the report."""
        return self.snp.hardware

    @property
    def product(self) -> str:
        """The processor line."""
        return self.snp.product

    @property
    def revocation(self) -> Revocation:
        """Of the processor's certificates."""
        return self.snp.revocation

    @property
    def tcb(self) -> dict[str, int | str]:
        """REPORTED_TCB of the processor."""
        return self.snp.tcb

    @property
    def measurement(self) -> bytes:
        """MEASUREMENT: the paravisor, which owns the AK."""
        return self.snp.measurement

    @property
    def instance(self) -> bytes:
        """CHIP_ID."""
        return self.snp.chip_id

    @property
    def debug(self) -> bool:
        """Of the report's guest policy."""
        return self.snp.debug

    @property
    def migratable(self) -> bool:
        """Of the report's guest policy."""
        return self.snp.migratable


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureTdxClaims(_AzureClaims):
    """A genuine TD quote of the paravisor, and a fresh quote by the vTPM it vouches for."""

    tdx: TdxClaims  # its report data is the digest of the paravisor's runtime data
    tee: Tee = field(default=Tee.AZURE_TDX, init=False)

    @property
    def hardware(self) -> Hardware:
        """Whose root vouches for the quote."""
        return self.tdx.hardware

    @property
    def product(self) -> str:
        """There is one product line."""
        return self.tdx.product

    @property
    def revocation(self) -> Revocation:
        """Of the processor's certificates and collateral."""
        return self.tdx.revocation

    @property
    def tcb(self) -> dict[str, int | str]:
        """The processor's standing among Intel's TCB levels."""
        return self.tdx.tcb

    @property
    def measurement(self) -> bytes:
        """MRTD: the paravisor, which owns the AK."""
        return self.tdx.mr_td

    @property
    def instance(self) -> bytes:
        """PPID."""
        return self.tdx.instance

    @property
    def debug(self) -> bool:
        """Of the TD's attributes."""
        return self.tdx.debug

    @property
    def migratable(self) -> bool:
        """Of the TD's attributes."""
        return self.tdx.migratable
