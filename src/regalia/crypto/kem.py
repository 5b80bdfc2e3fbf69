"""Key encapsulation for HPKE: DHKEM(X25519, HKDF-SHA256) and X-Wing (ML-KEM-768 + X25519).

Specs: RFC 9180 section 4.1 (DHKEM), draft-connolly-cfrg-xwing-kem (X-Wing), FIPS 203 (ML-KEM).
Key pairs hold the library's key objects and have no way to write the private half out.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import Protocol, final

from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from regalia.core.errors import Code, ParseError

SECRET_SIZE = 32  # bytes, Nsecret of both KEMs
_X25519_SIZE = 32  # bytes: private key, public key, shared secret
_MLKEM_PUBLIC_SIZE = 1184  # bytes, FIPS 203
_MLKEM_CIPHERTEXT_SIZE = 1088  # bytes, FIPS 203
_XWING_LABEL = b"\\.//^\\"  # 6 bytes, the X-Wing draft's drawing of one


class HpkeCode(Code):
    """Refusals of HPKE."""

    HPKE_OPEN_FAILED = (
        "The ciphertext was changed, or sealed to another key, purpose or position.",
        "Ask the sender to seal it again to the key that you hold now.",
    )
    HPKE_KEY_MALFORMED = (
        "A key of another size or form would agree on a secret that others may know.",
        "Check that the peer uses the same KEM, and that nothing was cut on the way.",
    )
    HPKE_SEQUENCE_EXHAUSTED = (
        "One more message would repeat a nonce, which breaks AES-GCM.",
        "Start a new exchange.",
    )


class Kem(IntEnum):
    """KEM identifiers of the IANA HPKE registry."""

    X25519_HKDF_SHA256 = 0x0020
    X_WING = 0x647A

    @property
    def public_key_size(self) -> int:
        """Npk, bytes."""
        return _SIZES[self][0]

    @property
    def enc_size(self) -> int:
        """Nenc: size of the encapsulated key, bytes."""
        return _SIZES[self][1]


_SIZES = {
    Kem.X25519_HKDF_SHA256: (_X25519_SIZE, _X25519_SIZE),
    Kem.X_WING: (_MLKEM_PUBLIC_SIZE + _X25519_SIZE, _MLKEM_CIPHERTEXT_SIZE + _X25519_SIZE),
}


class KemKeyPair(Protocol):
    """A private key that can decapsulate, and its public half."""

    @property
    def kem(self) -> Kem:
        """Which KEM it is for."""

    @property
    def public_key(self) -> bytes:
        """Serialized public key, ``kem.public_key_size`` bytes."""

    def decapsulate(self, enc: bytes) -> bytes:
        """Shared secret of 32 bytes. Raises ParseError HPKE_KEY_MALFORMED."""


@final
class X25519KeyPair:
    """DHKEM(X25519, HKDF-SHA256)."""

    __slots__ = ("_private", "public_key")

    kem = Kem.X25519_HKDF_SHA256

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes_raw()

    def decapsulate(self, enc: bytes) -> bytes:
        """RFC 9180 section 4.1, Decap."""
        _exact(enc, self.kem.enc_size, "encapsulated key")
        return _dhkem_secret(_dh(self._private, enc), enc, self.public_key)

    def __repr__(self) -> str:
        return f"<{self.kem.name} key pair>"


@final
class XWingKeyPair:
    """X-Wing. Security holds while either ML-KEM-768 or X25519 does."""

    __slots__ = ("_mlkem", "_x25519", "public_key")

    kem = Kem.X_WING

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._mlkem = mlkem
        self._x25519 = x25519
        self.public_key = (
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    def decapsulate(self, enc: bytes) -> bytes:
        """ML-KEM rejects implicitly: a changed ciphertext gives another secret, not an error."""
        _exact(enc, self.kem.enc_size, "encapsulated key")
        try:
            ss_m = self._mlkem.decapsulate(enc[:_MLKEM_CIPHERTEXT_SIZE])
        except ValueError as exc:
            raise _malformed("encapsulated key: ML-KEM-768 refuses it") from exc
        ct_x = enc[_MLKEM_CIPHERTEXT_SIZE:]
        return _xwing_secret(
            ss_m, _dh(self._x25519, ct_x), ct_x, self.public_key[_MLKEM_PUBLIC_SIZE:]
        )

    def __repr__(self) -> str:
        return f"<{self.kem.name} key pair>"


def generate_keypair(kem: Kem) -> KemKeyPair:
    """A fresh key pair, in memory only."""
    if kem is Kem.X25519_HKDF_SHA256:
        return X25519KeyPair(X25519PrivateKey.generate())
    return XWingKeyPair(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())


def encapsulate(kem: Kem, public_key: bytes) -> tuple[bytes, bytes]:
    """Make a fresh shared secret for the holder of ``public_key``.

    Args:
        kem: the holder's key encapsulation mechanism.
        public_key: the holder's, untrusted until somebody vouches for it.

    Returns:
        The shared secret (32 bytes) and the encapsulated key to send (``kem.enc_size`` bytes).

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
    """
    _exact(public_key, kem.public_key_size, "public key")
    ephemeral = X25519PrivateKey.generate()
    if kem is Kem.X25519_HKDF_SHA256:
        return encapsulate_x25519(public_key, ephemeral)
    try:
        recipient = MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_SIZE])
        ss_m, ct_m = recipient.encapsulate()
    except ValueError as exc:
        raise _malformed("public key: not an ML-KEM-768 key") from exc
    pk_x = public_key[_MLKEM_PUBLIC_SIZE:]
    ct_x = ephemeral.public_key().public_bytes_raw()
    return _xwing_secret(ss_m, _dh(ephemeral, pk_x), ct_x, pk_x), ct_m + ct_x


def encapsulate_x25519(public_key: bytes, ephemeral: X25519PrivateKey) -> tuple[bytes, bytes]:
    """``encapsulate`` with a given ephemeral key, which must never be used twice.

    Args:
        public_key: the holder's, 32 bytes.
        ephemeral: the sender's half.
    """
    enc = ephemeral.public_key().public_bytes_raw()
    return _dhkem_secret(_dh(ephemeral, public_key), enc, public_key), enc


def labeled_extract(suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract with HKDF-SHA256, RFC 9180 section 4.

    Args:
        suite_id: of the KEM or of HPKE, RFC 9180 sections 4.1 and 5.1.
        salt: may be empty.
        label: from the RFC.
        ikm: input key material, secret.
    """
    return HKDF.extract(SHA256(), salt, b"HPKE-v1" + suite_id + label + ikm)


