"""Signing keys: Ed25519 (RFC 8032), ECDSA P-384 with SHA-384, and either together with ML-DSA-65.

Private keys are stored as PKCS #8 in PEM, encrypted if a passphrase is given; two keys that sign
together are two such blocks in one file. Public keys are exchanged as SubjectPublicKeyInfo, and
their fingerprint is the SHA-256 of its DER encoding.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from regalia.core.errors import Code, IntegrityError, KeyAccessError, ParseError
from regalia.core.types import KeyFingerprint
from regalia.crypto.composite import (
    ClassicalPrivate,
    ClassicalPublic,
    CompositePrivateKey,
    CompositePublicKey,
    parse_composite,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.core.secret import SecretBytes

_PrivateKey = ClassicalPrivate | CompositePrivateKey
_PublicKey = ClassicalPublic | CompositePublicKey
_PUBLIC_PEM = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----"
)
_PRIVATE_PEM = re.compile(
    rb"-----BEGIN [^-]*PRIVATE KEY-----.*?-----END [^-]*PRIVATE KEY-----", re.DOTALL
)
_LINE = 64  # characters of base64 in a line of PEM (RFC 7468)
_PAIR = 2  # keys that sign together


class SignCode(Code):
    """Refusals around signatures."""

    SIGNATURE_INVALID = (
        "Somebody other than the holder of the expected key made or changed these bytes.",
        (
            "Get the document or report again from whoever signs it. If that does not help, the "
            "expected key is not the one that signs: check its fingerprint or certificate."
        ),
    )
    PUBLIC_KEY_MALFORMED = (
        "Only Ed25519 and P-384 public keys, alone or with ML-DSA-65, are accepted.",
        "Give the .pub file that `regalia keygen` wrote.",
    )
    SIGNING_KEY_UNUSABLE = (
        "Without the private key nothing can be signed.",
        "Check the file and its passphrase; `regalia keygen` makes a new key.",
    )


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key for verifying signatures, as SubjectPublicKeyInfo in DER."""

    spki: bytes

    @property
    def fingerprint(self) -> KeyFingerprint:
        """SHA-256 of the SubjectPublicKeyInfo."""
        return KeyFingerprint.of(self.spki)

    @property
    def post_quantum(self) -> bool:
        """Whether its signatures outlast quantum computers, as ML-DSA-65 is part of them."""
        return isinstance(_load_public(self.spki), CompositePublicKey)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Verify a signature.

        Args:
            signature: untrusted. Ed25519: 64 bytes; P-384: DER; with ML-DSA-65: 3309 bytes more,
                which come first.
            message: exact bytes that must have been signed.

        Raises:
            IntegrityError: SIGNATURE_INVALID.
        """
        key = _load_public(self.spki)
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
            else:
                key.verify(signature, message)
        except InvalidSignature as exc:
            raise IntegrityError(
                SignCode.SIGNATURE_INVALID, f"signature by {self.fingerprint} does not verify"
            ) from exc

    def to_pem(self) -> bytes:
        """Encode as SubjectPublicKeyInfo in PEM."""
        text = base64.b64encode(self.spki)
        lines = (text[start : start + _LINE] for start in range(0, len(text), _LINE))
        return b"\n".join((b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""))

    @classmethod
    def from_pem(cls, pem: bytes) -> VerifyKey:
        """Parse a key in PEM. Raises ParseError PUBLIC_KEY_MALFORMED."""
        blocks = _PUBLIC_PEM.findall(pem)
        if len(blocks) != 1:
            raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, "not a public key in PEM form")
        try:
            spki = base64.b64decode(b"".join(blocks[0].split()), validate=True)
        except binascii.Error as exc:
            raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, "not a public key in PEM form") from exc
        return _wrap(_load_public(spki))

    @classmethod
    def from_der(cls, spki: bytes) -> VerifyKey:
        """Parse a key in DER, as signed documents name it.

        Raises:
            ParseError: PUBLIC_KEY_MALFORMED, also for another encoding of a key, such as a
                compressed point: a fingerprint is over the one encoding that this format has.
        """
        key = _wrap(_load_public(spki))
        if key.spki != spki:
            raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, "the key has another encoding")
        return key


_NEITHER = "the key is neither Ed25519 nor P-384, nor either with ML-DSA-65"


def _supported(key: object) -> ClassicalPublic:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, _NEITHER)


def _wrap(key: _PublicKey) -> VerifyKey:
    # Re-encoded, so that one key has one SubjectPublicKeyInfo and therefore one fingerprint.
    if isinstance(key, CompositePublicKey):
        return VerifyKey(key.spki)
    return VerifyKey(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _load_public(spki: bytes) -> _PublicKey:
    try:
        composite = parse_composite(spki)
        if composite is not None:
            return composite
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, "not a SubjectPublicKeyInfo") from exc
    return _supported(key)


class SigningKey:
    """A private signing key."""

    __slots__ = ("_key",)

    def __init__(self, key: _PrivateKey) -> None:
        classical = key.classical if isinstance(key, CompositePrivateKey) else key
        _supported(classical.public_key())
        self._key = key

    @classmethod
    def generate_ed25519(cls) -> SigningKey:
        """Generate a fresh Ed25519 key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def generate_p384(cls) -> SigningKey:
        """Generate a fresh P-384 key."""
        return cls(ec.generate_private_key(ec.SECP384R1()))

    @classmethod
    def generate_ml_dsa_65_ed25519(cls) -> SigningKey:
        """Generate fresh keys of ML-DSA-65 and Ed25519 that sign together."""
        return cls(
            CompositePrivateKey(MLDSA65PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate())
        )

    @classmethod
    def generate_ml_dsa_65_p384(cls) -> SigningKey:
        """Generate fresh keys of ML-DSA-65 and P-384 that sign together."""
        return cls(
            CompositePrivateKey(
                MLDSA65PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())
            )
        )

    @property
    def verify_key(self) -> VerifyKey:
        """The public key."""
        return _wrap(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Sign a message. Returns a signature of the form that ``VerifyKey.verify`` takes."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(hashes.SHA384()))
        return self._key.sign(message)

    def to_pem(self, passphrase: SecretBytes | None) -> bytes:
        """Encode as PKCS #8 in PEM, encrypted if a passphrase is given."""
        # The library takes a passphrase only as ``bytes``; that copy cannot be wiped.
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            protection = serialization.BestAvailableEncryption(passphrase.view().tobytes())
        parts = self._key.parts() if isinstance(self._key, CompositePrivateKey) else (self._key,)
        return b"".join(
            part.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
            )
            for part in parts
        )

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: SecretBytes | None) -> SigningKey:
        """Parse a private key.

        Args:
            pem: PKCS #8 in PEM, secret. Two blocks are keys that sign together, ML-DSA-65 first.
            passphrase: None if the key is not encrypted.

        Raises:
            KeyAccessError: SIGNING_KEY_UNUSABLE.
        """
        secret = None if passphrase is None else passphrase.view().tobytes()
        blocks = _PRIVATE_PEM.findall(pem)
        try:
            keys = [serialization.load_pem_private_key(block, secret) for block in blocks or (pem,)]
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise KeyAccessError(
                SignCode.SIGNING_KEY_UNUSABLE,
                "the file is no signing key, or the passphrase is wrong",
            ) from exc
        try:
            return cls(_signing(keys))
        except ParseError as exc:  # another curve
            raise KeyAccessError(SignCode.SIGNING_KEY_UNUSABLE, _NEITHER) from exc

    def __repr__(self) -> str:
        return f"<signing key {self.verify_key.fingerprint}>"


def _signing(keys: Sequence[object]) -> _PrivateKey:
    """The key that the blocks of a file are. Raises KeyAccessError."""
    *others, last = keys
    if isinstance(last, ClassicalPrivate):
        if not others:
            return last
        if len(keys) == _PAIR and isinstance(others[0], MLDSA65PrivateKey):
            return CompositePrivateKey(others[0], last)
    raise KeyAccessError(SignCode.SIGNING_KEY_UNUSABLE, _NEITHER)
