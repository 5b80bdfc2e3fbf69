"""SPDM reports and NVIDIA's opaque data: one encoding, exact sizes, limits first."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.tees.nvidia.evidence.opaque import HEADER_MAJORS, MAGIC
from regalia.tees.nvidia.evidence.spdm import (
    OPAQUE_MAX,
    REPORT_MAX,
    REQUEST_SIZE,
    SpdmReport,
    parse_report,
)
from regalia.tees.nvidia.evidence.wire import OPAQUE_VERSIONS, OpaqueField, decode_opaque
from regalia.tees.nvidia.names import Feature, Status
from regalia_testing.tees.snp.testbed import refused

RESPONSE = REQUEST_SIZE
RECORD = RESPONSE + 8
BLOCK = 55
DIGEST = st.binary(min_size=48, max_size=48)
BYTE, WORD = st.integers(0, 255), st.integers(0, 65535)


def report(**changes: object) -> SpdmReport:
    base = SpdmReport(
        nonce=b"\x11" * 32,
        slot=0,
        indices=bytes((1, 2, 9)),
        kinds=bytes((1, 0, 3)),
        values=(b"\x01" * 48, bytes(48), b"\x09" * 48),
        responder_nonce=b"\x22" * 32,
        opaque=((6, b"\x00\x5e\x00\x96\x01\x00\x00\x00"), (3, b"535.86.09\x00")),
        signature=b"\x33" * 96,
    )
    return replace(base, **changes)  # type: ignore[arg-type] # fields


@st.composite
def reports(draw: st.DrawFn) -> SpdmReport:
    indices = sorted(draw(st.sets(st.integers(1, 254), min_size=1, max_size=12)))
    count = len(indices)
    types = draw(st.lists(st.integers(0, 65535), unique=True, max_size=6))
    raw = draw(st.booleans())  # else digests only, as most devices send them
    kinds = bytes(
        draw(st.lists(BYTE if raw else st.integers(0, 127), min_size=count, max_size=count))
    )
    types = [kind for kind in types if kind.to_bytes(2, "little") != MAGIC[:2]]
    version = draw(st.none() | st.tuples(st.sampled_from(HEADER_MAJORS), BYTE, BYTE, BYTE))
    value_types = draw(st.lists(WORD, min_size=len(types), max_size=len(types)))
    return SpdmReport(
        nonce=draw(st.binary(min_size=32, max_size=32)),
        slot=draw(st.integers(0, 7)),
        indices=bytes(indices),
        kinds=kinds,
        values=tuple(
            draw(st.binary(min_size=1, max_size=64) if kind & 0x80 else DIGEST) for kind in kinds
        ),
        responder_nonce=draw(st.binary(min_size=32, max_size=32)),
        opaque=tuple((kind, draw(st.binary(max_size=40))) for kind in types),
        opaque_version=None if version is None else bytes(version),
        opaque_value_types=() if version is None else tuple(value_types),
        signature=draw(st.binary(min_size=96, max_size=96)),
        zero_behind=draw(st.booleans()),
    )


@given(reports())
def test_encoding_and_parsing_are_inverse(value: SpdmReport) -> None:
    data = value.encode()
    assert parse_report(data) == value
    assert parse_report(data).encode() == data


@given(st.binary(max_size=400))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_report(data)


@given(reports(), st.data())
def test_one_altered_byte_is_another_report_or_none(value: SpdmReport, data: st.DataObject) -> None:
    raw = bytearray(value.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        again = parse_report(bytes(raw))
    except ParseError:
        return
    assert again.encode() == bytes(raw)
    assert again != value


def with_bytes(offset: int, data: bytes) -> bytes:
    raw = bytearray(report().encode())
    raw[offset : offset + len(data)] = data
    return bytes(raw)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "MALFORMED"),
        (bytes(REPORT_MAX + 1), "TOO_LARGE"),
        (with_bytes(0, b"\x12"), "UNSUPPORTED_VERSION"),
        (with_bytes(1, b"\xe1"), "MALFORMED"),
        (with_bytes(2, b"\x00"), "MALFORMED"),  # no signature requested
        (with_bytes(3, b"\x01"), "MALFORMED"),  # one measurement only
        (with_bytes(36, b"\x08"), "RESERVED_BIT_SET"),
        (with_bytes(36, b"\x01"), "MALFORMED"),  # another slot than the response's
        (with_bytes(RESPONSE, b"\x10"), "UNSUPPORTED_VERSION"),
        (with_bytes(RESPONSE + 1, b"\x7f"), "MALFORMED"),  # ERROR
        (with_bytes(RESPONSE + 2, b"\x01"), "RESERVED_BIT_SET"),
        (with_bytes(RESPONSE + 4, b"\x02"), "MALFORMED"),
        (with_bytes(RESPONSE + 4, b"\x00"), "MALFORMED"),
        (with_bytes(RESPONSE + 5, b"\xff\xff\xff"), "MALFORMED"),
        (with_bytes(RECORD, b"\x00"), "MALFORMED"),
        (with_bytes(RECORD, b"\x02"), "MALFORMED"),  # twice
        (with_bytes(RECORD, b"\x0a"), "MALFORMED"),  # out of order
        (with_bytes(RECORD + 1, b"\x02"), "MALFORMED"),
        (with_bytes(RECORD + 2, b"\x32"), "MALFORMED"),
        (with_bytes(RECORD + 3, b"\x01"), "MALFORMED"),
        (with_bytes(RECORD + BLOCK + 5, b"\x20"), "MALFORMED"),
        (with_bytes(RECORD + 2 * BLOCK + 6, b"\x01"), "MALFORMED"),
        (b"\x13" + bytes(20), "UNSUPPORTED_VERSION"),  # asked before the size
        (report().encode() + b"\x01", "TRAILING_DATA"),
        (report().encode() + bytes(2), "TRAILING_DATA"),
        (report().encode()[:-1], "MALFORMED"),
        (report(opaque=((3, b"a"), (3, b"a"))).encode(), "MALFORMED"),
        (report(opaque=((3, bytes(OPAQUE_MAX)),)).encode(), "TOO_LARGE"),
    ],
)
def test_one_defect_gives_its_code(data: bytes, code: str) -> None:
    refused(code, parse_report, data=data)


@pytest.mark.parametrize(
    ("opaque", "code"),
    [
        (b"NVDAOD\x01\x00\x02\x00\x00\x00", "UNSUPPORTED_VERSION"),  # another profile
        (b"NVDAOD\x00\x01\x02\x00\x00\x00", "UNSUPPORTED_VERSION"),
        (b"NVDAOD\x00\x00\x03\x00\x00\x00", "UNSUPPORTED_VERSION"),
        (b"NVDAOD\x00\x00\x02\x00\x00", "MALFORMED"),  # a header cut short
        (b"NVDAOD", "MALFORMED"),
        (b"NVDAOD\x00\x00\x02\x00\x00\x00" + b"\x03\x00\x86\x00\x02", "MALFORMED"),
        (b"NVDAOD\x00\x00\x02\x00\x00\x00" + b"\x03\x00\x86\x00\x02\x00a", "MALFORMED"),
        (b"NVDAOD\x00\x00\x02\x00\x00\x00" + 2 * b"\x03\x00\x86\x00\x01\x00a", "MALFORMED"),
    ],
)
def test_defects_of_opaque_data_with_a_header(opaque: bytes, code: str) -> None:
    with_it = report(opaque=()).encode()
    at = len(with_it) - 96
    raw = with_it[: at - 2] + struct.pack("<H", len(opaque)) + opaque + with_it[at:]
    refused(code, parse_report, data=raw)


def test_a_header_tells_the_version_and_the_old_field_means_nothing() -> None:
    """Drivers write OPAQUE_DATA_VERSION beside the header, as 0x0200."""
    fields = ((34, b"\x00\x02"), (36, b"\x01\x00"), (37, b"\x00\x00"), (200, b"?"), (38, b"\xaa"))
    value = report(
        opaque=fields, opaque_version=b"\x02\x00\x00\x00", opaque_value_types=(0x87,) * 5
    )
    assert parse_report(value.encode()) == value
    found = decode_opaque(value, switch=False)
    assert found.feature is Feature.SPT
    assert found.additions == (38, 200)
    with pytest.raises(ParseError, match="the newest known here is 1"):
        decode_opaque(report(opaque=fields), switch=False)


def test_raw_values_of_a_boot_processor() -> None:
    """A Blackwell's FSP answers with versions and numbers beside digests, and no opaque data."""
    value = report(
        indices=bytes((1, 2, 50)),
        kinds=bytes((0x83, 0x02, 0x81)),
        values=(bytes(4), b"\x02" * 48, b"\x00"),
        opaque=(),
    )
    assert parse_report(value.encode()) == value
    assert value.measurements() == {2: b"\x02" * 48}


