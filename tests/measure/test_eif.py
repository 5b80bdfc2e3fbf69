"""Enclave images of AWS Nitro: registers, and every way in which an image is refused."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.tees.nitro.eif import parse_eif
from regalia.tees.nitro.eif_signature import parse_eif_signature
from regalia.tees.nitro.measure import measure_eif
from regalia_testing.tees.nitro.eif_images import (
    CMDLINE,
    KERNEL,
    METADATA,
    RAMDISK,
    SIGNATURE,
    Image,
    cbor_head,
    eif_image,
    signature_section,
    usual_sections,
)

SECTIONS = usual_sections(kernel=b"kernel", cmdline=b"quiet", ramdisks=(b"init", b"app", b"data"))
PLAIN = Image(sections=SECTIONS)


def register(*contents: bytes) -> bytes:
    """The recipe, written out."""
    return hashlib.sha384(bytes(48) + hashlib.sha384(b"".join(contents)).digest()).digest()


def pcrs(data: bytes) -> dict[int, bytes]:
    return measure_eif(parse_eif(data)).pcrs


@pytest.fixture(scope="module")
def certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")])
    now = datetime(2026, 11, 22, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA384())
    )


def test_registers_written_out() -> None:
    assert pcrs(eif_image(PLAIN)) == {
        0: register(b"kernel", b"quiet", b"init", b"app", b"data"),
        1: register(b"kernel", b"quiet", b"init"),
        2: register(b"app", b"data"),
    }


def test_an_image_with_one_ramdisk_has_an_empty_application() -> None:
    sections = usual_sections(kernel=b"k", cmdline=b"c", ramdisks=(b"r",))
    values = pcrs(eif_image(Image(sections=sections)))
    assert values[0] == values[1] == register(b"k", b"c", b"r")
    # Published in many build logs: the register of no bytes at all.
    assert (
        values[2]
        .hex()
        .startswith("21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c")
    )


@pytest.mark.parametrize("as_integers", [True, False])
def test_pcr_8_is_of_the_certificate(certificate: x509.Certificate, *, as_integers: bool) -> None:
    pem = certificate.public_bytes(Encoding.PEM)
    signature = signature_section(pem, b"\x84" * 300, as_integers=as_integers)
    signed = eif_image(Image(sections=(*SECTIONS, (SIGNATURE, signature))))
    values = pcrs(signed)
    assert values.pop(8) == register(certificate.public_bytes(Encoding.DER))
    assert values == pcrs(eif_image(PLAIN))


def test_the_table_may_list_ramdisks_last_and_the_file_metadata_anywhere() -> None:
    wanted = pcrs(eif_image(PLAIN))
    assert pcrs(eif_image(replace(PLAIN, table_order=(0, 1, 3, 4, 5, 2)))) == wanted
    last = (*(s for s in SECTIONS if s[0] != METADATA), SECTIONS[2])
    assert pcrs(eif_image(Image(sections=last))) == wanted


@pytest.mark.parametrize(
    ("order", "bootstrap"),
    [
        ((1, 0, 3, 4), (b"quiet", b"kernel", b"init")),
        ((3, 0, 4, 1), (b"init", b"kernel", b"quiet")),
        ((0, 3, 4, 1), (b"kernel", b"init", b"quiet")),
    ],
)
def test_sections_count_in_the_order_of_the_file(
    order: tuple[int, ...], bootstrap: tuple[bytes, ...]
) -> None:
    """Tools other than nitro-cli write the command line first, or last."""
    sections = tuple(SECTIONS[index] for index in order)
    values = pcrs(eif_image(Image(sections=sections)))
    assert values == {
        0: register(*(contents for _, contents in sections)),
        1: register(*bootstrap),
        2: register(b"app"),
    }


def test_version_3_and_arm() -> None:
    sections = tuple(s for s in SECTIONS if s[0] != METADATA)
    image = parse_eif(eif_image(Image(sections=sections, version=3, flags=1)))
    assert (image.version, image.arm64, image.metadata) == (3, True, None)
    assert measure_eif(image).pcrs == pcrs(eif_image(PLAIN))


def test_moving_bytes_between_sections_shows_where_it_matters() -> None:
    """Contents are hashed without their lengths, so PCR 0 alone does not tell these apart."""
    moved = usual_sections(kernel=b"kernel", cmdline=b"quiet", ramdisks=(b"inita", b"pp", b"data"))
    before, after = pcrs(eif_image(PLAIN)), pcrs(eif_image(Image(sections=moved)))
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert before[2] != after[2]


def without(kind: int) -> tuple[tuple[int, bytes], ...]:
    return tuple(section for section in SECTIONS if section[0] != kind)


DEFECTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "MALFORMED"),
    "only a magic": (b".eif", "MALFORMED"),
    "other magic": (eif_image(replace(PLAIN, magic=b".EIF")), "MALFORMED"),
    "ends in the header": (eif_image(PLAIN)[:547], "MALFORMED"),
    "header alone": (eif_image(PLAIN)[:548], "MALFORMED"),
    "version 2": (eif_image(replace(PLAIN, version=2)), "UNSUPPORTED_VERSION"),
    "version 5": (eif_image(replace(PLAIN, version=5)), "UNSUPPORTED_VERSION"),
    "unknown flag": (eif_image(replace(PLAIN, flags=2)), "RESERVED_BIT_SET"),
    "reserved field": (eif_image(replace(PLAIN, reserved=1)), "RESERVED_BIT_SET"),
    "section flag": (eif_image(replace(PLAIN, section_flags=1)), "RESERVED_BIT_SET"),
    "no sections": (eif_image(Image(sections=())), "MALFORMED"),
    "one section hidden": (eif_image(replace(PLAIN, count_change=-1)), "MALFORMED"),
    "one section too many": (eif_image(replace(PLAIN, count_change=1)), "MALFORMED"),
    "33 sections": (eif_image(replace(PLAIN, count_change=27)), "MALFORMED"),
    "table entry behind the last": (
        eif_image(replace(PLAIN, table_changes={31: (1, 0)})),
        "MALFORMED",
    ),
    "wrong offset": (eif_image(replace(PLAIN, table_changes={1: (1, 0)})), "MALFORMED"),
    "wrong size": (eif_image(replace(PLAIN, table_changes={1: (0, 1)})), "MALFORMED"),
    "enormous size": (eif_image(replace(PLAIN, table_changes={5: (0, 1 << 40)})), "MALFORMED"),
    "offset far away": (eif_image(replace(PLAIN, table_changes={5: (1 << 62, 0)})), "MALFORMED"),
    "a section listed twice": (
        eif_image(replace(PLAIN, table_order=(0, 1, 2, 3, 4, 4))),
        "MALFORMED",
    ),
    "bytes behind the sections": (eif_image(replace(PLAIN, trailing=b"x")), "TRAILING_DATA"),
    "ends in a section": (eif_image(PLAIN)[:-1], "MALFORMED"),
    "wrong checksum": (eif_image(replace(PLAIN, checksum_change=1)), "MALFORMED"),
    "unknown section": (eif_image(Image(sections=(*SECTIONS, (6, b"x")))), "MALFORMED"),
    "invalid section": (eif_image(Image(sections=(*SECTIONS, (0, b"x")))), "MALFORMED"),
    "no kernel": (eif_image(Image(sections=without(KERNEL))), "MALFORMED"),
    "no command line": (eif_image(Image(sections=without(CMDLINE))), "MALFORMED"),
    "no ramdisk": (eif_image(Image(sections=without(RAMDISK))), "MALFORMED"),
    "two kernels": (eif_image(Image(sections=((KERNEL, b"k"), *SECTIONS))), "MALFORMED"),
    "two command lines": (
        eif_image(Image(sections=(*SECTIONS[:2], (CMDLINE, b"c"), *SECTIONS[2:]))),
        "MALFORMED",
    ),
    "two signatures": (
        eif_image(Image(sections=(*SECTIONS, (SIGNATURE, b"s"), (SIGNATURE, b"s")))),
        "MALFORMED",
    ),
    "two metadata": (eif_image(Image(sections=(*SECTIONS, (METADATA, b"{}")))), "MALFORMED"),
    "metadata in version 3": (eif_image(replace(PLAIN, version=3)), "MALFORMED"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_refused(name: str) -> None:
    data, code = DEFECTS[name]
    with pytest.raises(ParseError) as refusal:
        parse_eif(data)
    assert refusal.value.code.name == code


def test_every_flipped_byte_is_refused() -> None:
    """The checksum sees to it; it protects from accidents only."""
    data = eif_image(PLAIN)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x20
        with pytest.raises(ParseError):
            parse_eif(bytes(changed))


def test_a_file_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.tees.nitro.eif.LIMIT", 600)
    with pytest.raises(ParseError, match="TOO_LARGE"):
        parse_eif(eif_image(PLAIN))


@given(st.binary(max_size=1200))
def test_noise_is_refused(data: bytes) -> None:
    for start in (b"", b".eif", eif_image(PLAIN)[:24]):
        with pytest.raises(ParseError):
            parse_eif(start + data)


@given(
    st.lists(
        st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4
    ),
    st.integers(548, 800),
)
def test_damage_with_a_right_checksum_gives_a_refusal_or_an_image(
    changes: list[tuple[int, bytes]], keep: int
) -> None:
    data = bytearray(eif_image(PLAIN))
    for offset, value in changes:
        data[offset : offset + len(value)] = value
    del data[keep:]
    checksum = zlib.crc32(data[548:], zlib.crc32(data[:544]))
    data[544:548] = checksum.to_bytes(4, "big")
    try:
        found = pcrs(bytes(data))
    except ParseError:
        return
    assert {len(value) for value in found.values()} == {48}


GOOD = signature_section(b"pem", b"cose")
KEY = cbor_head(3, 19) + b"signing_certificate"
OTHER_KEY = cbor_head(3, 9) + b"signature"
BYTES = cbor_head(2, 1) + b"x"
SIGNATURE_DEFECTS = {
    "empty": (b"", "MALFORMED"),
    "no signature": (cbor_head(4, 0), "MALFORMED"),
    "17 signatures": (cbor_head(4, 17) + GOOD[1:] * 17, "MALFORMED"),
    "not an array": (GOOD[1:], "MALFORMED"),
    "indefinite array": (b"\x9f" + GOOD[1:] + b"\xff", "MALFORMED"),
    "length of 8 bytes": (b"\x9b" + bytes(7) + b"\x01" + GOOD[1:], "MALFORMED"),
    "length not shortest": (b"\x98\x01" + GOOD[1:], "MALFORMED"),
    "length of two bytes not shortest": (b"\x99\x00\x01" + GOOD[1:], "MALFORMED"),
    "bytes behind it": (GOOD + b"\0", "TRAILING_DATA"),
    "ends early": (GOOD[:-1], "MALFORMED"),
    "one key only": (b"\x81\xa1" + KEY + BYTES, "MALFORMED"),
    "three keys": (b"\x81\xa3" + KEY + BYTES + OTHER_KEY + BYTES + KEY + BYTES, "MALFORMED"),
    "a key twice": (b"\x81\xa2" + KEY + BYTES + KEY + BYTES, "MALFORMED"),
    "unknown key": (b"\x81\xa2" + KEY + BYTES + b"\x61x" + BYTES, "MALFORMED"),
    "key not ASCII": (b"\x81\xa2\x62\xc3\xa4" + BYTES + KEY + BYTES, "MALFORMED"),
    "text for bytes": (b"\x81\xa2" + KEY + b"\x61x" + OTHER_KEY + BYTES, "MALFORMED"),
    "element over 255": (b"\x81\xa2" + KEY + b"\x81\x19\x01\x00" + OTHER_KEY + BYTES, "MALFORMED"),
    "negative element": (b"\x81\xa2" + KEY + b"\x81\x20" + OTHER_KEY + BYTES, "MALFORMED"),
    "array of 4 billion": (b"\x81\xa2" + KEY + b"\x9a\xff\xff\xff\xff", "MALFORMED"),
    "1 MiB and one": (bytes((1 << 20) + 1), "TOO_LARGE"),
}


@pytest.mark.parametrize("name", SIGNATURE_DEFECTS)
def test_signature_section_refused(name: str) -> None:
    data, code = SIGNATURE_DEFECTS[name]
    with pytest.raises(ParseError) as refusal:
        parse_eif_signature(data)
    assert refusal.value.code.name == code


@given(st.binary(max_size=400), st.binary(max_size=400), st.booleans())
def test_signature_section_round_trip(pem: bytes, cose: bytes, as_integers: bool) -> None:  # noqa: FBT001 - Hypothesis
    (parsed,) = parse_eif_signature(signature_section(pem, cose, as_integers=as_integers))
    assert (parsed.signing_certificate, parsed.signature) == (pem, cose)


@given(st.binary(max_size=200))
def test_noise_is_no_signature_section(data: bytes) -> None:
    for start in (b"", GOOD[:1], GOOD[:22], GOOD[:30]):
        with pytest.raises(ParseError):
            parse_eif_signature(start + data)


@pytest.mark.parametrize(
    "pem", [b"", b"not PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_certificate_that_is_none(pem: bytes) -> None:
    signed = Image(sections=(*SECTIONS, (SIGNATURE, signature_section(pem, b""))))
    with pytest.raises(ParseError, match="MALFORMED"):
        pcrs(eif_image(signed))
