"""HPKE, RFC 9180, base mode, with the full context: many messages, and export.

Held to the RFC's own vectors and to two independent implementations in the tests. The default
suite is X-Wing, HKDF-SHA256, AES-256-GCM. Spec: docs/spec/sealed-channel.md, section 2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from regalia.core.errors import IntegrityError
from regalia.core.secret import SecretBytes
from regalia.crypto.kem import (
    HpkeCode,
    Kem,
    KemKeyPair,
    encapsulate,
    generate_keypair,
    labeled_expand,
    labeled_extract,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AES256",
    "DEFAULT_SUITE",
    "TAG_SIZE",
    "Aead",
    "AeadSequence",
    "HpkeCode",
    "Kdf",
    "Kem",
    "KemKeyPair",
    "RecipientContext",
    "SenderContext",
    "Suite",
    "generate_keypair",
    "open_",
    "open_secret",
    "seal",
    "setup_recipient",
    "setup_sender",
]

NONCE_SIZE = 12  # bytes, Nn of every AEAD here
TAG_SIZE = 16  # bytes, Nt of every AEAD here
_MODE_BASE = 0x00
_HASH_SIZE = 32  # bytes, Nh of HKDF-SHA256
_EXPORT_MAX = 255 * _HASH_SIZE  # bytes, the limit of HKDF-Expand

Data = bytes | bytearray | memoryview


class Kdf(IntEnum):
    """KDF identifiers of the IANA HPKE registry."""

    HKDF_SHA256 = 0x0001


class Aead(IntEnum):
    """AEAD identifiers of the IANA HPKE registry."""

    AES_128_GCM = 0x0001
    AES_256_GCM = 0x0002
    CHACHA20_POLY1305 = 0x0003

    @property
    def key_size(self) -> int:
        """Nk, bytes."""
        return 16 if self is Aead.AES_128_GCM else 32


AES256 = Aead.AES_256_GCM


@dataclass(frozen=True, slots=True)
class Suite:
    """KEM, KDF and AEAD of one exchange."""

    kem: Kem
    kdf: Kdf
    aead: Aead

    @property
    def suite_id(self) -> bytes:
        """Domain separation of the key schedule, RFC 9180 section 5.1."""
        return b"HPKE" + struct.pack(">HHH", self.kem, self.kdf, self.aead)


DEFAULT_SUITE = Suite(Kem.X_WING, Kdf.HKDF_SHA256, Aead.AES_256_GCM)


class AeadSequence:
    """One AEAD key whose nonce is a base nonce XOR a counter that only goes up.

    RFC 9180 section 5.2; chunked OHTTP responses use the same construction.
    """

    __slots__ = ("_aead", "_base", "_sequence")

    def __init__(self, aead: Aead, key: Data, base_nonce: bytes) -> None:
        if len(key) != aead.key_size or len(base_nonce) != NONCE_SIZE:
            raise ValueError("key or nonce of a wrong size")
        self._aead: AESGCM | ChaCha20Poly1305 = (
            ChaCha20Poly1305(key) if aead is Aead.CHACHA20_POLY1305 else AESGCM(key)
        )
        self._base = int.from_bytes(base_nonce)
        self._sequence = 0

    def _nonce(self, sequence: int) -> bytes:
        # The last value is not used either: RFC 9180 stops at 2^(8 Nn) - 1.
        if sequence >= (1 << (8 * NONCE_SIZE)) - 1:
            raise IntegrityError(
                HpkeCode.HPKE_SEQUENCE_EXHAUSTED, "2^96 - 1 messages under one key"
            )
        return (self._base ^ sequence).to_bytes(NONCE_SIZE)

    def seal(self, aad: bytes, plaintext: Data) -> bytes:
        """Ciphertext of ``len(plaintext) + 16`` bytes, and one step on.

        Args:
            aad: authenticated and not encrypted.
            plaintext: secret.
        """
        sealed = self._aead.encrypt(self._nonce(self._sequence), plaintext, aad)
        self._sequence += 1
        return sealed

    def open(self, aad: bytes, ciphertext: Data) -> bytes:
        """Plaintext of the next message. Raises IntegrityError HPKE_OPEN_FAILED and stays put.

        Args:
            aad: what the sender authenticated.
            ciphertext: untrusted.
        """
        try:
            opened = self._aead.decrypt(self._nonce(self._sequence), ciphertext, aad)
        except (InvalidTag, ValueError) as exc:
            raise _open_failed(self._sequence) from exc
        self._sequence += 1
        return opened

    def open_secret(self, aad: bytes, ciphertext: Data) -> SecretBytes:
        """Like ``open``, into a buffer that can be wiped: no ``bytes`` object holds the secret.

        Args:
            aad: what the sender authenticated.
            ciphertext: untrusted.
        """
        buffer = bytearray(max(0, len(ciphertext) - TAG_SIZE))
        secret = SecretBytes(buffer)
        try:
            self._aead.decrypt_into(self._nonce(self._sequence), ciphertext, aad, buffer)
        except (InvalidTag, ValueError) as exc:
            secret.close()
            raise _open_failed(self._sequence) from exc
        self._sequence += 1
        return secret

    def find(self, aad: bytes, ciphertext: Data, among: Iterable[int]) -> int | None:
        """Say at which position a refused message would have opened.

        For the words of a refusal only: the caller has already decided to refuse, and no
        plaintext is handed out.

        Args:
            aad: what the sender authenticated.
            ciphertext: untrusted; it was refused already.
            among: positions to try.
        """
        for sequence in among:
            try:
                self._aead.decrypt(self._nonce(sequence), ciphertext, aad)
            except (InvalidTag, ValueError):
                continue
            return sequence
        return None

    @property
    def sequence(self) -> int:
        """Number of messages so far, which is the position of the next one."""
        return self._sequence


class _Context:
    """What sender and recipient share after the key schedule."""

    __slots__ = ("_exporter", "messages", "suite")

    def __init__(self, suite: Suite, shared_secret: Data, info: bytes) -> None:
        """RFC 9180 section 5.1, KeySchedule, mode_base: psk and psk_id are empty."""
        suite_id = suite.suite_id
        context = (
            bytes([_MODE_BASE])
            + labeled_extract(suite_id, b"", b"psk_id_hash", b"")
            + labeled_extract(suite_id, b"", b"info_hash", info)
        )
        secret = labeled_extract(suite_id, bytes(shared_secret), b"secret", b"")

        def expand(label: bytes, size: int) -> bytes:
            return labeled_expand(suite_id, secret, label, context, size)

        self.suite = suite
        self.messages = AeadSequence(
            suite.aead, expand(b"key", suite.aead.key_size), expand(b"base_nonce", NONCE_SIZE)
        )
        # Plain bytes: the library hands all keys of this schedule out as such, and a context lives
        # for one exchange only.
        self._exporter = expand(b"exp", _HASH_SIZE)

    def export(self, context: bytes, length: int) -> SecretBytes:
        """A secret of ``length`` bytes known to both sides, RFC 9180 section 5.3."""
        if not 0 < length <= _EXPORT_MAX:
            raise ValueError(f"an export has 1 to {_EXPORT_MAX} bytes")
        return SecretBytes.copy_of(
            labeled_expand(self.suite.suite_id, self._exporter, b"sec", context, length)
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self.messages.sequence} messages>"


class SenderContext(_Context):
    """The side that holds the recipient's public key."""

    __slots__ = ()

    def seal(self, aad: bytes, plaintext: Data) -> bytes:
        """Seal the next message.

        Args:
            aad: authenticated and not encrypted.
            plaintext: secret.
        """
        return self.messages.seal(aad, plaintext)


