"""Public areas of TPM 2.0 keys: TPMT_PUBLIC, its attributes and its name.

Trusted Platform Module Library, Part 2: Structures, sections 8.3 (TPMA_OBJECT) and 12.2.4
(TPMT_PUBLIC); Part 1, section 16 (names). RSA and ECC keys only. ``PublicArea.encode`` is the
exact inverse of ``parse_public``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from regalia.core.errors import ParseError
from regalia.tees.tpm.evidence.layout import HASH_ALGS, Reader, SignatureAlg, sized
from regalia.tees.tpm.evidence.wire import DIGEST_MAX, ECC_SIZE_MAX, RSA_SIZE_MAX
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from regalia.tees.tpm.evidence.layout import HashAlg

PUBLIC_MAX = 1024  # bytes; RSA-4096 has below 600
ALG_NULL = 0x0010
ALG_AES = 0x0006
MODE_CFB = 0x0043
RSA_EXPONENT_DEFAULT = 65537  # what an exponent of zero stands for
RSA_KEY_BITS = (2048, 3072, 4096)


class ObjectType(IntEnum):
    """TPMI_ALG_PUBLIC of asymmetric keys."""

    RSA = 0x0001
    ECC = 0x0023


class Curve(IntEnum):
    """TPM_ECC_CURVE."""

    P256 = 0x0003
    P384 = 0x0004

    @property
    def size(self) -> int:
        """Bytes of a coordinate."""
        return 32 if self is Curve.P256 else 48


class KeyScheme(IntEnum):
    """TPM_ALG_ID of the schemes a key may be tied to."""

    NULL = ALG_NULL
    RSASSA = SignatureAlg.RSASSA.value
    RSAES = 0x0015
    RSAPSS = SignatureAlg.RSAPSS.value
    OAEP = 0x0017
    ECDSA = SignatureAlg.ECDSA.value
    ECDH = 0x0019


class Attribute(IntFlag):
    """TPMA_OBJECT. Bits that are not named here are reserved."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18
    X509_SIGN = 1 << 19


_ATTRIBUTES = sum(Attribute)
_TYPES = {kind.value: kind for kind in ObjectType}
_CURVES = {curve.value: curve for curve in Curve}
_KEY_SCHEMES = {scheme.value: scheme for scheme in KeyScheme}
_WITHOUT_HASH = frozenset({KeyScheme.NULL, KeyScheme.RSAES})


@dataclass(frozen=True, slots=True)
class Scheme:
    """TPMT_RSA_SCHEME, TPMT_ECC_SCHEME or TPMT_KDF_SCHEME."""

    alg: KeyScheme
    hash_alg: HashAlg | None  # None where the scheme has none

    def encode(self) -> bytes:
        """The scheme, and its hash if it has one."""
        head = struct.pack(">H", self.alg)
        return head if self.hash_alg is None else head + struct.pack(">H", self.hash_alg)


NULL_SCHEME = Scheme(KeyScheme.NULL, None)


@dataclass(frozen=True, slots=True)
class RsaParameters:
    """TPMS_RSA_PARMS with the modulus."""

    aes_bits: int  # of a storage key's TPMT_SYM_DEF_OBJECT, AES in CFB; 0 is TPM_ALG_NULL
    scheme: Scheme
    key_bits: int
    exponent: int  # as encoded: 0 is 65537
    modulus: bytes


@dataclass(frozen=True, slots=True)
class EccParameters:
    """TPMS_ECC_PARMS with the point."""

    aes_bits: int  # like that of RSA
    scheme: Scheme
    curve: Curve
    x: bytes
    y: bytes


@dataclass(frozen=True, slots=True)
class PublicArea:
    """TPMT_PUBLIC of one asymmetric key, untrusted."""

    name_alg: HashAlg
    attributes: Attribute
    auth_policy: bytes
    parameters: RsaParameters | EccParameters

    @property
    def name(self) -> bytes:
        """The TPM's name of the key: nameAlg ‖ H(TPMT_PUBLIC)."""
        return struct.pack(">H", self.name_alg) + self.name_alg.digest(self.encode())

    def encode(self) -> bytes:
        """``parse_public(b).encode() == b`` for every ``b`` that parses."""
        key = self.parameters
        kind = ObjectType.RSA if isinstance(key, RsaParameters) else ObjectType.ECC
        head = struct.pack(">HHI", kind, self.name_alg, self.attributes) + sized(self.auth_policy)
        head += _encode_symmetric(key.aes_bits) + key.scheme.encode()
        if isinstance(key, RsaParameters):
            return head + struct.pack(">HI", key.key_bits, key.exponent) + sized(key.modulus)
        curve = struct.pack(">H", key.curve) + NULL_SCHEME.encode()
        return head + curve + sized(key.x) + sized(key.y)


