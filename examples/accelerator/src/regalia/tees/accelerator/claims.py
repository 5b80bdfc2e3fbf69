"""Claims of an example accelerator."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.claims import require_mint
from regalia.tees.accelerator.names import PRODUCT
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from regalia.appraisal.claims import DeviceClaims, Hardware, Revocation
    from regalia.core.types import Digest


@dataclass(frozen=True, slots=True)
class AcceleratorClaims:
    """A genuine document whose nonce is what the verifier expected.

    Field names follow the document.
    """

    hardware: Hardware
    revocation: Revocation
    evidence_digest: Digest
    chip_id: bytes
    firmware: int  # security version, which grows with every fixed weakness
    debug: bool
    measurement: bytes  # of the loaded program
    config: bytes  # digest of the runtime configuration
    report_data: bytes  # the nonce, 64 bytes
    mint: InitVar[object]
    devices: tuple[DeviceClaims, ...] = ()
    tee: Tee = field(default=Tee.EXAMPLE_ACCELERATOR, init=False)
    product: str = field(default=PRODUCT, init=False)

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)

    @property
    def instance(self) -> bytes:
        """The chip's id."""
        return self.chip_id

    @property
    def guest(self) -> bytes:
        """Nothing: a chip runs one program at a time."""
        return b""

    @property
    def config_binding(self) -> bytes:
        """``config``."""
        return self.config

    @property
    def tcb(self) -> dict[str, int | str]:
        """The firmware's security version."""
        return {"firmware": self.firmware}

    @property
    def migratable(self) -> bool:
        """A chip's memory stays in the chip."""
        return False
