"""From AWS's pinned root to the key that must have signed the document."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import (
    Scheme,
    chain_invalid,
    require_known_critical,
    require_valid_at,
    require_version_3,
    tail,
)
from regalia.appraisal.pki.certificates import require_ca
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.claims import Hardware
    from regalia.appraisal.pki import Cache, Certificate
    from regalia.tees.nitro.evidence.anchors import NitroAnchors
    from regalia.tees.nitro.evidence.wire import NitroDocument

SCHEMES = frozenset({Scheme.ECDSA_SHA384})

# Keeps signers from being declared trusted by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class TrustedSigner:
    """An enclave's certificate that the pinned root vouches for at one moment."""

    key: ec.EllipticCurvePublicKey  # P-384
    certificate: Certificate
    authorities: tuple[Certificate, ...]  # root first
    hardware: Hardware
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a trusted signer comes from verify_chain")


def verify_chain(
    document: NitroDocument, *, anchors: NitroAnchors, at: AppraisalContext
) -> TrustedSigner:
    """Check 3: cabundle from the pinned root on, each issued by the one before, then the leaf.

    The order is the document's; nothing is searched for.

    Args:
        document: parsed, untrusted.
        anchors: the vendor's pinned roots.
        at: the context of the appraisal.

    Raises:
        ParseError: a certificate is malformed.
        AttestationError: ROOT_UNTRUSTED, CHAIN_INVALID, CERT_EXPIRED or CERT_NOT_YET_VALID.
    """
    bundle, cache = document.cabundle, at.cache
    root = cache.certificate_of_evidence(bundle[0], what="cabundle[0]")
    leaf = cache.certificate_of_evidence(document.certificate, what="certificate")
    if not anchors.pins(root):
        raise AttestationError(
            AttestCode.ROOT_UNTRUSTED, f"{root} has a key that is not the pinned root's"
        )
    # Remembered only of bundles that lead from a pinned root: nobody else can fill the cache.
    authorities = cache.derived(
        "nitro cabundle", tail(bundle[-1]), bundle, lambda: _authorities(bundle, cache)
    )
    cache.require_issued_by(leaf, authorities[-1], SCHEMES)
    key = _leaf_key(leaf)
    for certificate in (*authorities, leaf):
        require_valid_at(certificate, at.now)
    return TrustedSigner(key, leaf, authorities, anchors.hardware, _MINT)


def _authorities(bundle: tuple[bytes, ...], cache: Cache) -> tuple[Certificate, ...]:
    """Each issued by the one before it, the first by itself, and all of them authorities."""
    authorities = tuple(
        cache.certificate_of_evidence(der, what=f"cabundle[{i}]") for i, der in enumerate(bundle)
    )
    for issuer, child in pairwise((authorities[0], *authorities)):
        cache.require_issued_by(child, issuer, SCHEMES)
    for below, authority in enumerate(reversed(authorities)):
        _require_authority(authority, below)
    return authorities


def _require_authority(authority: Certificate, below: int) -> None:
    """A CA with a P-384 key whose pathLenConstraint allows ``below`` CAs beneath it."""
    constraints = require_ca(authority)
    _p384(authority)
    if constraints.path_length is not None and constraints.path_length < below:
        raise chain_invalid(
            f"{authority}: pathLen={constraints.path_length}, with {below} authorities below it"
        )


def _leaf_key(leaf: Certificate) -> ec.EllipticCurvePublicKey:
    """The leaf is no CA, may make signatures, and holds a P-384 key."""
    require_version_3(leaf)
    require_known_critical(leaf, (x509.BasicConstraints.oid, x509.KeyUsage.oid))
    constraints, usage = leaf.basic_constraints, leaf.key_usage
    if constraints is not None and constraints.ca:
        raise chain_invalid(f"{leaf} is a CA, and the signer must not be")
    if usage is None or not usage.digital_signature:
        raise chain_invalid(f"{leaf}: keyUsage lacks digitalSignature")
    return _p384(leaf)


def _p384(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.key
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise chain_invalid(f"{certificate} has no P-384 key")
    return key
