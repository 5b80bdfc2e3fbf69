"""Intel's certificates: root, PCK CAs, TCB signing, PCK; and the chain of one quote.

Intel SGX PCK Certificate and CRL Profile Specification, sections 1.1 to 1.3. All keys are P-256,
all signatures ECDSA with SHA-256.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import (
    Scheme,
    chain_invalid,
    parse_pem_certificates,
    require_authority,
    require_known_critical,
    require_valid_at,
    require_version_3,
)
from regalia.core.errors import AttestationError
from regalia.tees.intel.evidence.anchors import ROOT_NAME
from regalia.tees.intel.evidence.pck import read_pck
from regalia.tees.intel.evidence.signatures import is_p256

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.pki import Cache, Certificate
    from regalia.tees.intel.evidence.anchors import IntelAnchors
    from regalia.tees.intel.evidence.pck import PckFacts

TCB_SIGNING_NAME = "Intel SGX TCB Signing"
PCK_CA_NAMES = ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA")
PCK_NAME = "Intel SGX PCK Certificate"
CHAIN_SIZE = 3  # PCK, its CA, the root
ROOT_PATH_LENGTH = 1
PCK_CA_PATH_LENGTH = 0
SCHEMES = frozenset({Scheme.ECDSA_SHA256})

# Keeps chains from being declared trusted by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class PckPath:
    """A PCK certificate that the pinned root vouches for, dates aside. Made by ``verify_pck``."""

    key: ec.EllipticCurvePublicKey  # P-256, of the leaf
    facts: PckFacts
    leaf: Certificate
    authority: Certificate  # the PCK Platform or Processor CA
    root: Certificate
    not_before: datetime  # the latest of the three
    not_after: datetime  # the earliest of the three
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a PCK path comes from verify_pck")


def verify_pck(pem: bytes, *, anchors: IntelAnchors, cache: Cache) -> PckPath:
    """PCK -> Platform or Processor CA -> pinned root, exactly these three.

    Every signature, name and constraint holds; ``require_current`` sees to the time.

    Args:
        pem: raw, untrusted; the leaf comes first.
        anchors: the vendor's pinned roots.
        cache: remembers what bytes proved.

    Raises:
        ParseError: the chain or a certificate is malformed.
        AttestationError: ROOT_UNTRUSTED, CHAIN_INVALID or LEAF_BINDING_MISMATCH.
    """
    chain = parse_pem_certificates(pem, count_max=CHAIN_SIZE, what="PCK chain")
    if len(chain) != CHAIN_SIZE:
        raise chain_invalid(f"the PCK chain has {len(chain)} certificates, want {CHAIN_SIZE}")
    root = cache.certificate_of_evidence(chain[2], what="root of the PCK chain")
    require_root(root, anchors=anchors, cache=cache)
    authority = cache.certificate_of_evidence(chain[1], what="PCK CA")
    require_pck_ca(authority, root, cache=cache)
    leaf = cache.certificate_of_evidence(chain[0], what="PCK certificate")
    if leaf.common_name != PCK_NAME:
        raise chain_invalid(f"{leaf} is not named {PCK_NAME}")
    cache.require_issued_by(leaf, authority, SCHEMES)
    return PckPath(
        key=require_signing_leaf(leaf),
        facts=read_pck(leaf),
        leaf=leaf,
        authority=authority,
        root=root,
        not_before=max(each.not_before for each in (leaf, authority, root)),
        not_after=min(each.not_after for each in (leaf, authority, root)),
        mint=_MINT,
    )


def require_current(path: PckPath, now: datetime) -> None:
    """The whole path is valid now. Raises AttestationError CERT_EXPIRED or CERT_NOT_YET_VALID.

    Args:
        path: made by ``verify_pck``.
        now: the moment of the appraisal, aware.
    """
    if not path.not_before <= now <= path.not_after:
        for certificate in (path.root, path.authority, path.leaf):
            require_valid_at(certificate, now)


def require_root(root: Certificate, *, anchors: IntelAnchors, cache: Cache) -> None:
    """The pinned key, in a certificate that it signed itself as a CA.

    Args:
        root: untrusted.
        anchors: the vendor's pinned roots.
        cache: remembers what bytes proved.

    Raises:
        AttestationError: ROOT_UNTRUSTED or CHAIN_INVALID.
    """
    if not anchors.pins(root):
        raise AttestationError(
            AttestCode.ROOT_UNTRUSTED, f"{root} has a key that is not the pinned Intel SGX root"
        )
    _require_named(root, (ROOT_NAME,))
    cache.require_issued_by(root, root, SCHEMES)
    require_authority(root, path_length=ROOT_PATH_LENGTH)


def require_pck_ca(certificate: Certificate, root: Certificate, *, cache: Cache) -> None:
    """A PCK Platform or Processor CA that the root issued. Raises AttestationError.

    Args:
        certificate: untrusted.
        root: passed ``require_root``.
        cache: remembers what bytes proved.
    """
    _require_named(certificate, PCK_CA_NAMES)
    _require_p256(certificate)
    cache.require_issued_by(certificate, root, SCHEMES)
    require_authority(certificate, path_length=PCK_CA_PATH_LENGTH)


def require_tcb_signing(
    certificate: Certificate, root: Certificate, *, cache: Cache
) -> ec.EllipticCurvePublicKey:
    """The key of a TCB signing certificate that the root issued. Raises AttestationError.

    Args:
        certificate: untrusted.
        root: passed ``require_root``.
        cache: remembers what bytes proved.
    """
    _require_named(certificate, (TCB_SIGNING_NAME,))
    cache.require_issued_by(certificate, root, SCHEMES)
    return require_signing_leaf(certificate)


def require_signing_leaf(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    """Version 3, no CA, digitalSignature, nothing unknown critical, a P-256 key.

    Raises:
        AttestationError: CHAIN_INVALID.
    """
    require_version_3(certificate)
    require_known_critical(certificate, (x509.BasicConstraints.oid, x509.KeyUsage.oid))
    constraints, usage = certificate.basic_constraints, certificate.key_usage
    if constraints is None or constraints.ca:
        raise chain_invalid(f"{certificate} must say that it is no CA")
    if usage is None or not usage.digital_signature or usage.key_cert_sign:
        raise chain_invalid(f"{certificate} has a keyUsage that is not for signing data")
    return _require_p256(certificate)


def _require_p256(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    if not isinstance(certificate.key, ec.EllipticCurvePublicKey) or not is_p256(certificate.key):
        raise chain_invalid(f"{certificate} has no P-256 key")
    return certificate.key


def _require_named(certificate: Certificate, names: tuple[str, ...]) -> None:
    if certificate.common_name not in names:
        raise chain_invalid(f"{certificate} is not named {' or '.join(names)}")