class RecipientContext(_Context):
    """The side that holds the private key."""

    __slots__ = ()

    def open(self, aad: bytes, ciphertext: Data) -> bytes:
        """Open the next message. Raises IntegrityError HPKE_OPEN_FAILED.

        Args:
            aad: what the sender authenticated.
            ciphertext: untrusted.
        """
        return self.messages.open(aad, ciphertext)

    def open_secret(self, aad: bytes, ciphertext: Data) -> SecretBytes:
        """Open the next message into a buffer that can be wiped.

        Args:
            aad: what the sender authenticated.
            ciphertext: untrusted.
        """
        return self.messages.open_secret(aad, ciphertext)


def setup_sender(
    kem: Kem, public_key: bytes, info: bytes, *, aead: Aead = AES256
) -> tuple[bytes, SenderContext]:
    """SetupBaseS: the encapsulated key to send, and the context.

    Args:
        kem: the recipient's key encapsulation mechanism.
        public_key: the recipient's, untrusted until somebody vouches for it.
        info: both sides must name the same; binds the purpose.
        aead: cipher of the context.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
    """
    shared_secret, enc = encapsulate(kem, public_key)
    return enc, SenderContext(Suite(kem, Kdf.HKDF_SHA256, aead), shared_secret, info)


def setup_recipient(
    private: KemKeyPair, enc: bytes, info: bytes, *, aead: Aead = AES256
) -> RecipientContext:
    """SetupBaseR. A wrong ``enc`` of the right size shows only when a message is opened.

    Args:
        private: the recipient's key pair.
        enc: the encapsulated key, untrusted.
        info: both sides must name the same.
        aead: cipher of the context.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
    """
    suite = Suite(private.kem, Kdf.HKDF_SHA256, aead)
    return RecipientContext(suite, private.decapsulate(enc), info)


def seal(
    public_key: bytes, info: bytes, aad: bytes, plaintext: Data, *, kem: Kem = Kem.X_WING
) -> tuple[bytes, bytes]:
    """Single shot with the default KDF and AEAD: (enc, ciphertext).

    Args:
        public_key: the recipient's.
        info: both sides must name the same; binds the purpose.
        aad: authenticated and not encrypted.
        plaintext: secret.
        kem: the recipient's key encapsulation mechanism.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
    """
    enc, context = setup_sender(kem, public_key, info)
    return enc, context.seal(aad, plaintext)


def open_(private: KemKeyPair, enc: bytes, info: bytes, aad: bytes, ciphertext: Data) -> bytes:
    """Inverse of ``seal``.

    Args:
        private: the recipient's key pair.
        enc: the encapsulated key, untrusted.
        info: both sides must name the same.
        aad: what the sender authenticated.
        ciphertext: untrusted.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
        IntegrityError: HPKE_OPEN_FAILED.
    """
    return setup_recipient(private, enc, info).open(aad, ciphertext)


def open_secret(
    private: KemKeyPair, enc: bytes, info: bytes, aad: bytes, ciphertext: Data
) -> SecretBytes:
    """``open_`` for key material: the plaintext never becomes a ``bytes`` object.

    Args:
        private: the recipient's key pair.
        enc: the encapsulated key, untrusted.
        info: both sides must name the same.
        aad: what the sender authenticated.
        ciphertext: untrusted.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
        IntegrityError: HPKE_OPEN_FAILED.
    """
    return setup_recipient(private, enc, info).open_secret(aad, ciphertext)


def _open_failed(sequence: int) -> IntegrityError:
    return IntegrityError(HpkeCode.HPKE_OPEN_FAILED, f"message {sequence} does not open")
