"""AMD's product lines: which CPU belongs to which, and which names its certificates carry."""

from __future__ import annotations

from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError
from regalia.tees.snp.evidence.wire import EndorsementKeyKind, Product

# (family, first model, last model, product); CPUID Fn0000_0001, combined family and model.
_CPUID = (
    (0x19, 0x00, 0x0F, Product.MILAN),
    (0x19, 0x10, 0x1F, Product.GENOA),
    (0x19, 0xA0, 0xAF, Product.GENOA),  # Bergamo and Siena share Genoa's root
    (0x1A, 0x00, 0x11, Product.TURIN),
)


def product_of_cpuid(family: int, model: int) -> Product:
    """The product line of a CPU.

    Args:
        family: the combined family of CPUID Fn0000_0001.
        model: the combined model of CPUID Fn0000_0001.

    Raises:
        AttestationError: ROOT_UNTRUSTED for a CPU whose root is not pinned here.
    """
    for known_family, first, last, product in _CPUID:
        if family == known_family and first <= model <= last:
            return product
    raise AttestationError(
        AttestCode.ROOT_UNTRUSTED,
        f"CPU family {family:#04x} model {model:#04x} is of no product line with a pinned root",
    )


def product_of_name(name: str) -> Product:
    """The product line of a leaf's productName: "Milan-B0", "Genoa", "Turin".

    Raises:
        AttestationError: CHAIN_INVALID.
    """
    line = name.partition("-")[0]  # a stepping may follow
    if line not in set(Product):
        raise AttestationError(
            AttestCode.CHAIN_INVALID, f"the leaf's product name {name!r} is not known"
        )
    return Product(line)


def root_name(product: Product) -> str:
    """Common name of the AMD root key certificate (ARK)."""
    return f"ARK-{product}"


def intermediate_name(product: Product, signing_key: EndorsementKeyKind) -> str:
    """Common name of the signing key certificate: ASK for VCEKs, ASVK for VLEKs.

    Args:
        product: product line of the CPU.
        signing_key: kind of leaf that the certificate issues.
    """
    return f"SEV-VLEK-{product}" if signing_key is EndorsementKeyKind.VLEK else f"SEV-{product}"


def leaf_name(signing_key: EndorsementKeyKind) -> str:
    """Common name of every leaf of one kind."""
    return f"SEV-{signing_key.name}"
