"""Reference values are taken from what the pinned root signed, and from nothing beside it."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("lxml", reason="the extra `ingest` is not installed")
pytest.importorskip("signxml", reason="the extra `ingest` is not installed")

from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from signxml.algorithms import DigestAlgorithm

from regalia.appraisal.claims import Hardware
from regalia.core.errors import AttestationError, ParseError
from regalia.core.types import Digest
from regalia.tees.nvidia.evidence import RimAnchors
from regalia.tees.nvidia.evidence.rim_xml import ingest_rim
from regalia.tees.nvidia.evidence.rim_xml.document import DOCUMENT_MAX
from regalia.tees.nvidia.evidence.rims import RimKind, parse_rim
from regalia_testing.tees.nvidia.rim_xml import SHA384, SWID, RimAuthority, swid
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.tees.nvidia.evidence.rims import Rim
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed

A, B, ZERO = "aa" * 48, "bb" * 48, "00" * 48
VALUES = {0: [ZERO], 1: [A, B], 5: [B], 7: [A]}
RIM_ID = "NV_GPU_DRIVER_GH100_590.12"


@pytest.fixture(scope="module")
def authority(device_testbed: NvidiaTestbed) -> RimAuthority:
    return RimAuthority.make(device_testbed.now)


def ingest(
    authority: RimAuthority, data: bytes, rim_id: str = RIM_ID, now: datetime | None = None
) -> Rim:
    return ingest_rim(data, rim_id=rim_id, anchors=authority.anchors(), now=now or authority.now)


def test_what_is_signed_is_what_is_kept(authority: RimAuthority) -> None:
    data = authority.sign(swid(VALUES, inactive=[5]))
    rim = ingest(authority, data)
    assert rim.measurements == (
        (0, (bytes(48),)),
        (1, (b"\xaa" * 48, b"\xbb" * 48)),
        (7, (b"\xaa" * 48,)),
    )
    assert (rim.id, rim.kind, rim.hardware) == (RIM_ID, RimKind.GPU_DRIVER, Hardware.SIMULATED)
    assert (rim.product, rim.version) == ("GH100", "590.12")
    assert rim.source == Digest.of(data)
    assert rim.signer.subject == "Simulated RIM signer"
    assert rim.signer.not_after == authority.signer.not_after
    assert parse_rim(rim.encode()) == rim
    refused("ROOT_UNTRUSTED", ingest_rim, data=data, rim_id=RIM_ID, anchors=RimAnchors.production(),
            now=authority.now)  # fmt: skip


def test_twins_of_a_value_are_one(authority: RimAuthority) -> None:
    assert ingest(authority, authority.sign(swid({1: [A, A, B]}))).measurements == (
        (1, (b"\xaa" * 48, b"\xbb" * 48)),
    )


@pytest.mark.parametrize(
    ("rim_id", "product", "version", "kind"),
    [
        ("NV_GPU_CC_DRIVER_GB100_575.32", "GB100", "575.32", RimKind.GPU_DRIVER),
        (
            "NV_GPU_VBIOS_G520_0200_885_9600A50001",
            "GH100",
            "96.00.A5.00.01",
            RimKind.GPU_VBIOS,
        ),
        (
            "NV_SWITCH_BIOS_5612_0002_890_9610550001",
            "LS10",
            "96.10.55.00.01",
            RimKind.SWITCH_BIOS,
        ),
    ],
)
def test_identifiers(
    authority: RimAuthority, rim_id: str, product: str, version: str, kind: RimKind
) -> None:
    data = authority.sign(swid(VALUES, product=product, version=version))
    assert ingest(authority, data, rim_id).kind is kind
    for wrong in (rim_id + "0", rim_id[:-1], "NV_NIC_FIRMWARE_CX7", "", RIM_ID):
        refused("RIM_MALFORMED", ingest, authority=authority, data=data, rim_id=wrong)


def test_a_driver_is_for_its_own_product(authority: RimAuthority) -> None:
    data = authority.sign(swid(VALUES, product="GB100"))
    refused("RIM_MALFORMED", ingest, authority=authority, data=data)


@pytest.mark.parametrize("values", [{}, {1: [A], 2: [B]}])
def test_empty_sets_are_refused(authority: RimAuthority, values: dict[int, list[str]]) -> None:
    data = authority.sign(swid(values, inactive=list(values)))
    refused("RIM_EMPTY", ingest, authority=authority, data=data)


def _set(position: int, /, **attributes: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        for name, value in attributes.items():
            root.find(f"{{{SWID}}}Payload")[position].set(
                name.replace("HASH", f"{{{SHA384}}}"), value
            )

    return change


def _drop(index: int, name: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        del root.find(f"{{{SWID}}}Payload")[index].attrib[name.replace("HASH", f"{{{SHA384}}}")]

    return change


def _twice(name: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        root.append(copy.deepcopy(root.find(f"{{{SWID}}}{name}")))

    return change


def _meta(**attributes: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        root.find(f"{{{SWID}}}Meta").attrib.update(attributes)

    return change


def _remove(name: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        root.remove(root.find(f"{{{SWID}}}{name}"))

    return change


# Each is signed by the right key: NVIDIA's own mistakes must not be read in two ways either.
CONTENT: dict[str, tuple[str, Callable[[etree._Element], None]]] = {
    "index_twice": ("RIM_MALFORMED", _set(1, index="0")),
    "index_negative": ("RIM_MALFORMED", _set(1, index="-1")),
    "index_padded": ("RIM_MALFORMED", _set(1, index="01")),
    "index_huge": ("RIM_MALFORMED", _set(1, index="254")),
    "index_of_many_digits": ("RIM_MALFORMED", _set(1, index="9" * 5000)),
    "index_missing": ("RIM_MALFORMED", _drop(1, "index")),
    "active_other_case": ("RIM_MALFORMED", _set(1, active="true")),
    "active_missing": ("RIM_MALFORMED", _drop(1, "active")),
    "alternatives_less": ("RIM_MALFORMED", _set(1, alternatives="1")),
    "alternatives_more": ("RIM_MALFORMED", _set(1, alternatives="3")),
    "alternatives_none": ("RIM_MALFORMED", _set(1, alternatives="0")),
    "hash_missing": ("RIM_MALFORMED", _drop(1, "HASHHash0")),
    "hash_renamed": ("RIM_MALFORMED", _set(1, HASHHash2=A)),
    "hash_short": ("MALFORMED", _set(1, HASHHash0=A[:-2])),
    "hash_upper_case": ("MALFORMED", _set(1, HASHHash0=A.upper())),
    "hash_no_hex": ("MALFORMED", _set(1, HASHHash0="zz" * 48)),
    "size": ("RIM_MALFORMED", _set(1, size="32")),
    "type": ("RIM_MALFORMED", _set(1, type="File")),
    "two_payloads": ("RIM_MALFORMED", _twice("Payload")),
    "two_metas": ("RIM_MALFORMED", _twice("Meta")),
    "no_payload": ("RIM_MALFORMED", _remove("Payload")),
    "no_meta": ("RIM_MALFORMED", _remove("Meta")),
    "version_blank": ("MALFORMED", _meta(colloquialVersion="")),
    "version_strange": ("MALFORMED", _meta(colloquialVersion="590.12\n")),
    "product_blank": ("MALFORMED", _meta(product="")),
}


@pytest.mark.parametrize("name", CONTENT)
def test_content_that_could_be_read_in_two_ways(authority: RimAuthority, name: str) -> None:
    code, change = CONTENT[name]
    root = swid(VALUES)
    change(root)
    refused(code, ingest, authority=authority, data=authority.sign(root))


def test_too_many_measurements_and_alternatives(authority: RimAuthority) -> None:
    many = authority.sign(swid({0: [f"{n:096x}" for n in range(65)]}))
    refused("RIM_MALFORMED", ingest, authority=authority, data=many)
    refused("TOO_LARGE", ingest, authority=authority, data=b"<" + b" " * DOCUMENT_MAX)


# Signature and chain.


def test_somebody_elses_signature(authority: RimAuthority) -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    data = authority.sign(swid(VALUES), key=other)
    refused("SIGNATURE_INVALID", ingest, authority=authority, data=data)


def test_a_weaker_digest(authority: RimAuthority) -> None:
    data = authority.sign(swid(VALUES), digest=DigestAlgorithm.SHA256)
    refused("RIM_MALFORMED", ingest, authority=authority, data=data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (A.encode(), B.encode()),
        (b'version="590.12"', b'version="590.13"'),
        (b'active="True"', b'active="False"'),
        (b'alternatives="2"', b'alternatives="1"'),
        (b'index="7"', b'index="8"'),
    ],
)
def test_changed_after_signing(authority: RimAuthority, old: bytes, new: bytes) -> None:
    data = authority.sign(swid(VALUES))
    changed = data.replace(old, new, 1)
    if changed == data:
        changed = data.replace(b'colloquialVersion="590.12"', b'colloquialVersion="590.13"')
    assert changed != data
    refused("SIGNATURE_INVALID", ingest, authority=authority, data=changed)


@pytest.mark.parametrize(
    ("part", "changes", "code"),
    [
        ("signer", {"not_after": timedelta(seconds=-1)}, "CERT_EXPIRED"),
        ("ca", {"not_after": timedelta(seconds=-1)}, "CERT_EXPIRED"),
        ("root", {"not_after": timedelta(seconds=-1)}, "CERT_EXPIRED"),
        ("signer", {"not_before": timedelta(seconds=1)}, "CERT_NOT_YET_VALID"),
        ("ca", {"ca": False}, "CHAIN_INVALID"),
        ("signer", {"ca": True}, "CHAIN_INVALID"),
        ("signer", {"usage": ("key_agreement",)}, "CHAIN_INVALID"),
        ("signer", {"issuer": "Somebody else"}, "CHAIN_INVALID"),
        ("ca", {"path_length": 0}, ""),
        ("root", {"path_length": 0}, "CHAIN_INVALID"),
    ],
)
def test_chain(authority: RimAuthority, part: str, changes: dict[str, Any], code: str) -> None:
    fields = {
        name: authority.now + value if isinstance(value, timedelta) else value
        for name, value in changes.items()
    }
    altered = replace(authority, **{part: replace(getattr(authority, part), **fields)})
    data = altered.sign(swid(VALUES))
    if code:
        refused(code, ingest, authority=altered, data=data)
    else:
        ingest(altered, data)


def test_another_root(authority: RimAuthority) -> None:
    other = RimAuthority.make(authority.now)
    refused("ROOT_UNTRUSTED", ingest, authority=authority, data=other.sign(swid(VALUES)))
    mixed = replace(authority, root=other.root, keys=(other.keys[0], *authority.keys[1:]))
    refused("ROOT_UNTRUSTED", ingest, authority=authority, data=mixed.sign(swid(VALUES)))


def test_now_needs_a_time_zone(authority: RimAuthority) -> None:
    with pytest.raises(ValueError, match="time zone"):
        ingest(authority, authority.sign(swid(VALUES)), now=authority.now.replace(tzinfo=None))


# Attacks on the form.


def wrapped(data: bytes) -> dict[str, bytes]:
    """Signature wrapping: genuine signed bytes beside a forgery that a careless reader takes."""
    genuine = etree.fromstring(data)
    signature = genuine[-1]
    forged = swid({1: ["ee" * 48]})

    evil_root = copy.deepcopy(forged)
    evil_root.append(copy.deepcopy(genuine))

    outside = copy.deepcopy(forged)
    holder = etree.SubElement(outside, f"{{{SWID}}}Entity")
    inner = copy.deepcopy(genuine)
    holder.append(inner)
    outside.append(copy.deepcopy(signature))

    objected = copy.deepcopy(forged)
    moved = copy.deepcopy(signature)
    etree.SubElement(moved, "{http://www.w3.org/2000/09/xmldsig#}Object").append(
        copy.deepcopy(genuine)
    )
    objected.append(moved)

    twice = copy.deepcopy(genuine)
    twice.append(copy.deepcopy(signature))

    first = copy.deepcopy(genuine)
    first.insert(0, first[-1])

    nested = copy.deepcopy(genuine)
    payload = nested.find(f"{{{SWID}}}Payload")
    payload.append(nested[-1])

    swapped = copy.deepcopy(forged)
    swapped.append(copy.deepcopy(signature))

    unsigned = copy.deepcopy(genuine)
    unsigned.remove(unsigned[-1])
    documents = {
        "evil_root": evil_root,
        "outside": outside,
        "objected": objected,
        "twice": twice,
        "first": first,
        "nested": nested,
        "swapped": swapped,
        "unsigned": unsigned,
    }
    return {name: etree.tostring(document) for name, document in documents.items()}


@pytest.mark.parametrize(
    "name",
    ["evil_root", "outside", "objected", "twice", "first", "nested", "swapped", "unsigned"],
)
def test_signature_wrapping(authority: RimAuthority, name: str) -> None:
    data = wrapped(authority.sign(swid(VALUES)))[name]
    with pytest.raises((ParseError, AttestationError)) as caught:
        ingest(authority, data)
    assert caught.value.code.name in {"RIM_MALFORMED", "SIGNATURE_INVALID"}


def test_the_reference_is_to_the_whole_document(authority: RimAuthority) -> None:
    data = authority.sign(swid(VALUES))
    for change in (
        (b'URI=""', b'URI="#x"'),
        (b'URI=""', b'URI="http://127.0.0.1/x"'),
        (b'URI=""', b'URI="file:///etc/passwd"'),
        (b"enveloped-signature", b"base64"),
    ):
        with pytest.raises((ParseError, AttestationError)):
            ingest(authority, data.replace(*change))


@pytest.mark.parametrize(
    "prolog",
    [
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">',
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>',
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;">]>',
        b'<?xml version="1.0" encoding="utf-16"?>',
        b"\xff\xfe",
    ],
)
def test_document_types_entities_and_encodings(authority: RimAuthority, prolog: bytes) -> None:
    data = prolog + authority.sign(swid(VALUES))
    refused("RIM_MALFORMED", ingest, authority=authority, data=data)
    utf16 = data.decode("utf-8", "replace").encode("utf-16")
    refused("RIM_MALFORMED", ingest, authority=authority, data=utf16)


@pytest.mark.parametrize("data", [b"", b"<", b"<a/>", b"\x00", b"<SoftwareIdentity/>", b"{}"])
def test_what_is_no_document(authority: RimAuthority, data: bytes) -> None:
    refused("RIM_MALFORMED", ingest, authority=authority, data=data)


def test_every_third_byte_of_a_real_document(vectors: Path) -> None:
    """White space between attributes is not signed; nothing that is kept may change with it."""
    path = vectors / "nvidia/rim/NV_GPU_DRIVER_GH100_550.144.03.xml"
    data = path.read_bytes()
    arguments: dict[str, Any] = {
        "rim_id": path.stem,
        "anchors": RimAnchors.production(),
        "now": datetime(2026, 1, 1, tzinfo=UTC),
    }
    honest = ingest_rim(data, **arguments)
    for at in range(0, len(data), 37):
        altered = bytearray(data)
        altered[at] ^= 1 << at % 8
        try:
            rim = ingest_rim(bytes(altered), **arguments)
        except (ParseError, AttestationError):
            continue
        assert replace(rim, source=honest.source) == honest, f"byte {at}"
