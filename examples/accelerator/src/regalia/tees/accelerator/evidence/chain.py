"""From the vendor's pinned root to the key that must have signed the document."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import (
    Scheme,
    chain_invalid,
    require_authority,
    require_known_critical,
    require_valid_at,
    require_version_3,
)
from regalia.appraisal.pki.crl import lists_of, revocation_status, weakest
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.claims import Revocation
    from regalia.appraisal.pki import Certificate
    from regalia.tees.accelerator.evidence.anchors import AcceleratorAnchors, AcceleratorCollateral

SCHEMES = frozenset({Scheme.ECDSA_SHA384})


def verify_chain(
    ders: tuple[bytes, ...], *, anchors: AcceleratorAnchors, at: AppraisalContext
) -> tuple[Certificate, ...]:
    """Check 3: each certificate is issued by the one before it, the first by itself.

    Args:
        ders: root first, the chip's last; untrusted. The order is the document's.
        anchors: the pinned root.
        at: the context of the appraisal.

    Raises:
        ParseError: a certificate is malformed.
        AttestationError: ROOT_UNTRUSTED, CHAIN_INVALID, CERT_EXPIRED or CERT_NOT_YET_VALID.
    """
    chain = tuple(
        at.cache.certificate_of_evidence(der, what=f"chain[{i}]") for i, der in enumerate(ders)
    )
    root = chain[0]
    if not anchors.pins(root):
        raise AttestationError(
            AttestCode.ROOT_UNTRUSTED, f"{root} has a key that is not the pinned root's"
        )
    for issuer, child in pairwise((root, *chain)):
        at.cache.require_issued_by(child, issuer, SCHEMES)
    # The root allows as many authorities as stand below it, and each of those one less.
    for below, authority in enumerate(reversed(chain[:-1])):
        require_authority(authority, path_length=below)
    _require_leaf(chain[-1])
    for certificate in chain:
        require_valid_at(certificate, at.now)
    return chain


def _require_leaf(chip: Certificate) -> None:
    """The chip's certificate is no CA and may sign."""
    require_version_3(chip)
    require_known_critical(chip, (x509.BasicConstraints.oid, x509.KeyUsage.oid))
    constraints, usage = chip.basic_constraints, chip.key_usage
    if constraints is None or constraints.ca:
        raise chain_invalid(f"{chip} does not say that it is no CA")
    if usage is None or not usage.digital_signature:
        raise chain_invalid(f"{chip}: keyUsage lacks digitalSignature")


def chip_key(chip: Certificate) -> ec.EllipticCurvePublicKey:
    """The chip's key, which is of P-384. Raises AttestationError CHAIN_INVALID."""
    key = chip.key
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise chain_invalid(f"{chip} has no P-384 key")
    return key


def check_revocation(
    chain: tuple[Certificate, ...], *, collateral: AcceleratorCollateral, at: AppraisalContext
) -> Revocation:
    """Check 4: every authority has a list that names none of those that it issued.

    Args:
        chain: verified, root first.
        collateral: the operator's lists.
        at: the context; its rule says whether lists may be missing or late.

    Raises:
        ParseError: a list is malformed.
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    known: list[Revocation] = []
    for issuer, child in pairwise(chain):
        own = lists_of(issuer, (child,), collateral.crls, schemes=SCHEMES, cache=at.cache)
        known.append(revocation_status(own, issuer, at))
    return weakest(*known)