@pytest.mark.parametrize(
    ("kinds", "values"),
    [
        ((0x83, 1, 1), (b"", bytes(48), bytes(48))),  # a value of no bytes
        ((0x83, 1, 1), (bytes(4), bytes(47), bytes(48))),  # a digest that is cut
        ((0x83, 1, 1), (bytes(4), bytes(49), bytes(48))),
    ],
)
def test_blocks_of_other_sizes(kinds: tuple[int, ...], values: tuple[bytes, ...]) -> None:
    value = report(kinds=bytes(kinds), values=values)
    refused("MALFORMED", parse_report, data=value.encode())


@pytest.mark.parametrize(("blocks", "more"), [(2, b""), (4, b""), (3, b"\x0a"), (3, bytes(7))])
def test_a_record_holds_the_blocks_that_are_announced(blocks: int, more: bytes) -> None:
    mixed = report(kinds=b"\x83\x01\x01", values=(b"abcd", *report().values[1:]))
    raw = mixed.encode()
    size = int.from_bytes(raw[RESPONSE + 5 : RECORD], "little")
    head = raw[: RESPONSE + 4] + bytes([blocks]) + (size + len(more)).to_bytes(3, "little")
    data = head + raw[RECORD : RECORD + size] + more + raw[RECORD + size :]
    refused("MALFORMED", parse_report, data=data)


