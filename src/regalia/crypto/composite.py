"""Signatures by two keys of which both must hold: ML-DSA-65 (FIPS 204) with Ed25519 or P-384.

They outlast a quantum computer, and also an error in ML-DSA. Keys and signatures have the form of
draft-ietf-lamps-pq-composite-sigs-19, algorithms id-MLDSA65-Ed25519-SHA512 and
id-MLDSA65-ECDSA-P384-SHA512: the parts are put one behind the other, ML-DSA first. Both sign

    "CompositeAlgorithmSignatures2025" ‖ label ‖ 0x00 ‖ SHA-512(message)

so neither part is a signature of its own over anything else. Spec: docs/spec/conventions.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

ClassicalPrivate = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
ClassicalPublic = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

ML_DSA_KEY_SIZE = 1952  # bytes of a public key (FIPS 204, table 2)
ML_DSA_SIGNATURE_SIZE = 3309  # bytes
_PREFIX = b"CompositeAlgorithmSignatures2025"
_BIT_STRING = 0x03


@dataclass(frozen=True, slots=True)
class Combination:
    """What is combined with ML-DSA-65.

    Attributes:
        name: of the algorithm, as `regalia keygen` takes it.
        label: separates signatures of different combinations.
        oid: DER of the object identifier, 10 bytes.
        size: bytes of the classical public key.
    """

    name: str
    label: bytes
    oid: bytes
    size: int

    @property
    def prefix(self) -> bytes:
        """What stands before the keys in a SubjectPublicKeyInfo, whose sizes are all fixed."""
        algorithm = b"\x30" + bytes([len(self.oid)]) + self.oid
        bits = 1 + ML_DSA_KEY_SIZE + self.size  # the first byte counts unused bits: none
        header = bytes([_BIT_STRING, 0x82]) + bits.to_bytes(2) + b"\0"
        whole = len(algorithm) + len(header) - 1 + bits
        return b"\x30\x82" + whole.to_bytes(2) + algorithm + header

    def message(self, message: bytes) -> bytes:
        """What both parts sign."""
        return _PREFIX + self.label + b"\0" + hashlib.sha512(message).digest()


def _oid(last: int) -> bytes:
    return bytes.fromhex("06082b060105050706") + bytes([last])  # 1.3.6.1.5.5.7.6.<last>


WITH_ED25519 = Combination("ml-dsa-65-ed25519", b"COMPSIG-MLDSA65-Ed25519-SHA512", _oid(48), 32)
WITH_P384 = Combination("ml-dsa-65-p384", b"COMPSIG-MLDSA65-ECDSA-P384-SHA512", _oid(46), 97)
COMBINATIONS = (WITH_ED25519, WITH_P384)


@dataclass(frozen=True, slots=True)
class CompositePublicKey:
    """The public halves of two keys that belong together."""

    combination: Combination
    ml_dsa: MLDSA65PublicKey
    classical: ClassicalPublic

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo in DER."""
        keys = self.ml_dsa.public_bytes_raw() + _raw_public(self.classical)
        return self.combination.prefix + keys

    def verify(self, signature: bytes, message: bytes) -> None:
        """Verify both parts of a signature.

        Args:
            signature: untrusted; ML-DSA's part of 3309 bytes, and then the classical one.
            message: exact bytes that must have been signed.

        Raises:
            InvalidSignature: either part does not hold.
        """
        first, second = signature[:ML_DSA_SIGNATURE_SIZE], signature[ML_DSA_SIGNATURE_SIZE:]
        if len(first) != ML_DSA_SIGNATURE_SIZE or not second:
            raise InvalidSignature
        signed = self.combination.message(message)
        self.ml_dsa.verify(first, signed, self.combination.label)
        if isinstance(self.classical, ed25519.Ed25519PublicKey):
            self.classical.verify(second, signed)
        else:
            self.classical.verify(second, signed, ec.ECDSA(hashes.SHA384()))


@dataclass(frozen=True, slots=True, repr=False)
class CompositePrivateKey:
    """Two private keys that sign together, and nothing else."""

    ml_dsa: MLDSA65PrivateKey
    classical: ClassicalPrivate

    @property
    def combination(self) -> Combination:
        """What the keys are."""
        ed = isinstance(self.classical, ed25519.Ed25519PrivateKey)
        return WITH_ED25519 if ed else WITH_P384

    def public_key(self) -> CompositePublicKey:
        """The public halves."""
        return CompositePublicKey(
            self.combination, self.ml_dsa.public_key(), self.classical.public_key()
        )

    def sign(self, message: bytes) -> bytes:
        """Sign a message with both keys."""
        signed = self.combination.message(message)
        first = self.ml_dsa.sign(signed, self.combination.label)
        if isinstance(self.classical, ed25519.Ed25519PrivateKey):
            return first + self.classical.sign(signed)
        return first + self.classical.sign(signed, ec.ECDSA(hashes.SHA384()))

    def parts(self) -> Iterator[MLDSA65PrivateKey | ClassicalPrivate]:
        """Both keys, in the order in which they are stored."""
        yield self.ml_dsa
        yield self.classical


def parse_composite(spki: bytes) -> CompositePublicKey | None:
    """Parse a SubjectPublicKeyInfo, or return None if it is that of another algorithm.

    Raises:
        ValueError: it names a combination that is known here, and holds no keys of it.
    """
    for combination in COMBINATIONS:
        prefix = combination.prefix
        if (
            spki.startswith(prefix)
            and len(spki) == len(prefix) + ML_DSA_KEY_SIZE + combination.size
        ):
            first, second = _split(spki[len(prefix) :])
            return CompositePublicKey(
                combination,
                MLDSA65PublicKey.from_public_bytes(first),
                _classical(combination, second),
            )
    return None


def _split(keys: bytes) -> tuple[bytes, bytes]:
    return keys[:ML_DSA_KEY_SIZE], keys[ML_DSA_KEY_SIZE:]


def _classical(combination: Combination, raw: bytes) -> ClassicalPublic:
    if combination is WITH_ED25519:
        return ed25519.Ed25519PublicKey.from_public_bytes(raw)
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), raw)


def _raw_public(key: ClassicalPublic) -> bytes:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
