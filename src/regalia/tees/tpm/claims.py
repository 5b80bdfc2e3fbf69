"""Claims about a machine whose TPM quoted its registers.

A TPM says what booted. It does not keep the host out of the workload's memory: no claim here
says that it would, and results name it (``runtime-opaque``).
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.appraisal.claims import require_mint
from regalia.appraisal.config_binding import TPM_PCR
from regalia.core.codec import lp
from regalia.tees.boot.claims import WORKLOAD_PCRS
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.claims import DeviceClaims, Hardware, Revocation
    from regalia.core.types import Digest
    from regalia.tees.boot.claims import BootFacts

MEASUREMENT_DOMAIN = b"regalia/tpm-measurement/v1"


class AkBinding(StrEnum):
    """Who says that the AK lives in a TPM."""

    ENROLMENT = "enrolment"
    AK_CERTIFICATE = "ak-certificate"


def workload_digest(bank: str, pcrs: Mapping[int, bytes]) -> bytes:
    """SHA-256(domain ‖ lp(bank, PCR 4, PCR 8, PCR 9, PCR 11)): one name for what was booted.

    Args:
        bank: label of the hash algorithm, as ``sha256``.
        pcrs: values of that bank by register, all four among them.
    """
    values = (pcrs[pcr] for pcr in WORKLOAD_PCRS)
    return hashlib.sha256(MEASUREMENT_DOMAIN + lp(bank.encode(), *values)).digest()


@dataclass(frozen=True, slots=True)
class TpmClaims:
    """A fresh quote by an AK that somebody trusted vouches for.

    Field names follow TPMS_ATTEST and the EK Credential Profile.
    """

    hardware: Hardware
    revocation: Revocation
    evidence_digest: Digest
    binding: AkBinding
    ak_name: bytes
    ek: bytes  # 32; SHA-256 of the EK's SubjectPublicKeyInfo, or of a certified AK's
    manufacturer: str  # of the certificate; empty if it does not say, like the next two
    model: str
    version: str
    extra_data: bytes  # 32
    firmware_version: int
    clock: int  # milliseconds
    reset_count: int
    restart_count: int
    safe: bool
    enrolled_reset_count: int | None
    bank: str  # sha256 or sha384
    pcrs: Mapping[int, bytes]  # all 24
    boot: BootFacts | None  # None without an event log
    mint: InitVar[object]
    devices: tuple[DeviceClaims, ...] = ()
    tee: Tee = field(default=Tee.TPM, init=False)

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)

    @property
    def product(self) -> str:
        """The TPM's model, or that it is not known."""
        return self.model.strip() or "unnamed"

    @property
    def report_data(self) -> bytes:
        """extraData: SHA-256 of what a TEE's report would carry."""
        return self.extra_data

    @property
    def measurement(self) -> bytes:
        """``workload_digest``."""
        return workload_digest(self.bank, self.pcrs)

    @property
    def instance(self) -> bytes:
        """The TPM, by its EK."""
        return self.ek

    @property
    def guest(self) -> bytes:
        """The boot, by resetCount, 4 bytes."""
        return self.reset_count.to_bytes(4, "big")

    @property
    def config_binding(self) -> bytes:
        """PCR 15."""
        return self.pcrs[TPM_PCR]

    @property
    def tcb(self) -> dict[str, int | str]:
        """Of the TPM: nothing here speaks of the machine's firmware but its registers."""
        return {"tpm_firmware": f"{self.firmware_version:#x}", "manufacturer": self.manufacturer}

    @property
    def same_boot(self) -> bool:
        """Whether the machine has not rebooted since its AK was enrolled."""
        return self.enrolled_reset_count == self.reset_count

    @property
    def debug(self) -> bool:
        """No TPM has such a mode."""
        return False

    @property
    def migratable(self) -> bool:
        """Keys that are fixedTPM and fixedParent stay where they are."""
        return False
