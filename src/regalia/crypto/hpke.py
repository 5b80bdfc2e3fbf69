"""HPKE (RFC 9180) in base mode, with contexts for several messages and secret export.

Tests compare it with the RFC's test vectors and with two independent implementations. The default
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
        """Nk, the size of a key in bytes."""
        return 16 if self is Aead.AES_128_GCM else 32


AES256 = Aead.AES_256_GCM


@dataclass(frozen=True, slots=True)
class Suite:
    """The KEM, KDF and AEAD of a context."""

    kem: Kem
    kdf: Kdf
    aead: Aead

    @property
    def suite_id(self) -> bytes:
        """Domain separation of the key schedule (RFC 9180, section 5.1)."""
        return b"HPKE" + struct.pack(">HHH", self.kem, self.kdf, self.aead)


DEFAULT_SUITE = Suite(Kem.X_WING, Kdf.HKDF_SHA256, Aead.AES_256_GCM)


class AeadSequence:
    """An AEAD key whose nonces are a base nonce XOR a message counter.

    RFC 9180, section 5.2. Responses of chunked OHTTP use the same construction.
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
        # RFC 9180, section 5.2, IncrementSeq: the counter must not reach 2^(8 Nn) - 1.
        if sequence >= (1 << (8 * NONCE_SIZE)) - 1:
            raise IntegrityError(
                HpkeCode.HPKE_SEQUENCE_EXHAUSTED, "2^96 - 1 messages under one key"
            )
        return (self._base ^ sequence).to_bytes(NONCE_SIZE)

    def seal(self, aad: bytes, plaintext: Data) -> bytes:
        """Encrypt the next message, and return ``len(plaintext) + 16`` bytes.

        Args:
            aad: additional data to authenticate, but not encrypt.
            plaintext: the message.
        """
        sealed = self._aead.encrypt(self._nonce(self._sequence), plaintext, aad)
        self._sequence += 1
        return sealed

    def open(self, aad: bytes, ciphertext: Data) -> bytes:
        """Decrypt the next message.

        Args:
            aad: additional data that the sender must have authenticated.
            ciphertext: ciphertext and tag, untrusted.

        Raises:
            IntegrityError: HPKE_OPEN_FAILED; the counter is not advanced.
        """
        try:
            opened = self._aead.decrypt(self._nonce(self._sequence), ciphertext, aad)
        except (InvalidTag, ValueError) as exc:
            raise _open_failed(self._sequence) from exc
        self._sequence += 1
        return opened

    def open_secret(self, aad: bytes, ciphertext: Data) -> SecretBytes:
        """Decrypt the next message into a buffer that can be wiped, instead of ``bytes``.

        Args:
            aad: additional data that the sender must have authenticated.
            ciphertext: ciphertext and tag, untrusted.

        Raises:
            IntegrityError: HPKE_OPEN_FAILED; the counter is not advanced.
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
        """Find the position at which a refused message would have opened, or None.

        This serves only to explain the refusal: the caller has already refused the message, and
        gets no plaintext.

        Args:
            aad: additional data that the sender may have authenticated.
            ciphertext: the refused message, untrusted.
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
        """Number of messages so far, which is also the position of the next one."""
        return self._sequence


class _Context:
    """The result of the key schedule, which sender and recipient share."""

    __slots__ = ("_exporter", "messages", "suite")

    def __init__(self, suite: Suite, shared_secret: Data, info: bytes) -> None:
        """Run KeySchedule (RFC 9180, section 5.1) in mode_base, with empty psk and psk_id."""
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
        # Kept as ``bytes``, which cannot be wiped: the library returns all keys of the schedule
        # in that form anyway, and a context lives only for one exchange.
        self._exporter = expand(b"exp", _HASH_SIZE)

    def export(self, context: bytes, length: int) -> SecretBytes:
        """Derive a secret that both sides can compute (RFC 9180, section 5.3).

        Args:
            context: binds the secret to its purpose.
            length: size of the secret, 1 to 8160 bytes.

        Raises:
            ValueError: the length is out of range, which is a bug of the caller.
        """
        if not 0 < length <= _EXPORT_MAX:
            raise ValueError(f"an export has 1 to {_EXPORT_MAX} bytes")
        return SecretBytes.copy_of(
            labeled_expand(self.suite.suite_id, self._exporter, b"sec", context, length)
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self.messages.sequence} messages>"


