"""Recipients of releases, for stores that are asked without a broker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.keys.base import Recipient

KEY = bytes(range(100, 132))


@dataclass(frozen=True)
class Runtime:
    """A runtime's RSA key."""

    private: rsa.RSAPrivateKey

    @property
    def spki(self) -> bytes:
        public = self.private.public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def recipient(self) -> Recipient:
        return Recipient(self.spki, "sev-snp", b"")


@cache
def runtime(bits: int = 3072) -> Runtime:
    """A runtime; the same one each time, because its key takes a while to make."""
    return Runtime(rsa.generate_private_key(65537, bits))