def parse_public(data: bytes) -> PublicArea:
    """Parse a TPMT_PUBLIC of an RSA or ECC key.

    Args:
        data: raw, untrusted; without the size of a TPM2B_PUBLIC (``parse_sized_public``).

    Raises:
        ParseError: MALFORMED, RESERVED_BIT_SET or TRAILING_DATA.
    """
    reader = Reader(data, what="TPMT_PUBLIC")
    if len(data) > PUBLIC_MAX:
        raise reader.malformed(f"{len(data)} bytes, at most {PUBLIC_MAX}")
    kind = reader.one_of(_TYPES, "type")
    name_alg = reader.one_of(HASH_ALGS, "nameAlg")
    attributes = reader.u32()
    if attributes & ~_ATTRIBUTES:
        raise ParseError(
            EvidenceCode.RESERVED_BIT_SET,
            f"TPMT_PUBLIC: objectAttributes {attributes:#010x} has reserved bits",
        )
    auth_policy = reader.sized(DIGEST_MAX, "authPolicy")
    if len(auth_policy) not in {0, name_alg.size}:
        raise reader.malformed(f"authPolicy has {len(auth_policy)} bytes")
    parameters = _rsa(reader) if kind is ObjectType.RSA else _ecc(reader)
    reader.end()
    return PublicArea(name_alg, Attribute(attributes), auth_policy, parameters)


def parse_sized_public(data: bytes) -> PublicArea:
    """Parse a TPM2B_PUBLIC, as TPM2_CreatePrimary and tpm2-tools write it. Raises ParseError."""
    reader = Reader(data, what="TPM2B_PUBLIC")
    public = reader.sized(PUBLIC_MAX, "publicArea")
    reader.end()
    return parse_public(public)


def _rsa(reader: Reader) -> RsaParameters:
    aes_bits = _symmetric(reader)
    scheme = _scheme(reader)
    key_bits = reader.u16()
    if key_bits not in RSA_KEY_BITS:
        raise reader.malformed(f"an RSA key of {key_bits} bits")
    exponent = reader.u32()
    modulus = reader.sized(RSA_SIZE_MAX, "modulus")
    if len(modulus) * 8 != key_bits:
        raise reader.malformed(f"a modulus of {len(modulus)} bytes for {key_bits} bits")
    return RsaParameters(aes_bits, scheme, key_bits, exponent, modulus)


def _ecc(reader: Reader) -> EccParameters:
    aes_bits = _symmetric(reader)
    scheme = _scheme(reader)
    curve = reader.one_of(_CURVES, "curveID")
    if _scheme(reader) != NULL_SCHEME:
        raise reader.malformed("an ECC key with a KDF scheme")
    x = reader.sized(ECC_SIZE_MAX, "x")
    y = reader.sized(ECC_SIZE_MAX, "y")
    if not len(x) == len(y) == curve.size:
        raise reader.malformed(f"coordinates of {len(x)} and {len(y)} bytes")
    return EccParameters(aes_bits, scheme, curve, x, y)


def _symmetric(reader: Reader) -> int:
    """TPMT_SYM_DEF_OBJECT: none, or AES in CFB."""
    alg = reader.u16()
    if alg == ALG_NULL:
        return 0
    bits, mode = reader.u16(), reader.u16()
    if alg != ALG_AES or bits not in {128, 192, 256} or mode != MODE_CFB:
        raise reader.malformed(f"symmetric {alg:#06x} of {bits} bits, mode {mode:#06x}")
    return bits


def _encode_symmetric(bits: int) -> bytes:
    if not bits:
        return struct.pack(">H", ALG_NULL)
    return struct.pack(">HHH", ALG_AES, bits, MODE_CFB)


def _scheme(reader: Reader) -> Scheme:
    alg = reader.one_of(_KEY_SCHEMES, "scheme")
    return Scheme(alg, None if alg in _WITHOUT_HASH else reader.one_of(HASH_ALGS, "scheme hash"))