class SenderContext(_Context):
    """Context of the sender, who has the recipient's public key."""

    __slots__ = ()

    def seal(self, aad: bytes, plaintext: Data) -> bytes:
        """Encrypt the next message.

        Args:
            aad: additional data to authenticate, but not encrypt.
            plaintext: the message.
        """
        return self.messages.seal(aad, plaintext)


class RecipientContext(_Context):
    """Context of the recipient, who has the private key."""

    __slots__ = ()

    def open(self, aad: bytes, ciphertext: Data) -> bytes:
        """Decrypt the next message. Raises IntegrityError HPKE_OPEN_FAILED.

        Args:
            aad: additional data that the sender must have authenticated.
            ciphertext: ciphertext and tag, untrusted.
        """
        return self.messages.open(aad, ciphertext)

    def open_secret(self, aad: bytes, ciphertext: Data) -> SecretBytes:
        """Decrypt the next message into a buffer that can be wiped.

        Args:
            aad: additional data that the sender must have authenticated.
            ciphertext: ciphertext and tag, untrusted.
        """
        return self.messages.open_secret(aad, ciphertext)


def setup_sender(
    kem: Kem, public_key: bytes, info: bytes, *, aead: Aead = AES256
) -> tuple[bytes, SenderContext]:
    """SetupBaseS of RFC 9180: set up a context for sending to a public key.

    Args:
        kem: KEM of the public key.
        public_key: the recipient's. The caller must know from elsewhere whose key it is.
        info: binds the context to its purpose; the recipient must use the same.
        aead: AEAD of the context.

    Returns:
        The encapsulated key to send, and the context.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
    """
    shared_secret, enc = encapsulate(kem, public_key)
    return enc, SenderContext(Suite(kem, Kdf.HKDF_SHA256, aead), shared_secret, info)


def setup_recipient(
    private: KemKeyPair, enc: bytes, info: bytes, *, aead: Aead = AES256
) -> RecipientContext:
    """SetupBaseR of RFC 9180: set up a context for receiving.

    A wrong encapsulated key of the right size is detected only when a message is opened.

    Args:
        private: key pair of the recipient.
        enc: encapsulated key, untrusted.
        info: binds the context to its purpose; the sender must have used the same.
        aead: AEAD of the context.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
    """
    suite = Suite(private.kem, Kdf.HKDF_SHA256, aead)
    return RecipientContext(suite, private.decapsulate(enc), info)


def seal(
    public_key: bytes, info: bytes, aad: bytes, plaintext: Data, *, kem: Kem = Kem.X_WING
) -> tuple[bytes, bytes]:
    """Encrypt a single message with the default KDF and AEAD.

    Args:
        public_key: the recipient's. The caller must know from elsewhere whose key it is.
        info: binds the ciphertext to its purpose; the recipient must use the same.
        aad: additional data to authenticate, but not encrypt.
        plaintext: the message.
        kem: KEM of the public key.

    Returns:
        The encapsulated key, and the ciphertext.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
    """
    enc, context = setup_sender(kem, public_key, info)
    return enc, context.seal(aad, plaintext)


def open_(private: KemKeyPair, enc: bytes, info: bytes, aad: bytes, ciphertext: Data) -> bytes:
    """Decrypt a single message. Inverse of ``seal``.

    Args:
        private: key pair of the recipient.
        enc: encapsulated key, untrusted.
        info: the sender must have used the same.
        aad: additional data that the sender must have authenticated.
        ciphertext: ciphertext and tag, untrusted.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
        IntegrityError: HPKE_OPEN_FAILED.
    """
    return setup_recipient(private, enc, info).open(aad, ciphertext)


def open_secret(
    private: KemKeyPair, enc: bytes, info: bytes, aad: bytes, ciphertext: Data
) -> SecretBytes:
    """Decrypt a single message that is key material, into a buffer that can be wiped.

    Args:
        private: key pair of the recipient.
        enc: encapsulated key, untrusted.
        info: the sender must have used the same.
        aad: additional data that the sender must have authenticated.
        ciphertext: ciphertext and tag, untrusted.

    Raises:
        ParseError: HPKE_KEY_MALFORMED.
        IntegrityError: HPKE_OPEN_FAILED.
    """
    return setup_recipient(private, enc, info).open_secret(aad, ciphertext)


def _open_failed(sequence: int) -> IntegrityError:
    return IntegrityError(HpkeCode.HPKE_OPEN_FAILED, f"message {sequence} does not open")
