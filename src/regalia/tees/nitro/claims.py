"""Claims of an AWS Nitro enclave."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.claims import require_mint
from regalia.appraisal.config_binding import NITRO_PCR
from regalia.tees.nitro.names import MEASURED_PCRS
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.claims import DeviceClaims, Hardware, Revocation
    from regalia.core.types import Digest

PRODUCT = "nitro-enclaves"


@dataclass(frozen=True, slots=True)
class NitroClaims:
    """A genuine attestation document whose nonce is what the verifier expected.

    Field names follow AWS's attestation document.
    """

    hardware: Hardware
    revocation: Revocation
    evidence_digest: Digest
    module_id: str
    timestamp: int  # milliseconds since the epoch
    age_ms: int  # from the timestamp to the appraisal; never negative
    pcrs: Mapping[int, bytes]  # locked ones, by index
    public_key: bytes | None
    user_data: bytes | None
    report_data: bytes  # the nonce, 64 bytes
    mint: InitVar[object]
    devices: tuple[DeviceClaims, ...] = ()
    tee: Tee = field(default=Tee.NITRO, init=False)
    product: str = field(default=PRODUCT, init=False)

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)

    @property
    def measurement(self) -> bytes:
        """PCR0: the enclave image file."""
        return self.pcrs[0]

    @property
    def instance(self) -> bytes:
        """The parent EC2 instance's id, from ``module_id``."""
        return self.module_id.partition("-enc")[0].encode()

    @property
    def guest(self) -> bytes:
        """``module_id``: instance and enclave, drawn at launch."""
        return self.module_id.encode()

    @property
    def config_binding(self) -> bytes:
        """PCR16; empty if the enclave did not lock it, for then it is in no document."""
        return self.pcrs.get(NITRO_PCR, b"")

    @property
    def tcb(self) -> dict[str, int | str]:
        """Nothing: AWS vouches for its hypervisor as a whole and tells no version."""
        return {}

    @property
    def debug(self) -> bool:
        """An enclave in debug mode has PCRs of zeros, and its console is open to the parent."""
        return not all(any(self.pcrs[index]) for index in MEASURED_PCRS)

    @property
    def migratable(self) -> bool:
        """Enclaves do not migrate."""
        return False
