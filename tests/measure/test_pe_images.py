"""PE images: what Authenticode hashes, and every way in which an image is refused."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.measure.images.pe import parse_pe
from regalia.measure.pcr import Bank
from regalia.measure.uki import authenticode
from regalia_testing.tees.boot.pe_images import FILE_ALIGNMENT, Section, pe_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.measure.images.pe import PeImage

SECTIONS = (
    Section(name=".text", data=b"code" * 300),
    Section(name=".data", data=b"d" * 700),
    Section(name=".bss", data=b"", virtual_size=0x5000),
)
OPTIONAL = 0x80 + 24  # where pe_image puts the optional header
DIRECTORY = OPTIONAL + 112 + 4 * 8
CHECKSUM = OPTIONAL + 64
SECTION_TABLE = OPTIONAL + 240


def expected(data: bytes, *, certificates: int = 0) -> str:
    """Without sections: the file minus three ranges, as long as sections fill it without gaps."""
    kept = data[:CHECKSUM] + data[CHECKSUM + 4 : DIRECTORY] + data[DIRECTORY + 8 :]
    return hashlib.sha256(kept[: len(kept) - certificates]).hexdigest()


def digest(data: bytes) -> str:
    return authenticode(parse_pe(data), Bank.SHA256).hex()


def test_the_hash_covers_headers_sections_and_trailing_bytes() -> None:
    for trailing in (b"", b"x", b"x" * 1000):
        data = pe_image(SECTIONS, trailing=trailing)
        assert digest(data) == expected(data)


def test_signing_does_not_change_the_hash() -> None:
    signed = pe_image(SECTIONS, certificates=b"\x10\0\0\0\0\x02\x02\0signed!!")
    assert parse_pe(signed).certificates_size == 16
    assert digest(signed) == digest(pe_image(SECTIONS))
    assert digest(signed) == expected(signed, certificates=16)


def test_an_image_without_a_certificate_directory() -> None:
    data = pe_image(SECTIONS, directories=4)
    kept = data[:CHECKSUM] + data[CHECKSUM + 4 :]
    assert digest(data) == hashlib.sha256(kept).hexdigest()


def test_a_32_bit_image_has_its_directories_elsewhere() -> None:
    data = pe_image(SECTIONS, magic=0x10B, certificates=b"signature")
    directory = OPTIONAL + 96 + 4 * 8
    kept = data[:CHECKSUM] + data[CHECKSUM + 4 : directory] + data[directory + 8 : -9]
    assert digest(data) == hashlib.sha256(kept).hexdigest()


def test_the_order_of_the_table_does_not_matter_to_the_sections() -> None:
    first, second, bss = SECTIONS
    plain = pe_image((first, second, bss))
    moved = bytearray(plain)
    moved[SECTION_TABLE : SECTION_TABLE + 40] = plain[SECTION_TABLE + 40 : SECTION_TABLE + 80]
    moved[SECTION_TABLE + 40 : SECTION_TABLE + 80] = plain[SECTION_TABLE : SECTION_TABLE + 40]
    assert digest(bytes(moved)) == expected(bytes(moved))


def test_every_byte_but_the_checksum_is_measured_or_refused() -> None:
    data = pe_image(SECTIONS, trailing=b"tail", certificates=b"certificate")
    before = digest(data)
    unmeasured = set(range(CHECKSUM, CHECKSUM + 4))
    unmeasured |= set(range(len(data) - len(b"certificate"), len(data)))
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x01
        try:
            same = digest(bytes(changed)) == before
        except ParseError:
            continue
        assert same == (position in unmeasured), hex(position)


def test_a_section_is_as_long_as_it_is_in_memory() -> None:
    image = parse_pe(pe_image(SECTIONS))
    text = image.sections[0]
    assert (text.name, text.raw_size) == (".text", 1536)
    assert bytes(image.section_bytes(text)) == b"code" * 300
    with pytest.raises(ParseError, match=r"MALFORMED.*in memory"):
        image.section_bytes(image.sections[2])


def patched(layout: str, offset: int, *values: int) -> Callable[[], bytes]:
    def build() -> bytes:
        data = bytearray(pe_image(SECTIONS))
        struct.pack_into(layout, data, offset, *values)
        return bytes(data)

    return build


def lying(**change: int) -> Callable[[], bytes]:
    return lambda: pe_image((Section(name=".text", data=b"code", **change), *SECTIONS[1:]))


HEADERS = 1024  # what pe_image rounds them up to
DEFECTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "MALFORMED"),
    "no DOS magic": (patched("<H", 0, 0x4142), "MALFORMED"),
    "only a DOS magic": (lambda: b"MZ", "MALFORMED"),
    "ends in the DOS header": (lambda: pe_image(SECTIONS)[:0x3E], "MALFORMED"),
    "PE header far away": (patched("<I", 0x3C, 0xFFFFFFF0), "MALFORMED"),
    "no PE signature": (patched("<I", 0x80, 0), "MALFORMED"),
    "no sections": (patched("<H", 0x86, 0), "MALFORMED"),
    "too many sections": (patched("<H", 0x86, 97), "MALFORMED"),
    "more sections than headers": (patched("<H", 0x86, 60), "MALFORMED"),
    "unknown optional magic": (patched("<H", OPTIONAL, 0x107), "MALFORMED"),
    "too many directories": (patched("<I", OPTIONAL + 108, 17), "MALFORMED"),
    "very many directories": (patched("<I", OPTIONAL + 108, 0xFFFFFFFF), "MALFORMED"),
    "headers too small": (patched("<I", OPTIONAL + 60, 300), "MALFORMED"),
    "headers larger than the file": (patched("<I", OPTIONAL + 60, 1 << 30), "MALFORMED"),
    "certificates before the end": (patched("<II", DIRECTORY, HEADERS, 8), "MALFORMED"),
    "certificates behind the end": (patched("<II", DIRECTORY, 1 << 31, 1 << 31), "MALFORMED"),
    "empty certificates somewhere": (patched("<II", DIRECTORY, 8, 0), "MALFORMED"),
    "section in the headers": (lying(raw_offset=0), "MALFORMED"),
    "sections overlap": (lying(raw_size=2 * FILE_ALIGNMENT), "MALFORMED"),
    "gap between sections": (lying(raw_size=0), "MALFORMED"),
    "section behind the end": (
        lambda: pe_image((Section(name=".text", data=b"code", raw_size=1 << 20),)),
        "MALFORMED",
    ),
    "section name not ASCII": (
        lambda: pe_image((Section(name=".téxt", data=b"code"),)),
        "MALFORMED",
    ),
    "section name with a hole": (
        lambda: pe_image((Section(name=".t\0x", data=b"code"),)),
        "MALFORMED",
    ),
    "ends in a section": (lambda: pe_image(SECTIONS)[:-1], "MALFORMED"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_refused(name: str) -> None:
    build, code = DEFECTS[name]
    with pytest.raises(ParseError) as refusal:
        parse_pe(build())
    assert refusal.value.code.name == code


def test_a_file_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.measure.images.pe.LIMIT", 2000)
    with pytest.raises(ParseError, match="TOO_LARGE"):
        parse_pe(pe_image(SECTIONS))


def use(image: PeImage) -> None:
    assert len(authenticode(image, Bank.SHA384)) == 48
    for section in image.sections:
        assert image.section_bytes(section) in image.data


@given(st.binary(max_size=2000))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_pe(b"MZ" + data)


@given(
    st.lists(
        st.tuples(st.integers(0, SECTION_TABLE + 120), st.binary(min_size=1, max_size=8)),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 4096),
)
def test_damaged_headers_give_a_refusal_or_an_image(
    changes: list[tuple[int, bytes]], keep: int
) -> None:
    data = bytearray(pe_image(SECTIONS, certificates=b"certificate"))
    for offset, value in changes:
        data[offset : offset + len(value)] = value
    for candidate in (bytes(data), bytes(data[:keep])):
        with contextlib.suppress(ParseError):
            use(parse_pe(candidate))
