"""One pinned root key of a vendor. A key, not a name, is the anchor."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from regalia.appraisal.claims import Hardware
from regalia.appraisal.pki.certificates import chain_invalid, parse_certificate

if TYPE_CHECKING:
    from regalia.appraisal.pki.certificates import Certificate

# Keeps anchors from being assembled by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class RootPin:
    """Which key is trusted, and whether it is the vendor's. Two constructors, no third.

    A subclass names one root of one vendor.
    """

    hardware: Hardware
    pin: bytes  # SHA-256 of the SubjectPublicKeyInfo
    mint: InitVar[object]

    NAME: ClassVar[str]  # common name of the root
    SPKI_SHA256: ClassVar[str]  # of the vendor's key, hex

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("use production() or dangerous_simulated()")

    @classmethod
    def production(cls) -> Self:
        """The vendor's root key: claims say ``hardware: genuine``."""
        return cls(Hardware.GENUINE, bytes.fromhex(cls.SPKI_SHA256), _MINT)

    @classmethod
    def dangerous_simulated(cls, root_der: bytes) -> Self:
        """One throw-away root and no other: claims say ``hardware: simulated``.

        Whoever has that root's key forges evidence at will, so this protects nothing.

        Raises:
            ParseError: MALFORMED, not a certificate.
            AttestationError: CHAIN_INVALID, it is not named like the vendor's root.
        """
        root = parse_certificate(root_der, what="simulated root")
        if root.common_name != cls.NAME:
            raise chain_invalid(f"{root} is not named {cls.NAME}")
        return cls(Hardware.SIMULATED, hashlib.sha256(root.spki).digest(), _MINT)

    def pins(self, root: Certificate) -> bool:
        """Whether the key of ``root`` is the pinned one."""
        return hmac.compare_digest(hashlib.sha256(root.spki).digest(), self.pin)
