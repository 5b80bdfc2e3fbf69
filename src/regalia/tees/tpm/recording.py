"""How a runtime's configuration is recorded in a TPM, whoever reads the TPM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from regalia.appraisal.config_binding import TPM_PCR, expected_slot
from regalia.appraisal.config_codes import ConfigCode
from regalia.core.errors import LocalError
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_TCTI = "device:/dev/tpmrm0"
DEFAULT_EVENT_LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"
EVENT_LOG_MAX = 1 << 20  # bytes
BANK = HashAlg.SHA256  # the one in which ``appraisal.config_binding`` predicts PCR 15


class Registers(Protocol):
    """The registers of an open TPM."""

    def pcrs(self, bank: HashAlg) -> Mapping[int, bytes]:
        """All registers of a bank. Raises LocalError TPM_COMMAND_FAILED."""

    def extend(self, pcr: int, data: bytes) -> None:
        """Extend a register with the digest of ``data``, in every active bank.

        Args:
            pcr: the register's number.
            data: of any length.
        """


def record_config(tpm: Registers, runtime_config: bytes) -> None:
    """Extend PCR 15 with the configuration's digest, once since the machine started.

    Args:
        tpm: the machine's open TPM.
        runtime_config: exact bytes of the runtime configuration.

    Raises:
        LocalError: CONFIG_SLOT_TAKEN, or TPM_COMMAND_FAILED.
    """
    wanted = expected_slot(Tee.TPM, runtime_config)
    held = tpm.pcrs(BANK)[TPM_PCR]
    if not any(held):
        tpm.extend(TPM_PCR, runtime_config)
        held = tpm.pcrs(BANK)[TPM_PCR]
    if held != wanted:
        raise LocalError(
            ConfigCode.CONFIG_SLOT_TAKEN,
            f"PCR {TPM_PCR} is {held.hex()}, this configuration makes it {wanted.hex()}",
        )
