"""AMD's extensions of a VCEK or VLEK: for which chip and TCB the certificate was issued.

AMD 57230, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification".
Values are DER inside the extension's octets, except HWID, which is raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography import x509

from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError, CoreCode, ParseError, RegaliaError
from regalia.tees.snp.evidence.products import intermediate_name, leaf_name
from regalia.tees.snp.evidence.wire import (
    CHIP_ID_SIZE,
    TURIN_CHIP_ID_SIZE,
    EndorsementKeyKind,
    Product,
    tcb_layout,
)

if TYPE_CHECKING:
    from regalia.appraisal.pki import Certificate

_ARC = "1.3.6.1.4.1.3704.1"
OID_STRUCT_VERSION = f"{_ARC}.1"
OID_PRODUCT_NAME = f"{_ARC}.2"
OID_SPL = {  # security patch levels, by TCB component
    "bootloader": f"{_ARC}.3.1",
    "tee": f"{_ARC}.3.2",
    "snp": f"{_ARC}.3.3",
    "microcode": f"{_ARC}.3.8",
    "fmc": f"{_ARC}.3.9",
}
OID_SPL_SPARE = tuple(f"{_ARC}.3.{n}" for n in (4, 5, 6, 7))
OID_HWID = f"{_ARC}.4"
OID_CSP_ID = f"{_ARC}.5"

# Looked up as they are: the dotted string of an OID is made anew each time.
_KNOWN = MappingProxyType(
    {
        x509.ObjectIdentifier(oid): oid
        for oid in (
            *(OID_PRODUCT_NAME, OID_HWID, OID_CSP_ID),
            *OID_SPL.values(),
            *OID_SPL_SPARE,
        )
    }
)
# Components that a product does not have.
_ABSENT = MappingProxyType(
    {
        product: tuple(oid for name, oid in OID_SPL.items() if name not in tcb_layout(product))
        for product in Product
    }
)

_TAG_INTEGER = 0x02
_TAG_OCTET_STRING = 0x04
_TAG_IA5_STRING = 0x16
_SHORT_LENGTH_MAX = 0x7F
_POSITIVE_BYTE_MAX = 0x7F
_SPL_MAX = 0xFF
# All that a security patch level may look like: from 128 on, a zero byte keeps it positive.
_SMALL_INTEGERS = MappingProxyType(
    {
        bytes((_TAG_INTEGER, 1 + (number > _POSITIVE_BYTE_MAX)))
        + number.to_bytes(1 + (number > _POSITIVE_BYTE_MAX), "big"): number
        for number in range(_SPL_MAX + 1)
    }
)


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """What the leaf says about the platform. As trustworthy as the leaf."""

    product_name: str  # e.g. "Milan-B0", "Genoa", "Turin"
    tcb: bytes  # laid out as a TCB_VERSION, 8 bytes
    hwid: bytes | None  # 64 bytes, or 8 on Turin; None for a VLEK
    csp_id: str | None  # None for a VCEK


def read_leaf(leaf: Certificate, product: Product, signing_key: EndorsementKeyKind) -> LeafFacts:
    """Read AMD's extensions.

    Args:
        leaf: a VCEK or VLEK; what is read is as trustworthy as it.
        product: product line of the chain; it decides which TCB components there are.
        signing_key: which of the two the leaf must be.

    Raises:
        ParseError: MALFORMED, an extension does not hold what AMD 57230 says.
        AttestationError: LEAF_BINDING_MISMATCH, an extension is absent or out of place.
    """
    raw = {
        _KNOWN[extension.oid]: extension.value.value
        for extension in leaf.extensions
        if extension.oid in _KNOWN and isinstance(extension.value, x509.UnrecognizedExtension)
    }
    return LeafFacts(
        product_name=_ia5_string(_required(raw, OID_PRODUCT_NAME, "productName"), "productName"),
        tcb=_tcb(raw, product),
        hwid=_hwid(raw, product, signing_key),
        csp_id=_csp_id(raw, signing_key),
    )


def _tcb(raw: dict[str, bytes], product: Product) -> bytes:
    """Security patch levels in the order of the product's TCB_VERSION; reserved bytes zero."""
    layout = tcb_layout(product)
    for oid in (*OID_SPL_SPARE, *_ABSENT[product]):
        if oid in raw and _small_integer(raw[oid], oid):
            raise _mismatch(f"the leaf sets {oid}, a TCB component that {product} does not have")
    return bytes(
        _small_integer(_required(raw, OID_SPL[name], f"{name} SPL"), f"{name} SPL") if name else 0
        for name in layout
    )


def _hwid(raw: dict[str, bytes], product: Product, signing_key: EndorsementKeyKind) -> bytes | None:
    if signing_key is EndorsementKeyKind.VLEK:
        if OID_HWID in raw:
            raise _mismatch("a VLEK carries a HWID, which only a VCEK has")
        return None
    size = TURIN_CHIP_ID_SIZE if product is Product.TURIN else CHIP_ID_SIZE
    value = _required(raw, OID_HWID, "HWID")
    if len(value) == size:
        return value
    # Some certificates wrap the same bytes in an OCTET STRING; the two sizes tell them apart.
    if len(value) == size + 2 and value[:2] == bytes((_TAG_OCTET_STRING, size)):
        return value[2:]
    raise _malformed(f"HWID of {len(value)} bytes, want {size} on {product}")


def _csp_id(raw: dict[str, bytes], signing_key: EndorsementKeyKind) -> str | None:
    if signing_key is EndorsementKeyKind.VLEK:
        return _ia5_string(_required(raw, OID_CSP_ID, "CSP_ID"), "CSP_ID")
    if OID_CSP_ID in raw:
        raise _mismatch("a VCEK carries a CSP_ID, which only a VLEK has")
    return None


def _required(raw: dict[str, bytes], oid: str, name: str) -> bytes:
    if oid not in raw:
        raise _mismatch(f"the leaf has no {name} extension ({oid})")
    return raw[oid]


def _small_integer(value: bytes, name: str) -> int:
    """DER INTEGER, 0 to 255, in its one canonical form."""
    number = _SMALL_INTEGERS.get(value)
    if number is None:
        raise _malformed(f"{name} is not a DER INTEGER from 0 to {_SPL_MAX}")
    return number


def _ia5_string(value: bytes, name: str) -> str:
    """DER IA5String of 1 to 127 printable characters."""
    text = value[2:]
    if (
        value[:2] != bytes((_TAG_IA5_STRING, min(len(text), _SHORT_LENGTH_MAX)))
        or not 0 < len(text) <= _SHORT_LENGTH_MAX
    ):
        raise _malformed(f"{name} is not a DER IA5String")
    decoded = text.decode("ascii", "replace")
    if not decoded.isprintable() or not decoded.isascii():
        raise _malformed(f"{name} holds unprintable characters")
    return decoded


def _mismatch(what: str) -> AttestationError:
    return AttestationError(AttestCode.LEAF_BINDING_MISMATCH, what)


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"leaf certificate: {what}")


def leaf_of(certificate: Certificate) -> tuple[EndorsementKeyKind, Product, LeafFacts] | None:
    """What a VCEK or VLEK is for, by its own word; None for any other certificate."""
    for signing_key in (EndorsementKeyKind.VCEK, EndorsementKeyKind.VLEK):
        if certificate.common_name != leaf_name(signing_key):
            continue
        for product in Product:
            if certificate.issuer_common_name == intermediate_name(product, signing_key):
                try:
                    return signing_key, product, read_leaf(certificate, product, signing_key)
                except RegaliaError:
                    return None
    return None
