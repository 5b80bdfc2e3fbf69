"""The report codec: offsets of the ABI, identity, and nothing but ParseError on noise."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.tees.snp.claims import Tcb
from regalia.tees.snp.evidence.wire import (
    FIELDS,
    REPORT_SIZE,
    SIGNED_SIZE,
    Product,
    SnpReport,
    decode_tcb,
    encode_tcb,
    parse_report,
)
from regalia_testing.strategies import snp_reports

if TYPE_CHECKING:
    from pathlib import Path

BYTE = st.integers(0, 255)


def test_fields_stand_where_the_abi_puts_them() -> None:
    offset = 0
    for declared, code, name in FIELDS:
        assert declared == offset, name
        offset += struct.calcsize("<" + code)
    assert offset == REPORT_SIZE == 1184
    assert SnpReport.__struct_fields__ == tuple(name for _, _, name in FIELDS if name)
    assert next(start for start, _, name in FIELDS if name == "signature_r") == SIGNED_SIZE


@given(snp_reports())
def test_parse_inverts_encode(report: SnpReport) -> None:
    raw = report.encode()
    assert len(raw) == REPORT_SIZE
    assert parse_report(raw) == report
    assert parse_report(raw).encode() == raw


@given(st.binary(max_size=2 * REPORT_SIZE) | st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE))
def test_noise_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_report(data)


@settings(max_examples=50)
@given(snp_reports(), st.data())
def test_an_altered_report_parses_to_itself_or_not_at_all(
    report: SnpReport, data: st.DataObject
) -> None:
    raw = bytearray(report.encode())
    raw[data.draw(st.integers(0, REPORT_SIZE - 1))] ^= data.draw(st.integers(1, 255))
    try:
        parsed = parse_report(bytes(raw))
    except ParseError:
        return
    assert parsed != report
    assert parsed.encode() == bytes(raw)


@given(BYTE, BYTE, BYTE, BYTE, BYTE, st.sampled_from(Product))
def test_tcb_round_trip(  # noqa: PLR0917 - one for each component
    fmc: int, bootloader: int, tee: int, snp: int, microcode: int, product: Product
) -> None:
    fmc = fmc if product is Product.TURIN else 0
    tcb = Tcb(fmc=fmc, bootloader=bootloader, tee=tee, snp=snp, microcode=microcode)
    assert decode_tcb(encode_tcb(tcb, product), product) == tcb


def test_turin_moved_every_component() -> None:
    raw = bytes.fromhex("0101010400000051")
    assert decode_tcb(raw, Product.TURIN) == Tcb(1, 1, 1, 4, 0x51)
    with pytest.raises(ParseError):
        decode_tcb(raw, Product.GENOA)
    assert decode_tcb(bytes.fromhex("0a00000000001754"), Product.GENOA) == Tcb(0, 10, 0, 23, 0x54)
    with pytest.raises(ValueError, match="FMC"):
        encode_tcb(Tcb(1, 1, 1, 4, 0x51), Product.MILAN)


REAL = [
    ("milan/google-report.bin", {"version": 2, "policy": 0xB0000, "platform_info": 1, "vmpl": 0}),
    ("milan/coco-report.bin", {"version": 2, "policy": 0x3001F, "guest_svn": 4}),
    ("milan/coco-vlek-report.bin", {"version": 3, "vmpl": 1, "signing_key": 1}),
    ("milan/ms-report.bin", {"version": 3, "platform_info": 0x25, "current_build": 29}),
    ("genoa/ms-report.bin", {"version": 3, "platform_info": 0x27, "committed_minor": 55}),
    (
        "turin/ms-report.bin",
        {
            "version": 5,
            "cpuid_fam_id": 0x1A,
            "cpuid_mod_id": 2,
            "cpuid_step": 1,
            "platform_info": 0x65,
            "launch_mit_vector": 0x3F,
            "current_mit_vector": 0x3F,
        },
    ),
]


@pytest.mark.parametrize(("name", "facts"), REAL)
def test_real_reports_parse_to_their_stated_facts(
    vectors: Path, name: str, facts: dict[str, int]
) -> None:
    raw = (vectors / "snp" / name).read_bytes()
    report = parse_report(raw)
    assert report.encode() == raw
    assert {field: getattr(report, field) for field in facts} == facts
    assert not report.mask_chip_key
    assert not report.author_key_en
