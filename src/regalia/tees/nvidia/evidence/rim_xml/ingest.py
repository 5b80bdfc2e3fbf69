"""From a verified document to reference values (TCG Reference Integrity Manifest, SWID form)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.codec import decimal, unhex
from regalia.core.errors import ParseError
from regalia.core.types import Digest, KeyFingerprint
from regalia.tees.nvidia.evidence.codes import NvidiaCode
from regalia.tees.nvidia.evidence.rim_xml.document import SWID, malformed, verify_document
from regalia.tees.nvidia.evidence.rims import (
    ALTERNATIVES_MAX,
    INDEX_MAX,
    VALUE_SIZE,
    Rim,
    RimKind,
    RimSigner,
    check_measurements,
    rim_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from lxml import etree

    from regalia.tees.nvidia.evidence.anchors import RimAnchors

_HASH = "{http://www.w3.org/2001/04/xmlenc#sha384}Hash"
_PREFIXES = {
    "NV_GPU_DRIVER_": RimKind.GPU_DRIVER,
    "NV_GPU_CC_DRIVER_": RimKind.GPU_DRIVER,
    "NV_GPU_VBIOS_": RimKind.GPU_VBIOS,
    "NV_SWITCH_BIOS_": RimKind.SWITCH_BIOS,
}
_ACTIVE = {"True": True, "False": False}
_RESOURCES_MAX = INDEX_MAX + 1


@dataclass(frozen=True, slots=True)
class _Resource:
    """One measurement that the document speaks of."""

    index: int
    active: bool
    values: tuple[bytes, ...]  # alternatives


def ingest_rim(data: bytes, *, rim_id: str, anchors: RimAnchors, now: datetime) -> Rim:
    """Verify NVIDIA's XML once, and keep what verifiers need of it.

    Args:
        data: the document, raw, untrusted.
        rim_id: its identifier at NVIDIA's RIM service, e.g. NV_GPU_DRIVER_GH100_550.144.03. The
            document does not name it; it must fit the version and the product that it names.
        anchors: the pinned root of reference values.
        now: the moment of the ingest, aware. The signer's certificate must be valid then; later
            its end no longer matters, since the collateral is signed anew.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, RIM_MALFORMED or RIM_EMPTY.
        AttestationError: ROOT_UNTRUSTED, CHAIN_INVALID, CERT_EXPIRED, CERT_NOT_YET_VALID or
            SIGNATURE_INVALID.
    """
    document = verify_document(data, anchors=anchors, now=now)
    meta = _one(document.root, "Meta")
    version = rim_name(meta.get("colloquialVersion", ""))
    product = rim_name(meta.get("product", ""))
    kind = _kind(rim_id, product, version)
    signer = document.signer
    return Rim(
        id=rim_name(rim_id),
        kind=kind,
        hardware=anchors.hardware,
        product=product,
        version=version,
        measurements=_measurements(_one(document.root, "Payload")),
        source=Digest.of(data),
        signer=RimSigner(
            subject=signer.common_name,
            key=KeyFingerprint.of(signer.spki),
            root=KeyFingerprint.of(document.anchor.spki),
            not_before=signer.not_before,
            not_after=signer.not_after,
        ),
        ingested_at=now.replace(microsecond=0),
    )


def _kind(rim_id: str, product: str, version: str) -> RimKind:
    """What the identifier says, where the document can contradict it."""
    for prefix, kind in _PREFIXES.items():
        if rim_id.startswith(prefix):
            end = version if kind is RimKind.GPU_DRIVER else version.replace(".", "").upper()
            exact = kind is not RimKind.GPU_DRIVER or rim_id == f"{prefix}{product}_{end}"
            if not exact or not rim_id.endswith(f"_{end}"):
                raise malformed(f"{rim_id[:80]!r} is not about {product} {version}")
            return kind
    raise malformed(f"{rim_id[:80]!r} is no identifier; they begin with {', '.join(_PREFIXES)}")


def _measurements(payload: etree._Element) -> tuple[tuple[int, tuple[bytes, ...]], ...]:
    resources = list(payload)
    if len(resources) > _RESOURCES_MAX:
        raise malformed(f"{len(resources)} measurements")
    read = [_resource(each) for each in resources]
    if len({each.index for each in read}) != len(read):
        raise malformed("a measurement occurs twice")
    active = sorted((each for each in read if each.active), key=lambda each: each.index)
    if not active:
        raise ParseError(NvidiaCode.RIM_EMPTY, "RIM: no measurement is active")
    return check_measurements(
        {each.index: each.values for each in active}, [each.index for each in active]
    )


def _resource(element: etree._Element) -> _Resource:
    """One Resource: its index, whether it is active, and its alternatives Hash0, Hash1, ..."""
    if element.tag != f"{SWID}Resource" or element.get("type") != "Measurement":
        raise malformed("the payload holds something else than measurements")
    if element.get("size") != str(VALUE_SIZE) or element.get("active") not in _ACTIVE:
        raise malformed("a measurement has another size or activity")
    index = _number(element.get("index"), INDEX_MAX)
    count = _number(element.get("alternatives"), ALTERNATIVES_MAX)
    hashes = {name for name in element.attrib if str(name).startswith(_HASH)}
    if not count or hashes != {f"{_HASH}{n}" for n in range(count)}:
        raise malformed(f"measurement {index} has not the alternatives that it says")
    values = (
        unhex(element.get(f"{_HASH}{n}", ""), what=f"RIM measurement {index}", size=VALUE_SIZE)
        for n in range(count)
    )
    return _Resource(index, _ACTIVE[element.get("active", "")], _distinct(values))


def _distinct(values: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(values))


def _number(text: str | None, maximum: int) -> int:
    try:
        return decimal(text or "", what="a measurement", maximum=maximum)
    except ParseError as exc:
        raise malformed(exc.what) from exc


def _one(root: etree._Element, name: str) -> etree._Element:
    found = root.findall(f"{SWID}{name}")
    if len(found) != 1:
        raise malformed(f"{len(found)} elements {name}, want one")
    return found[0]
