"""MRTD, held to a second implementation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.measure.images.ovmf import parse_ovmf
from regalia.tees.intel.measure import PageOrder, tdx_mrtd
from regalia_testing.tees.snp.ovmf_images import PAGE, Firmware, ovmf_image, tdvf_sections
from tests.measure import independent

SIZE = Firmware().size
BOTH = Firmware(tdx=tdvf_sections(SIZE))
ORDERS = {PageOrder.INTERLEAVED: True, PageOrder.TWO_STEPS: False}


def check(data: bytes, sections: tuple[tuple[int, ...], ...]) -> None:
    image = parse_ovmf(data)
    for order, one_by_one in ORDERS.items():
        wanted = independent.mrtd(data, sections, one_by_one=one_by_one)
        assert tdx_mrtd(image, order).hex() == wanted


def test_the_usual_layout() -> None:
    check(ovmf_image(BOTH), BOTH.tdx)


def test_debian_ovmf(debian_ovmf: bytes) -> None:
    image = parse_ovmf(debian_ovmf)
    assert image.tdx_sections is not None
    rows = tuple(
        (s.data_offset, s.data_size, s.gpa, s.size, int(s.kind), int(s.attributes))
        for s in image.tdx_sections
    )
    check(debian_ovmf, rows)


def test_measured_memory_behind_the_data_is_zeros() -> None:
    """Data may end inside a chunk of 256 bytes; the host fills the rest of the memory."""
    for size in (1, 255, 256, 257, PAGE - 1, PAGE + 100):
        rows = (*BOTH.tdx, (0, size, 0x900000, 3 * PAGE, 5, 1))
        check(ovmf_image(replace(BOTH, tdx=rows)), rows)


def test_pages_added_after_launch_do_not_count() -> None:
    rows = (*BOTH.tdx, (0, 0, 1 << 33, 1 << 40, 4, 2))
    data = ovmf_image(replace(BOTH, tdx=rows))
    check(data, rows)


@given(
    st.lists(
        st.tuples(st.integers(0, PAGE), st.integers(1, 3), st.sampled_from((0, 1))), max_size=5
    )
)
def test_any_layout(parts: list[tuple[int, int, int]]) -> None:
    rows = tuple(
        (0, data_size, 0x1000000 + index * 0x10000, pages * PAGE, 5, attributes)
        for index, (data_size, pages, attributes) in enumerate(parts)
    )
    both = (*BOTH.tdx, *rows)
    check(ovmf_image(replace(BOTH, tdx=both)), both)


def test_the_order_of_sections_and_of_calls_counts() -> None:
    moved = (*BOTH.tdx[1:], BOTH.tdx[0])
    values = {
        tdx_mrtd(parse_ovmf(ovmf_image(replace(BOTH, tdx=rows))), order)
        for rows in (BOTH.tdx, moved)
        for order in PageOrder
    }
    assert len(values) == 4


def test_variables_do_not_count_and_code_does() -> None:
    data = ovmf_image(BOTH)
    before = tdx_mrtd(parse_ovmf(data), PageOrder.INTERLEAVED)
    for position, counts in ((0, False), (PAGE - 1, False), (PAGE, True), (SIZE - 1, True)):
        changed = bytearray(data)
        changed[position] ^= 1
        after = tdx_mrtd(parse_ovmf(bytes(changed)), PageOrder.INTERLEAVED)
        assert (after != before) == counts


def test_firmware_without_tdx_metadata() -> None:
    with pytest.raises(ParseError, match="NO_TDX_METADATA"):
        tdx_mrtd(parse_ovmf(ovmf_image(Firmware())), PageOrder.INTERLEAVED)


def test_a_gigabyte_of_added_memory_is_the_limit() -> None:
    rows = (*BOTH.tdx, (0, 0, 0x1000000, 1 << 30, 3, 0))
    with pytest.raises(ParseError, match="TOO_LARGE"):
        tdx_mrtd(parse_ovmf(ovmf_image(replace(BOTH, tdx=rows))), PageOrder.INTERLEAVED)
