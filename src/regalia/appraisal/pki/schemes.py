"""Signature schemes that vendors use in certificates and revocation lists, and no others."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from cryptography import x509

    from regalia.appraisal.codes import AttestCode

PSS_SALT_SIZE = 48  # bytes; AMD's
RSA_BITS_MIN = 2048


class Scheme(Enum):
    """How a certificate or list is signed. The curve is the issuer's key's, checked beside it."""

    ECDSA_SHA256 = "ECDSA with SHA-256"
    ECDSA_SHA384 = "ECDSA with SHA-384"
    ECDSA_SHA512 = "ECDSA with SHA-512"
    RSA_PSS_SHA384 = "RSASSA-PSS with SHA-384"
    RSA_PKCS1_SHA256 = "RSA PKCS #1 v1.5 with SHA-256"
    RSA_PKCS1_SHA384 = "RSA PKCS #1 v1.5 with SHA-384"
    RSA_PKCS1_SHA512 = "RSA PKCS #1 v1.5 with SHA-512"
    OTHER = "a scheme that no vendor here uses"  # SHA-1 among them


_BY_OID = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: Scheme.ECDSA_SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: Scheme.ECDSA_SHA384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: Scheme.ECDSA_SHA512,
    SignatureAlgorithmOID.RSA_WITH_SHA256: Scheme.RSA_PKCS1_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384: Scheme.RSA_PKCS1_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA512: Scheme.RSA_PKCS1_SHA512,
}
_HASHES: dict[Scheme, hashes.HashAlgorithm] = {
    Scheme.ECDSA_SHA256: hashes.SHA256(),
    Scheme.ECDSA_SHA384: hashes.SHA384(),
    Scheme.ECDSA_SHA512: hashes.SHA512(),
    Scheme.RSA_PSS_SHA384: hashes.SHA384(),
    Scheme.RSA_PKCS1_SHA256: hashes.SHA256(),
    Scheme.RSA_PKCS1_SHA384: hashes.SHA384(),
    Scheme.RSA_PKCS1_SHA512: hashes.SHA512(),
}
_ECDSA = {
    scheme: ec.ECDSA(_HASHES[scheme])
    for scheme in (Scheme.ECDSA_SHA256, Scheme.ECDSA_SHA384, Scheme.ECDSA_SHA512)
}
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=PSS_SALT_SIZE)
_PKCS1 = padding.PKCS1v15()


def scheme_of(oid: x509.ObjectIdentifier, digest: hashes.HashAlgorithm | None) -> Scheme:
    """The scheme that a certificate or list declares.

    Args:
        oid: of the signature algorithm.
        digest: None where the algorithm has none.
    """
    if oid == SignatureAlgorithmOID.RSASSA_PSS and isinstance(digest, hashes.SHA384):
        return Scheme.RSA_PSS_SHA384
    return _BY_OID.get(oid, Scheme.OTHER)


def require_signature(  # noqa: PLR0913 - one signature, and how to speak of it
    key: object, scheme: Scheme, signature: bytes, message: bytes, *, code: AttestCode, what: str
) -> None:
    """``signature`` over ``message`` is by ``key``, in exactly this scheme.

    Args:
        key: the issuer's public key, of whatever type.
        scheme: as declared; the caller has checked that it accepts it.
        signature: DER for ECDSA.
        message: the signed bytes as received.
        code: of the refusal.
        what: for messages.

    Raises:
        AttestationError: ``code``.
    """
    digest = _HASHES.get(scheme)
    try:
        if digest is None:
            raise AttestationError(code, f"{what}: signed with {scheme.value}")
        if scheme in _ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, _ECDSA[scheme])
        elif scheme not in _ECDSA and isinstance(key, rsa.RSAPublicKey):
            if key.key_size < RSA_BITS_MIN:
                raise AttestationError(code, f"{what}: an RSA key of {key.key_size} bits")
            pss = scheme is Scheme.RSA_PSS_SHA384
            key.verify(signature, message, _PSS if pss else _PKCS1, digest)
        else:
            raise AttestationError(code, f"{what}: the issuer has no key for {scheme.value}")
    except InvalidSignature as exc:
        raise AttestationError(code, f"{what}: the signature does not verify") from exc
