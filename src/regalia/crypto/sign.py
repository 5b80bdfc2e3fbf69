"""Signing keys: Ed25519 (RFC 8032) and ECDSA P-384 with SHA-384.

Private keys are stored as PKCS #8 in PEM, encrypted if a passphrase is given. Public keys are
exchanged as SubjectPublicKeyInfo, and their fingerprint is the SHA-256 of its DER encoding.
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
    """A public key for verifying signatures, as SubjectPublicKeyInfo in DER."""

    spki: bytes

    @property
    def fingerprint(self) -> KeyFingerprint:
        """SHA-256 of the SubjectPublicKeyInfo."""
        return KeyFingerprint.of(self.spki)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Verify a signature.

        Args:
            signature: untrusted. Ed25519: 64 bytes; P-384: DER.
            message: exact bytes that must have been signed.

        Raises:
            IntegrityError: SIGNATURE_INVALID.
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
        """Encode as SubjectPublicKeyInfo in PEM."""
        return _load_public(self.spki).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @classmethod
    def from_pem(cls, pem: bytes) -> VerifyKey:
        """Parse a key in PEM. Raises ParseError PUBLIC_KEY_MALFORMED."""
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, "not a public key in PEM form") from exc
        return _wrap(key)

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


_NEITHER = "the key is neither Ed25519 nor P-384"


def _supported(key: object) -> _PublicKey:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise ParseError(SignCode.PUBLIC_KEY_MALFORMED, _NEITHER)


def _wrap(key: object) -> VerifyKey:
    # Re-encoded, so that one key has one SubjectPublicKeyInfo and therefore one fingerprint.
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
        """Generate a fresh Ed25519 key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def generate_p384(cls) -> SigningKey:
        """Generate a fresh P-384 key."""
        return cls(ec.generate_private_key(ec.SECP384R1()))

    @property
    def verify_key(self) -> VerifyKey:
        """The public key."""
        return _wrap(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Sign a message. Returns 64 bytes for Ed25519, and a DER-encoded signature for P-384."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(hashes.SHA384()))

    def to_pem(self, passphrase: SecretBytes | None) -> bytes:
        """Encode as PKCS #8 in PEM, encrypted if a passphrase is given."""
        # The library takes a passphrase only as ``bytes``; that copy cannot be wiped.
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            protection = serialization.BestAvailableEncryption(passphrase.view().tobytes())
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: SecretBytes | None) -> SigningKey:
        """Parse a private key.

        Args:
            pem: PKCS #8 in PEM, secret.
            passphrase: None if the key is not encrypted.

        Raises:
            KeyAccessError: SIGNING_KEY_UNUSABLE.
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
            raise KeyAccessError(SignCode.SIGNING_KEY_UNUSABLE, _NEITHER)
        try:
            return cls(key)
        except ParseError as exc:  # another curve
            raise KeyAccessError(SignCode.SIGNING_KEY_UNUSABLE, _NEITHER) from exc

    def __repr__(self) -> str:
        return f"<signing key {self.verify_key.fingerprint}>"
