"""Opens model keys that a key store has wrapped to a runtime's attested RSA key (RFC 8017).

The broker has sealed them once more with HPKE, so whoever records the answer has to break both. RSA
alone would fall to a quantum computer; X-Wing around it does not.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)
from cryptography.hazmat.primitives.padding import PKCS7

from regalia.core.errors import Code, IntegrityError, ParseError
from regalia.core.secret import SecretBytes
from regalia.crypto.cms import parse_enveloped

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey


class KeyWrappingCode(Code):
    """Refusals around keys that a key store has wrapped."""

    KEY_WRAPPING_UNKNOWN = (
        "This runtime cannot open what the broker's key store has made.",
        "Use versions of runtime and broker that belong together.",
    )
    KEY_WRAPPING_FAILED = (
        "The key was wrapped to another runtime, or changed on the way.",
        "Ask again. If that does not help, look at the broker's key store.",
    )


_KEK_SIZE = 32  # bytes of the AES key between RSA and the wrapped key
# AES-KWP (RFC 5649) pads to 8 bytes and adds 8.
_KWP_OVERHEAD = 8  # bytes, for keys whose size is a multiple of 8
_RSA_AES = "rsa-oaep-sha256-aes-kwp"
_CMS = "cms-rsa-oaep-sha256-aes256-cbc"

# Neither use of a hash in OAEP needs it to resist collisions, so SHA-1 is as good here (RFC 8017,
# appendix A.2.1, and NIST SP 800-131A). Tokens such as SoftHSM 2.6 can do nothing else.
_HASHES = {
    "rsa-oaep-sha1": hashes.SHA1(),  # noqa: S303
    "rsa-oaep-sha256": hashes.SHA256(),
    _RSA_AES: hashes.SHA256(),
    _CMS: hashes.SHA256(),
}


def rsa_aes_wrapped_size(modulus_bits: int, key_size: int) -> int:
    """Bytes of a key that is wrapped as ``rsa-oaep-sha256-aes-kwp``.

    Args:
        modulus_bits: of the recipient's RSA key.
        key_size: bytes of the wrapped key; a multiple of 8.
    """
    return modulus_bits // 8 + key_size + _KWP_OVERHEAD


def _padding(wrapping: str) -> OAEP:
    digest = _HASHES.get(wrapping)
    if digest is None:
        raise IntegrityError(
            KeyWrappingCode.KEY_WRAPPING_UNKNOWN, f"key wrapping {wrapping[:40]!r}"
        )
    return OAEP(mgf=MGF1(digest), algorithm=digest, label=None)


def open_wrapped(wrapping: str, wrapped: SecretBytes, private: RSAPrivateKey) -> SecretBytes:
    """Unwrap a key.

    Args:
        wrapping: name of the wrapping, as the release record has it.
        wrapped: untrusted; the caller closes it.
        private: of the runtime.

    Returns:
        The key. The library hands it out as ``bytes`` once; that copy cannot be wiped.

    Raises:
        IntegrityError: KEY_WRAPPING_UNKNOWN or KEY_WRAPPING_FAILED.
    """
    padding = _padding(wrapping)
    data = bytes(wrapped.view())
    modulus = private.key_size // 8
    if wrapping == _CMS:
        return _open_cms(data, private, padding)
    if wrapping != _RSA_AES:
        return SecretBytes.copy_of(_decrypted(wrapping, data, private, padding))
    between = _aes_key(wrapping, data[:modulus], private, padding)
    try:
        return SecretBytes.copy_of(aes_key_unwrap_with_padding(between, data[modulus:]))
    except (InvalidUnwrap, ValueError) as exc:
        raise _failed(wrapping, f"{len(data)} bytes do not open") from exc


def wrap_to(wrapping: str, key: SecretBytes, public: RSAPublicKey) -> bytes:
    """Wrap a key in software, as key stores do inside.

    Args:
        wrapping: name of the wrapping.
        key: to be wrapped; the caller closes it.
        public: of the recipient.

    Raises:
        IntegrityError: KEY_WRAPPING_UNKNOWN; KEY_WRAPPING_FAILED for CMS, which only AWS KMS makes.
    """
    padding = _padding(wrapping)
    if wrapping == _CMS:
        raise _failed(wrapping, "only the service makes it")
    if wrapping != _RSA_AES:
        return public.encrypt(bytes(key.view()), padding)
    between = secrets.token_bytes(_KEK_SIZE)
    return public.encrypt(between, padding) + aes_key_wrap_with_padding(between, bytes(key.view()))


def _open_cms(data: bytes, private: RSAPrivateKey, padding: OAEP) -> SecretBytes:
    # AES-CBC is not authenticated. Whoever changes it changes the key into another one, which the
    # sealed model's key commitment refuses.
    try:
        enveloped = parse_enveloped(data)
    except ParseError as exc:
        raise _failed(_CMS, exc.what) from exc
    key = _aes_key(_CMS, enveloped.encrypted_key, private, padding)
    decryptor = Cipher(AES(key), CBC(enveloped.iv)).decryptor()
    unpadder = PKCS7(AES.block_size).unpadder()
    try:
        padded = decryptor.update(enveloped.ciphertext) + decryptor.finalize()
        return SecretBytes.copy_of(unpadder.update(padded) + unpadder.finalize())
    except ValueError as exc:
        raise _failed(_CMS, f"{len(data)} bytes do not open") from exc


def _aes_key(wrapping: str, data: bytes, private: RSAPrivateKey, padding: OAEP) -> bytes:
    key = _decrypted(wrapping, data, private, padding)
    if len(key) != _KEK_SIZE:
        raise _failed(wrapping, f"an AES key of {len(key)} bytes")
    return key


def _decrypted(wrapping: str, data: bytes, private: RSAPrivateKey, padding: OAEP) -> bytes:
    try:
        return private.decrypt(data, padding)
    except ValueError as exc:
        raise _failed(wrapping, f"{len(data)} bytes do not open") from exc


def _failed(wrapping: str, what: str) -> IntegrityError:
    return IntegrityError(KeyWrappingCode.KEY_WRAPPING_FAILED, f"{wrapping}: {what}")