def labeled_expand(suite_id: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand with HKDF-SHA256, RFC 9180 section 4. ``length`` is in bytes.

    Args:
        suite_id: of the KEM or of HPKE, RFC 9180 sections 4.1 and 5.1.
        prk: pseudorandom key, secret.
        label: from the RFC.
        info: binds the purpose.
        length: of the result.
    """
    labeled = struct.pack(">H", length) + b"HPKE-v1" + suite_id + label + info
    return HKDFExpand(SHA256(), length, labeled).derive(prk)


def _dh(private: X25519PrivateKey, public_key: bytes) -> bytes:
    # The library refuses an all-zero result, which RFC 9180 section 7.1.4 demands: a point of
    # small order would make the secret independent of our key.
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as exc:
        raise _malformed("X25519: the peer's point has small order or a wrong size") from exc


def _dhkem_secret(dh: bytes, enc: bytes, public_key: bytes) -> bytes:
    suite_id = b"KEM" + struct.pack(">H", Kem.X25519_HKDF_SHA256)
    prk = labeled_extract(suite_id, b"", b"eae_prk", dh)
    return labeled_expand(suite_id, prk, b"shared_secret", enc + public_key, SECRET_SIZE)


def _xwing_secret(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    return hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + _XWING_LABEL).digest()


def _exact(data: bytes, size: int, what: str) -> None:
    if len(data) != size:
        raise _malformed(f"{what}: want {size} bytes, got {len(data)}")


def _malformed(what: str) -> ParseError:
    return ParseError(HpkeCode.HPKE_KEY_MALFORMED, what)
