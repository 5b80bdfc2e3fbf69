"""The runtime's own keys: made in memory after hardening, never written anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from regalia.crypto.hpke import Kem, generate_keypair

if TYPE_CHECKING:
    from regalia.crypto.hpke import KemKeyPair

WRAP_KEY_BITS = 3072
_EXPONENT = 65537


@dataclass(frozen=True, slots=True, repr=False)
class RuntimeKeys:
    """Three keys, one purpose each.

    Attributes:
        release: X-Wing; the broker seals the model key to it.
        serving: X-Wing; clients seal requests to it. A second key, so that what a client can
            make the runtime decrypt never touches the key that the model key came with.
        wrap: RSA-3072, for key stores that can wrap to nothing else.
    """

    release: KemKeyPair
    serving: KemKeyPair
    wrap: rsa.RSAPrivateKey

    @property
    def wrap_public(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.wrap.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def generate_keys() -> RuntimeKeys:
    """Fresh keys."""
    return RuntimeKeys(
        release=generate_keypair(Kem.X_WING),
        serving=generate_keypair(Kem.X_WING),
        wrap=rsa.generate_private_key(public_exponent=_EXPONENT, key_size=WRAP_KEY_BITS),
    )
