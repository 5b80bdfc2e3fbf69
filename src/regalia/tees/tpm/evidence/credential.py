"""TPM2_MakeCredential in software: a secret that only one TPM, holding one key, can open.

TPM Library Part 1, section 24 (Credential Protection) with Annexes B.10.3 and C.6.3 (secret
sharing), section 11.4.10 (KDFa, KDFe). The verifier needs no TPM for it. What an endorsement
key's public area says about its hash and its cipher is what protects the credential.
"""

from __future__ import annotations

import hmac
import os
import struct
from typing import TYPE_CHECKING

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from regalia.core.errors import AttestationError
from regalia.tees.tpm.evidence.codes import TpmCode
from regalia.tees.tpm.evidence.enrol_steps import Credential
from regalia.tees.tpm.evidence.keys import public_key
from regalia.tees.tpm.evidence.layout import HashAlg, sized
from regalia.tees.tpm.evidence.public import Attribute

if TYPE_CHECKING:
    from regalia.tees.tpm.evidence.public import PublicArea

# Part 1, section 23.4: a storage key, the only kind that TPM2_ActivateCredential opens with.
EK_REQUIRED = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.DECRYPT
)
EK_FORBIDDEN = Attribute.SIGN_ENCRYPT

_HASHES: dict[HashAlg, hashes.HashAlgorithm] = {
    HashAlg.SHA256: hashes.SHA256(),
    HashAlg.SHA384: hashes.SHA384(),
    HashAlg.SHA512: hashes.SHA512(),
}
_IV_SIZE = 16  # bytes; AES in CFB from a zero IV, as Part 1, 24.4 has it: each key is used once


def require_endorsement_key(public: PublicArea) -> None:
    """The public area is that of an EK as the TCG's templates make it.

    Raises:
        AttestationError: EK_UNSUITABLE or TPM_WEAK_HASH.
    """
    missing = EK_REQUIRED & ~public.attributes
    if missing or public.attributes & EK_FORBIDDEN:
        wrong = f"lacks {missing!r}" if missing else "may sign"
        raise AttestationError(TpmCode.EK_UNSUITABLE, f"the EK {wrong}")
    if not public.parameters.aes_bits:
        raise AttestationError(TpmCode.EK_UNSUITABLE, "the EK names no cipher")
    if public.name_alg is HashAlg.SHA1:
        raise AttestationError(TpmCode.TPM_WEAK_HASH, "the EK's name uses SHA-1")


def make_credential(
    ek: PublicArea, ak_name: bytes, secret: bytes, *, seed: bytes | None = None
) -> Credential:
    """Protect ``secret`` so that only the TPM that holds ``ek`` and a key of that name opens it.

    Args:
        ek: public area of the endorsement key; the caller has checked who vouches for it.
        ak_name: name of the attestation key.
        secret: at most as long as the EK's name hash.
        seed: for tests of an RSA EK; None draws one. ECDH derives its own.

    Raises:
        AttestationError: EK_UNSUITABLE or TPM_WEAK_HASH.
        ParseError: MALFORMED, the public area is no valid key.
        ValueError: the secret is empty or too long (the caller's bug).
    """
    require_endorsement_key(ek)
    if not secret or len(secret) > ek.name_alg.size:
        raise ValueError(f"a secret of {len(secret)} bytes")
    key = public_key(ek)
    if isinstance(key, rsa.RSAPublicKey):
        seed, encrypted = _share_rsa(key, ek.name_alg, seed)
    else:
        seed, encrypted = _share_ecc(key, ek.name_alg)
    cipher_key = kdf_a(ek.name_alg, seed, b"STORAGE", ak_name, ek.parameters.aes_bits)
    encryptor = Cipher(algorithms.AES(cipher_key), CFB(bytes(_IV_SIZE))).encryptor()
    identity = encryptor.update(sized(secret)) + encryptor.finalize()
    mac_key = kdf_a(ek.name_alg, seed, b"INTEGRITY", b"", 8 * ek.name_alg.size)
    mac = hmac.digest(mac_key, identity + ak_name, ek.name_alg.label)
    return Credential(sized(sized(mac) + identity), sized(encrypted))


def _share_rsa(key: rsa.RSAPublicKey, alg: HashAlg, seed: bytes | None) -> tuple[bytes, bytes]:
    """B.10.3: a random seed under OAEP with the label "IDENTITY", its final zero included."""
    shared = os.urandom(alg.size) if seed is None else seed
    digest = _HASHES[alg]
    oaep = padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=b"IDENTITY\x00")
    return shared, key.encrypt(shared, oaep)


def _share_ecc(key: ec.EllipticCurvePublicKey, alg: HashAlg) -> tuple[bytes, bytes]:
    """C.6.3: an ephemeral key, and a seed derived from the shared point's x coordinate."""
    ephemeral = ec.generate_private_key(key.curve)
    size = (key.curve.key_size + 7) // 8
    mine, theirs = ephemeral.public_key().public_numbers(), key.public_numbers()
    shared = ephemeral.exchange(ec.ECDH(), key)
    x = mine.x.to_bytes(size, "big")
    seed = kdf_e(alg, shared, b"IDENTITY", x, theirs.x.to_bytes(size, "big"))
    return seed, sized(x) + sized(mine.y.to_bytes(size, "big"))


def kdf_a(alg: HashAlg, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa (11.4.10.2): SP 800-108 in counter mode with HMAC.

    Args:
        alg: hash of the HMAC.
        key: secret.
        label: names the use, without a final zero byte.
        context: PartyUInfo and PartyVInfo together.
        bits: how many are derived, a multiple of 8.
    """
    fixed = label + b"\x00" + context + struct.pack(">I", bits)
    size = bits // 8
    blocks = (
        hmac.digest(key, struct.pack(">I", i) + fixed, alg.label)
        for i in range(1, -(-size // alg.size) + 1)
    )
    return b"".join(blocks)[:size]


def kdf_e(alg: HashAlg, shared: bytes, use: bytes, party_u: bytes, party_v: bytes) -> bytes:
    """KDFe (11.4.10.3) for one block, which is all that a seed of the hash's size needs.

    Args:
        alg: hash; its size is that of the seed.
        shared: x coordinate of the ECDH point, secret.
        use: names the use, without a final zero byte.
        party_u: x coordinate of the ephemeral key.
        party_v: x coordinate of the TPM's key.
    """
    return alg.digest(struct.pack(">I", 1) + shared + use + b"\x00" + party_u + party_v)
