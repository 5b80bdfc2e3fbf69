"""One pinned root key of a vendor. A key, not a name, is the anchor."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from regalia.appraisal.claims import Hardware

if TYPE_CHECKING:
    from regalia.appraisal.pki.certificates import Certificate

# Keeps anchors from being assembled by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class RootPin:
    """Which key is trusted, and whether it is the vendor's.

    A subclass names one root of one vendor.
    """

    hardware: Hardware
    pin: bytes  # SHA-256 of the SubjectPublicKeyInfo
    mint: InitVar[object]

    NAME: ClassVar[str]  # common name of the root
    SPKI_SHA256: ClassVar[str]  # of the vendor's key, hex

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("use production()")

    @classmethod
    def production(cls) -> Self:
        """The vendor's root key: claims say ``hardware: genuine``."""
        return cls.pinned(Hardware.GENUINE, bytes.fromhex(cls.SPKI_SHA256))

    @classmethod
    def pinned(cls, hardware: Hardware, pin: bytes) -> Self:
        """Another key. Only regalia_testing calls this with ``Hardware.SIMULATED``.

        Args:
            hardware: what claims say of evidence under this key.
            pin: SHA-256 of the SubjectPublicKeyInfo.
        """
        return cls(hardware, pin, _MINT)

    def pins(self, root: Certificate) -> bool:
        """Whether the key of ``root`` is the pinned one."""
        return hmac.compare_digest(hashlib.sha256(root.spki).digest(), self.pin)
