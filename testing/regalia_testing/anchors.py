"""Anchors that trust simulated roots: the plug-in group ``regalia.simulated_anchors``.

Whoever has the key of such a root forges evidence at will, so these anchors protect nothing. They
are made here and not in the product, so that an installation without this distribution cannot be
configured to trust a simulated root.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

from regalia.appraisal.claims import Hardware
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import RootPin, chain_invalid, parse_certificate
from regalia.core.errors import AttestationError
from regalia.tees.snp.evidence import SnpAnchors
from regalia.tees.snp.evidence.products import root_name
from regalia.tees.snp.evidence.wire import Product
from regalia.tees.tpm.evidence.anchors import TpmAnchors
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.registry import VENDORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.evidence_plugin import Anchors

SOFTWARE_TPM_ROOT = "swtpm-localca-rootca"  # what swtpm's own CA calls its root

_WHAT = "simulated root"
_Pin = TypeVar("_Pin", bound=RootPin)


def simulated_anchors(roots: Sequence[bytes]) -> TrustAnchors:
    """Trust these roots (DER) and no others: claims say ``hardware: simulated``.

    The common name of a root tells its vendor.

    Raises:
        ParseError: one is not a certificate.
        AttestationError: there is none, two are of one vendor, or one is not named like the
            root of a vendor.
    """
    found: dict[str, Anchors] = {}
    for root in roots:
        vendor, anchors = _anchors_of(root)
        if vendor in found:
            raise AttestationError(
                AttestCode.ROOT_UNTRUSTED, f"two simulated roots of {vendor}: want one at most"
            )
        found[vendor] = anchors
    if not found:
        raise AttestationError(AttestCode.ROOT_UNTRUSTED, "no simulated root")
    return TrustAnchors(**found)


def _anchors_of(root: bytes) -> tuple[str, Anchors]:
    """The vendor's name, and its anchors."""
    name = parse_certificate(root, what=_WHAT).common_name
    for vendor in VENDORS:
        if issubclass(vendor.anchors, RootPin) and name == vendor.anchors.NAME:
            return vendor.name, simulated_pin(vendor.anchors, root)
    if name == SOFTWARE_TPM_ROOT:
        return "tpm", simulated_tpm_anchors(root)
    return "snp", simulated_snp_anchors(root)


def simulated_pin(kind: type[_Pin], root_der: bytes) -> _Pin:
    """Anchors of a vendor with one root, pinned to the key of a simulated root.

    Raises:
        ParseError: MALFORMED, not a certificate.
        AttestationError: CHAIN_INVALID, it is not named like the vendor's root.
    """
    root = parse_certificate(root_der, what=_WHAT)
    if root.common_name != kind.NAME:
        raise chain_invalid(f"{root} is not named {kind.NAME}")
    return kind.pinned(Hardware.SIMULATED, hashlib.sha256(root.spki).digest())


def simulated_snp_anchors(ark_der: bytes) -> SnpAnchors:
    """AMD's anchors, pinned to the key of a simulated root of one product.

    Raises:
        ParseError: MALFORMED, not a certificate.
        AttestationError: CHAIN_INVALID, it is not named like the root of a product.
    """
    root = parse_certificate(ark_der, what=_WHAT)
    for product in Product:
        if root.common_name == root_name(product):
            pin = hashlib.sha256(root.spki).digest()
            return SnpAnchors.pinned(Hardware.SIMULATED, ((product, pin),))
    raise chain_invalid(f"{root} is not named like a root of {', '.join(Product)}")


def simulated_tpm_anchors(root_der: bytes) -> TpmAnchors:
    """One simulated root for EKs and AKs; the operator's roots are then not trusted.

    Raises:
        ParseError: MALFORMED, not a certificate.
    """
    return TpmAnchors.pinned(Hardware.SIMULATED, parse_certificate(root_der, what=_WHAT).der)
