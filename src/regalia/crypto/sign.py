"""Signing keys: Ed25519 (RFC 8032) and ECDSA P-384 with SHA-384.

Private keys are kept as PKCS #8 PEM, encrypted when a passphrase is given; public keys travel
as SubjectPublicKeyInfo. A key's fingerprint is the SHA-256 of its SubjectPublicKeyInfo (DER).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from regalia.core.errors import Code, IntegrityError, KeyAccessError, ParseError
from regalia.core.types import KeyFingerprint

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes

_PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


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
        "Only Ed25519 and P-384 public keys in SubjectPublicKeyInfo form are accepted.",
        "Give the .pub file that `regalia keygen` wrote.",
    )
    SIGNING_KEY_UNUSABLE = (
        "Without the private key nothing can be signed.",
        "Check the file and its passphrase; `regalia keygen` makes a new key.",
    )


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key for signatures, by its SubjectPublicKeyInfo."""

    spki: bytes

    @property
    def fingerprint(self) -> KeyFingerprint:
        """SHA-256 of the SubjectPublicKeyInfo."""
        return KeyFingerprint.of(self.spki)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature holds; raise IntegrityError SIGNATURE_INVALID otherwise.

        Args:
            signature: untrusted.
            message: the bytes that must have been signed, exactly.
        """
        key = _load_public(self.spki)
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
        except InvalidSignature as exc:
            raise IntegrityError(
                SignCode.SIGNATURE_INVALID, f"signature by {self.fingerprint} does not verify"
            ) from exc

    def to_pem(self) -> bytes:
        """SubjectPublicKeyInfo, PEM."""
        return _load_public(self.spki).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @classmethod
    def from_pem(cls, pem: bytes) -> VerifyKey:
        """Raises ParseError PUBLIC_KEY_MALFORMED."""
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, "not a public key in PEM form") from exc
        return _wrap(key)

    @classmethod
    def from_der(cls, spki: bytes) -> VerifyKey:
        """Raises ParseError PUBLIC_KEY_MALFORMED."""
        return _wrap(_load_public(spki))


def _supported(key: object) -> _PublicKey:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, "the key is neither Ed25519 nor P-384")


def _wrap(key: object) -> VerifyKey:
    public = _supported(key)
    return VerifyKey(
        public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _load_public(spki: bytes) -> _PublicKey:
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, "not a SubjectPublicKeyInfo") from exc
    return _supported(key)


class SigningKey:
    """A private signing key."""

    __slots__ = ("_key",)

    def __init__(self, key: _PrivateKey) -> None:
        _supported(key.public_key())
        self._key = key

    @classmethod
    def generate_ed25519(cls) -> SigningKey:
        """A fresh Ed25519 key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def generate_p384(cls) -> SigningKey:
        """A fresh P-384 key."""
        return cls(ec.generate_private_key(ec.SECP384R1()))

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return _wrap(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Ed25519: 64 bytes. P-384: DER-encoded ECDSA with SHA-384."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(hashes.SHA384()))

    def to_pem(self, passphrase: SecretBytes | None) -> bytes:
        """PKCS #8, PEM; encrypted when a passphrase is given."""
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            protection = serialization.BestAvailableEncryption(passphrase.view().tobytes())
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: SecretBytes | None) -> SigningKey:
        """Raises KeyAccessError SIGNING_KEY_UNUSABLE.

        Args:
            pem: PKCS #8, secret.
            passphrase: None if the file is not encrypted.
        """
        secret = None if passphrase is None else passphrase.view().tobytes()
        try:
            key = serialization.load_pem_private_key(pem, secret)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise KeyAccessError(
                SignCode.SIGNING_KEY_UNUSABLE,
                "the file is no signing key, or the passphrase is wrong",
            ) from exc
        if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
            raise KeyAccessError(
                SignCode.SIGNING_KEY_UNUSABLE, "the key is neither Ed25519 nor P-384"
            )
        return cls(key)

    def __repr__(self) -> str:
        return f"<signing key {self.verify_key.fingerprint}>"
