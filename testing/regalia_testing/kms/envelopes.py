"""Writes CMS as AWS KMS does: BER with indefinite lengths, for one recipient."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.crypto import cms

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

END = b"\x00\x00"
NULL = b"\x05\x00"
_SHORT_MAX = 127  # bytes of contents whose length is one byte


def element(tag: int, *parts: bytes) -> bytes:
    """An element of definite length.

    Args:
        tag: one byte.
        parts: of its contents.
    """
    content = b"".join(parts)
    size = len(content)
    if size <= _SHORT_MAX:
        return bytes((tag, size)) + content
    raw = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(raw))) + raw + content


def open_ended(tag: int, *parts: bytes) -> bytes:
    """An element of indefinite length.

    Args:
        tag: one byte.
        parts: of its contents.
    """
    return bytes((tag, 0x80)) + b"".join(parts) + END


def algorithm(identifier: bytes, parameters: bytes) -> bytes:
    """An AlgorithmIdentifier.

    Args:
        identifier: encoded, without its tag.
        parameters: an element.
    """
    return element(0x30, element(0x06, identifier), parameters)


def oaep_parameters(digest: bytes = cms.SHA256) -> bytes:
    """Parameters of RSAES-OAEP with one hash in both places."""
    hashed = algorithm(digest, NULL)
    return element(0x30, element(0xA0, hashed), element(0xA1, algorithm(cms.MGF1, hashed)))


def envelope(
    encrypted_key: bytes,
    iv: bytes,
    ciphertext: bytes,
    *,
    identifier: bytes = b"i" * 32,
    parameters: bytes | None = None,
) -> bytes:
    """A ContentInfo.

    Args:
        encrypted_key: to the recipient.
        iv: of AES-CBC.
        ciphertext: of the content.
        identifier: of the recipient's key.
        parameters: of RSAES-OAEP; None for those of AWS.
    """
    recipient = element(
        0x30,
        element(0x02, b"\x02"),
        element(0x80, identifier),
        algorithm(cms.RSAES_OAEP, oaep_parameters() if parameters is None else parameters),
        element(0x04, encrypted_key),
    )
    content = open_ended(
        0x30,
        element(0x06, cms.DATA),
        algorithm(cms.AES256_CBC, element(0x04, iv)),
        open_ended(0xA0, element(0x04, ciphertext)),
    )
    enveloped = open_ended(0x30, element(0x02, b"\x02"), element(0x31, recipient), content)
    return open_ended(0x30, element(0x06, cms.ENVELOPED_DATA), open_ended(0xA0, enveloped))


def sealed_to(public: RSAPublicKey, plaintext: bytes) -> bytes:
    """What KMS answers an attested recipient with.

    Args:
        public: in the attestation document.
        plaintext: what was decrypted.
    """
    key, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    padder = PKCS7(AES.block_size).padder()
    padded = padder.update(plaintext) + padder.finalize()
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return envelope(
        public.encrypt(key, OAEP(MGF1(hashes.SHA256()), hashes.SHA256(), None)),
        iv,
        encryptor.update(padded) + encryptor.finalize(),
        identifier=hashlib.sha256(spki).digest(),
    )
