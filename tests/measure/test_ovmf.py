"""OVMF images: what their metadata says, and every way in which an image is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.measure.images.ovmf import SevSectionType, TdxAttribute, TdxSectionType, parse_ovmf
from regalia_testing.tees.snp.ovmf_images import (
    HASH_TABLE_GPA,
    PAGE,
    SEV_SECTIONS,
    Firmware,
    ovmf_image,
    tdvf_sections,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = Firmware().size
TDX = tdvf_sections(SIZE)
BOTH = Firmware(tdx=TDX)


def test_what_an_image_says() -> None:
    image = parse_ovmf(ovmf_image(BOTH))
    assert (image.reset_eip, image.hash_table_gpa) == (0x80B004, HASH_TABLE_GPA)
    assert image.sev_sections is not None
    assert tuple((s.gpa, s.size, s.kind) for s in image.sev_sections) == SEV_SECTIONS
    assert image.tdx_sections is not None
    code = image.tdx_sections[0]
    assert (code.kind, code.attributes) == (TdxSectionType.BFV, TdxAttribute.MR_EXTEND)
    assert tuple(s.kind for s in image.tdx_sections) == (0, 1, 3, 3, 2, 3)


def test_what_an_image_does_not_say() -> None:
    bare = Firmware(reset_eip=None, hash_table_gpa=None, sev=(), extra_entries=(UNKNOWN,))
    image = parse_ovmf(ovmf_image(bare))
    assert (image.reset_eip, image.hash_table_gpa) == (None, None)
    assert (image.sev_sections, image.tdx_sections) == (None, None)
    zero = parse_ovmf(ovmf_image(Firmware(reset_eip=0, hash_table_gpa=0)))
    assert (zero.reset_eip, zero.hash_table_gpa) == (None, None)


UNKNOWN = ("4c2eb361-7d9b-4cc3-8081-127c90d3d294", bytes(8))
SEV_GUID = "dc886566-984a-4798-a75e-5585a7bf67cc"
TDX_GUID = "e47a6535-984a-4798-865e-4685a7bf8ec2"
RESET_GUID = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"


def test_debian_ovmf(debian_ovmf: bytes) -> None:
    """edk2 2022.11 in Debian 12: both metadata, no page for kernel hashes."""
    image = parse_ovmf(debian_ovmf)
    assert image.sev_sections is not None
    assert image.tdx_sections is not None
    assert image.hash_table_gpa is None
    kinds = [s.kind for s in image.sev_sections]
    assert SevSectionType.SNP_KERNEL_HASHES not in kinds
    assert sum(s.data_size for s in image.tdx_sections) == len(debian_ovmf)


def sev(*rows: tuple[int, int, int]) -> Callable[[], bytes]:
    return lambda: ovmf_image(Firmware(sev=rows))


def tdx(index: int, **change: int) -> Callable[[], bytes]:
    """The usual TDX sections with one of them changed."""
    names = ("offset", "data_size", "gpa", "size", "kind", "attributes")

    def build() -> bytes:
        rows = [list(row) for row in TDX]
        for name, value in change.items():
            rows[index][names.index(name)] = value
        return ovmf_image(replace(BOTH, tdx=tuple(tuple(row) for row in rows)))

    return build


def both(**change: object) -> Callable[[], bytes]:
    return lambda: ovmf_image(replace(BOTH, **change))


DEFECTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "MALFORMED"),
    "not whole pages": (lambda: ovmf_image(BOTH)[1:], "MALFORMED"),
    "zeros": (lambda: bytes(PAGE), "MALFORMED"),
    "other footer": (both(footer=RESET_GUID), "MALFORMED"),
    "table longer than the image": (both(table_size_change=0xF000), "MALFORMED"),
    "table of 17 bytes": (both(sev=(), tdx=(), table_size_change=-65), "MALFORMED"),
    "first entry cut off": (both(table_size_change=-1), "MALFORMED"),
    "entry larger than the table": (both(table_size_change=-4), "MALFORMED"),
    "bytes in front of the first entry": (both(table_size_change=5), "MALFORMED"),
    "an entry twice": (both(extra_entries=((RESET_GUID, bytes(4)),)), "MALFORMED"),
    "reset block of 3 bytes": (
        both(reset_eip=None, extra_entries=((RESET_GUID, bytes(3)),)),
        "MALFORMED",
    ),
    "metadata offset of 3 bytes": (
        both(sev=(), extra_entries=((SEV_GUID, bytes(3)),)),
        "MALFORMED",
    ),
    "metadata offset of zero": (
        both(sev=(), extra_entries=((SEV_GUID, bytes(4)),)),
        "MALFORMED",
    ),
    "metadata in front of the image": (
        both(tdx=(), extra_entries=((TDX_GUID, struct.pack("<I", SIZE + 1)),)),
        "MALFORMED",
    ),
    "metadata at the very end": (
        both(tdx=(), extra_entries=((TDX_GUID, struct.pack("<I", 8)),)),
        "MALFORMED",
    ),
    "other SEV signature": (both(sev_head=(b"VESA", 1)), "MALFORMED"),
    "other TDX signature": (both(tdx_head=(b"TDVG", 1)), "MALFORMED"),
    "SEV version 2": (both(sev_head=(b"ASEV", 2)), "UNSUPPORTED_VERSION"),
    "TDX version 0": (both(tdx_head=(b"TDVF", 0)), "UNSUPPORTED_VERSION"),
    "TDX without its GUID": (both(tdx_guid=RESET_GUID), "MALFORMED"),
    "length too large": (both(length_change=1), "MALFORMED"),
    "length too small": (both(length_change=-12), "MALFORMED"),
    "one section hidden": (both(count_change=-1), "MALFORMED"),
    "one section too many": (both(count_change=1), "MALFORMED"),
    "no sections": (both(count_change=-6), "MALFORMED"),
    "65 sections": (both(count_change=59), "MALFORMED"),
    "SEV section of unknown type": (sev((0x800000, PAGE, 5)), "MALFORMED"),
    "SEV section of type 0": (sev((0x800000, PAGE, 0)), "MALFORMED"),
    "empty SEV section": (sev((0x800000, 0, 1)), "MALFORMED"),
    "two pages of secrets": (sev((0x800000, 2 * PAGE, 2)), "MALFORMED"),
    "two pages of CPUID": (sev((0x800000, 2 * PAGE, 3)), "MALFORMED"),
    "two pages of hashes": (sev((0x800000, 2 * PAGE, 0x10)), "MALFORMED"),
    "part of a page": (sev((0x800000, 100, 1)), "MALFORMED"),
    "address inside a page": (sev((0x800010, PAGE, 1)), "MALFORMED"),
    "SEV sections overlap": (sev((0x800000, 2 * PAGE, 1), (0x801000, PAGE, 2)), "MALFORMED"),
    "SEV section over the firmware": (sev(((1 << 32) - PAGE, PAGE, 1)), "MALFORMED"),
    "TDX section of unknown type": (tdx(2, kind=8), "MALFORMED"),
    "TDX section with a reserved bit": (tdx(0, attributes=5), "RESERVED_BIT_SET"),
    "TDX data behind the file": (tdx(0, offset=2 * PAGE), "MALFORMED"),
    "TDX data for less memory": (tdx(0, size=PAGE), "MALFORMED"),
    "empty code volume": (tdx(0, data_size=0), "MALFORMED"),
    "empty variables": (tdx(1, data_size=0), "MALFORMED"),
    "contents added after launch": (tdx(0, attributes=2), "MALFORMED"),
    "measured, added after launch": (tdx(2, attributes=3), "MALFORMED"),
    "TDX part of a page": (tdx(2, size=100), "MALFORMED"),
    "TDX address inside a page": (tdx(2, gpa=0x810001), "MALFORMED"),
    "TDX sections overlap": (tdx(2, gpa=0x80B000), "MALFORMED"),
    "TDX section beyond all memory": (tdx(2, gpa=1 << 52), "MALFORMED"),
    "TDX size that overflows": (tdx(2, size=(1 << 64) - PAGE), "MALFORMED"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_refused(name: str) -> None:
    build, code = DEFECTS[name]
    with pytest.raises(ParseError) as refusal:
        parse_ovmf(build())
    assert refusal.value.code.name == code


def test_the_split_code_file_is_told_apart_from_a_broken_one(debian_ovmf: bytes) -> None:
    with pytest.raises(ParseError, match="give the whole image"):
        parse_ovmf(debian_ovmf[0x20000:])


def test_a_file_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.measure.images.ovmf.LIMIT", PAGE)
    with pytest.raises(ParseError, match="TOO_LARGE"):
        parse_ovmf(ovmf_image(BOTH))


@given(st.binary(max_size=PAGE))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_ovmf(data.rjust(PAGE, b"\0"))


@given(
    st.lists(
        st.tuples(st.integers(0x20, 0x950), st.binary(min_size=1, max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_damaged_metadata_gives_a_refusal_or_an_image(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(ovmf_image(BOTH))
    for from_end, value in changes:
        start = len(data) - from_end
        data[start : start + len(value)] = value
    try:
        found = parse_ovmf(bytes(data))
    except ParseError:
        return
    assert found.data == data