def test_one_zero_byte_may_follow() -> None:
    found = parse_report(report().encode() + b"\x00")
    assert found == report(zero_behind=True)


def test_opaque_fields_end_where_the_data_ends() -> None:
    raw = report(opaque=((3, b"abc"),)).encode()
    at = len(raw) - 96 - 7
    assert raw[at : at + 4] == struct.pack("<HH", 3, 3)
    for size in (2, 4):
        altered = raw[: at + 2] + struct.pack("<H", size) + raw[at + 4 :]
        refused("MALFORMED", parse_report, data=altered)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(OpaqueField).map(int) | st.integers(0, 40), st.binary(max_size=24)
        ),
        max_size=12,
        unique_by=lambda field: field[0],
    ),
    st.booleans(),
)
def test_opaque_noise_is_decoded_or_refused(
    fields: list[tuple[int, bytes]],
    switch: bool,  # noqa: FBT001 - drawn
) -> None:
    try:
        found = decode_opaque(report(opaque=tuple(fields)), switch=switch)
    except ParseError:
        return
    assert len(found.fwid) in (0, 48)
    assert not found.switch_pdis or not switch


def gpu(*fields: tuple[int, bytes]) -> object:
    return decode_opaque(report(opaque=fields), switch=False)


def test_an_empty_gpu_states_nothing() -> None:
    found = decode_opaque(report(opaque=()), switch=False)
    assert (found.driver_version, found.vbios_version, found.fwid) == ("", "", b"")
    assert found.feature is Feature.UNSTATED
    assert found.nvdec0 is found.protected_pcie is Status.UNSTATED


def test_links_are_reversed_sorted_and_each_once() -> None:
    one, two = bytes(range(8)), bytes(range(8, 16))
    found = decode_opaque(
        report(opaque=((22, two[::-1] + one[::-1] * 2 + bytes(8)),)), switch=False
    )
    assert found.switch_pdis == (one, two)
    links = (one[::-1] + two[::-1]).ljust(64, b"\x00") + b"\xff" * 64
    switch = decode_opaque(report(opaque=((22, one), (26, links))), switch=True)
    assert (switch.pdi, switch.gpu_pdis, switch.switch_pdis) == (one, (one, two), ())


def test_the_old_status_byte_tells_protected_pcie() -> None:
    for byte, feature in ((b"\xaa", Feature.PPCIE), (b"\x55", Feature.UNSTATED)):
        found = decode_opaque(report(opaque=((21, byte),)), switch=False)
        assert found.feature is feature


@pytest.mark.parametrize(
    ("field", "data", "code"),
    [
        (OpaqueField.OPAQUE_DATA_VERSION, bytes([OPAQUE_VERSIONS[-1] + 1]), "UNSUPPORTED_VERSION"),
        (OpaqueField.FEATURE_FLAG, b"\x03", "UNSUPPORTED_VERSION"),
        (OpaqueField.FEATURE_FLAG, b"", "UNSUPPORTED_VERSION"),
        (OpaqueField.NVDEC0_STATUS, b"\x00", "MALFORMED"),
        (OpaqueField.NVDEC0_STATUS, b"", "MALFORMED"),
        (OpaqueField.PROTECTED_PCIE_STATUS, b"\xaa\xaa", "MALFORMED"),
        (OpaqueField.FWID, bytes(47), "MALFORMED"),
        (OpaqueField.DRIVER_VERSION, b"590\x00.12", "MALFORMED"),
        (OpaqueField.DRIVER_VERSION, b"\xff", "MALFORMED"),
        (OpaqueField.DRIVER_VERSION, b"1" * 65, "MALFORMED"),
        (OpaqueField.PROJECT, b"\x1b[2J", "MALFORMED"),
        (OpaqueField.VBIOS_VERSION, bytes(7), "MALFORMED"),
        (OpaqueField.VBIOS_VERSION, b"\x01" * 8, "MALFORMED"),
        (OpaqueField.SWITCH_PDI, bytes(9), "MALFORMED"),
    ],
)
def test_opaque_defects(field: int, data: bytes, code: str) -> None:
    with pytest.raises(ParseError) as caught:
        gpu((field, data))
    assert caught.value.code.name == code


@pytest.mark.parametrize(
    "fields",
    [((22, bytes(16)),), ((22, bytes(7)),), ((26, bytes(63)),), ((26, b"x"),), ((6, b"\xff"),)],
)
def test_switch_opaque_defects(fields: tuple[tuple[int, bytes], ...]) -> None:
    with pytest.raises(ParseError):
        decode_opaque(report(opaque=fields), switch=True)
