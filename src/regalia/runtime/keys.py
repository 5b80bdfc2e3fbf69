"""The runtime's own key pairs: generated in memory after hardening, and never stored."""

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
    """Three key pairs with one purpose each.

    Attributes:
        release: X-Wing; the broker seals the model key to it.
        serving: X-Wing; clients seal requests to it. It is separate from ``release`` so that
            decryption requests of clients never use the key that protects the model key.
        wrap: RSA-3072, for key stores that can wrap only to RSA keys.
    """

    release: KemKeyPair
    serving: KemKeyPair
    wrap: rsa.RSAPrivateKey

    @property
    def wrap_public(self) -> bytes:
        """Public half of ``wrap``: a SubjectPublicKeyInfo in DER."""
        return self.wrap.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def generate_keys() -> RuntimeKeys:
    """Generate fresh key pairs for one life of the runtime."""
    return RuntimeKeys(
        release=generate_keypair(Kem.X_WING),
        serving=generate_keypair(Kem.X_WING),
        wrap=rsa.generate_private_key(public_exponent=_EXPONENT, key_size=WRAP_KEY_BITS),
    )
