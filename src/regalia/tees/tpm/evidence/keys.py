"""A TPM's public areas as keys that can be checked with, and what an AK must be."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.tees.tpm.evidence.codes import TpmCode
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.public import (
    RSA_EXPONENT_DEFAULT,
    Attribute,
    Curve,
    EccParameters,
    KeyScheme,
    PublicArea,
    RsaParameters,
    Scheme,
)

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

# Part 1, section 23.3: a key that only ever signs digests of what its own TPM made.
AK_REQUIRED = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.SIGN_ENCRYPT
)
AK_FORBIDDEN = Attribute.DECRYPT

_SCHEMES = {
    KeyScheme.RSASSA: SignatureAlg.RSASSA,
    KeyScheme.RSAPSS: SignatureAlg.RSAPSS,
    KeyScheme.ECDSA: SignatureAlg.ECDSA,
}


@dataclass(frozen=True, slots=True)
class AttestationPublicKey:
    """The public half of an AK, with the one scheme and hash that it signs with."""

    key: PublicKey
    alg: SignatureAlg
    hash_alg: HashAlg


def public_key(public: PublicArea) -> PublicKey:
    """The key in a public area.

    Raises:
        ParseError: MALFORMED, if it is no valid key: an even modulus, a point off the curve.
    """
    key = public.parameters
    try:
        if isinstance(key, RsaParameters):
            return rsa.RSAPublicNumbers(
                key.exponent or RSA_EXPONENT_DEFAULT, int.from_bytes(key.modulus, "big")
            ).public_key()
        curve = ec.SECP256R1() if key.curve is Curve.P256 else ec.SECP384R1()
        return ec.EllipticCurvePublicNumbers(
            int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big"), curve
        ).public_key()
    except ValueError as exc:
        raise ParseError(CoreCode.MALFORMED, f"TPMT_PUBLIC: not a valid key: {exc}") from exc


def spki(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


# SubjectPublicKeyInfo of a point (RFC 5480), up to its coordinates.
_EC_SPKI = {
    Curve.P256: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    Curve.P384: bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
}


def spki_of(public: PublicArea) -> bytes:
    """SubjectPublicKeyInfo of a public area's key, DER.

    A point is not checked to lie on its curve: what is equal to the SubjectPublicKeyInfo of a key
    that was loaded is as valid as that.

    Raises:
        ParseError: MALFORMED, if it is no valid RSA key.
    """
    key = public.parameters
    if isinstance(key, RsaParameters):
        return spki(public_key(public))
    return _EC_SPKI[key.curve] + key.x + key.y


def require_attestation_key(public: PublicArea) -> AttestationPublicKey:
    """The public area is that of an AK: restricted, signing, bound to its TPM, one scheme.

    It still says nothing about *whose* TPM: anybody can write such a public area.

    Raises:
        ParseError: MALFORMED, if the key is invalid.
        AttestationError: AK_NOT_RESTRICTED or TPM_WEAK_HASH.
    """
    missing = AK_REQUIRED & ~public.attributes
    if missing or public.attributes & AK_FORBIDDEN:
        wrong = f"lacks {missing!r}" if missing else "may decrypt"
        raise AttestationError(TpmCode.AK_NOT_RESTRICTED, f"the AK {wrong}")
    scheme = public.parameters.scheme
    alg = _SCHEMES.get(scheme.alg)
    if alg is None or scheme.hash_alg is None:
        raise AttestationError(
            TpmCode.AK_NOT_RESTRICTED, f"the AK has scheme {scheme.alg.name}, which signs nothing"
        )
    for use, hash_alg in (("scheme", scheme.hash_alg), ("name", public.name_alg)):
        if hash_alg is HashAlg.SHA1:
            raise AttestationError(TpmCode.TPM_WEAK_HASH, f"the AK's {use} uses SHA-1")
    return AttestationPublicKey(public_key(public), alg, scheme.hash_alg)


def assumed_attestation_key(key: PublicKey, alg: SignatureAlg, hash_alg: HashAlg) -> PublicArea:
    """A public area for a key that came without one, as other projects' evidence has it.

    Its attributes are those that an AK must have and nobody vouches for them, nor for its name:
    such a key can only be bound by its bytes, by an AK certificate or a TEE's report.

    Args:
        key: RSA, or on P-256 or P-384.
        alg: scheme that it signs with.
        hash_alg: hash that it signs.
    """
    attributes = AK_REQUIRED | Attribute.USER_WITH_AUTH
    scheme = Scheme(KeyScheme(alg), hash_alg)
    parameters: RsaParameters | EccParameters
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        exponent = 0 if numbers.e == RSA_EXPONENT_DEFAULT else numbers.e
        modulus = numbers.n.to_bytes(key.key_size // 8, "big")
        parameters = RsaParameters(0, scheme, key.key_size, exponent, modulus)
    else:
        curve = Curve.P256 if isinstance(key.curve, ec.SECP256R1) else Curve.P384
        point = key.public_numbers()
        x, y = (value.to_bytes(curve.size, "big") for value in (point.x, point.y))
        parameters = EccParameters(0, scheme, curve, x, y)
    return PublicArea(HashAlg.SHA256, attributes, b"", parameters)
