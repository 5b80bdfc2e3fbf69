"""Quotes parse to the last byte, and hostile bytes end in ParseError and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.tees.intel.evidence.bodies import EnclaveReport
from regalia.tees.intel.evidence.wire import QUOTE_MAX, parse_quote
from regalia.wire.evidence import Tee
from regalia_testing.mutation import none_accepted, truncated
from regalia_testing.tees.intel.strategies import intel_quotes

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.tees.intel.evidence.wire import IntelQuote
    from regalia_testing.tees.intel.testbed import IntelTestbed

SIGNED_SIZES = {2: 48 + 6 + 584, 3: 48 + 6 + 648, 4: 48 + 6 + 885}


def without_raw(quote: IntelQuote) -> IntelQuote:
    return replace(quote, signed=b"", qe=replace(quote.qe, qe_report_raw=b""))


@given(quote=intel_quotes())
def test_encoding_and_parsing_are_inverse(quote: IntelQuote) -> None:
    encoded = quote.encode()
    parsed = parse_quote(encoded)
    assert without_raw(parsed) == quote
    assert parsed.encode() == encoded
    assert parsed.signed == parsed.encode_signed() == encoded[: len(parsed.signed)]
    assert parsed.qe.qe_report_raw == quote.qe.qe_report.encode()


@given(data=st.binary(max_size=2000))
def test_hostile_bytes(data: bytes) -> None:
    try:
        quote = parse_quote(data)
    except ParseError:
        return
    assert quote.encode() == data


@given(quote=intel_quotes(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_parses_encodes_to_the_same(quote: IntelQuote, data: st.DataObject) -> None:
    """One byte of a good quote is anything: it is refused, or it has one encoding."""
    altered = bytearray(quote.encode())
    altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_quote(bytes(altered))
    except ParseError:
        return
    assert parsed.encode() == bytes(altered)


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SGX])
def test_every_cut_is_refused(testbed: IntelTestbed, tee: Tee) -> None:
    quote = testbed.evidence(tee).report
    parse_quote(quote)
    cuts = list(truncated(quote))[:-1]  # a zero more is what clouds append
    assert none_accepted(parse_quote, cuts) == {"MALFORMED"}


@pytest.mark.parametrize("body_type", SIGNED_SIZES)
def test_signed_part_of_each_body(testbed: IntelTestbed, body_type: int) -> None:
    quote = parse_quote(testbed.evidence(body_type=body_type).report)
    assert len(quote.signed) == SIGNED_SIZES[body_type]
    assert quote.body_type == body_type


def test_zeros_behind_a_quote_are_no_part_of_it(testbed: IntelTestbed) -> None:
    data = testbed.evidence().report
    quote = parse_quote(data)
    padded = parse_quote(data + bytes(3065))
    assert padded == replace(quote, trailing_zeros=3065)
    for tail in (b"\x01", bytes(70) + b"\x01", b"\x01" + bytes(70), b"\nextra bytes"):
        with pytest.raises(ParseError) as refusal:
            parse_quote(data + tail)
        assert refusal.value.code.name == "TRAILING_DATA"


def test_size_is_limited_before_anything_is_read() -> None:
    with pytest.raises(ParseError) as refusal:
        parse_quote(bytes(QUOTE_MAX + 1))
    assert refusal.value.code.name == "TOO_LARGE"


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0, 2, "UNSUPPORTED_VERSION"),
        (0, 6, "UNSUPPORTED_VERSION"),
        (2, 1, "UNSUPPORTED_VERSION"),
        (2, 3, "UNSUPPORTED_VERSION"),
        (4, 0x80, "UNSUPPORTED_VERSION"),
        (4, 0, "MALFORMED"),  # SGX, with the body of a TD
        (12, 0, "UNSUPPORTED_VERSION"),
        (48, 0, "UNSUPPORTED_VERSION"),
        (48, 5, "UNSUPPORTED_VERSION"),
        (48, 1, "MALFORMED"),  # the size is another type's
        (48, 2, "MALFORMED"),
        (50, 0x87, "MALFORMED"),
    ],
)
def test_header_and_descriptor(testbed: IntelTestbed, at: int, value: int, code: str) -> None:
    altered = bytearray(testbed.evidence().report)
    altered[at] = value
    with pytest.raises(ParseError) as refusal:
        parse_quote(bytes(altered))
    assert refusal.value.code.name == code


@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_lengths_that_disagree(testbed: IntelTestbed, change: int) -> None:
    """Signature length, QE report data, authentication data, chain: one of them is off."""
    data = testbed.evidence(trailing_zeros=2000).report
    quote = parse_quote(data)
    signature = len(quote.signed)
    certification = signature + 4 + 128 + 2
    auth = certification + 4 + 384 + 64
    chain = auth + 2 + len(quote.qe.qe_auth_data) + 2
    for at, size in ((signature, 4), (certification, 4), (auth, 2), (chain, 4)):
        altered = bytearray(data)
        value = int.from_bytes(data[at : at + size], "little") + change
        altered[at : at + size] = value.to_bytes(size, "little")
        with pytest.raises(ParseError):
            parse_quote(bytes(altered))


RESERVED = [*range(20, 32), *range(96, 128), *range(160, 192), *range(262, 304)]


@pytest.mark.parametrize("at", RESERVED)
def test_reserved_bytes_of_an_enclave_report(testbed: IntelTestbed, at: int) -> None:
    altered = bytearray(testbed.evidence(Tee.SGX).report)
    altered[48 + at] = 1
    with pytest.raises(ParseError) as refusal:
        parse_quote(bytes(altered))
    assert refusal.value.code.name == "RESERVED_BIT_SET"


TD_RESERVED = [1, 2, 3, 7, *range(8, 16), *range(17, 27), *range(32, 62)]


@pytest.mark.parametrize("bit", TD_RESERVED)
def test_reserved_bits_of_tdattributes(testbed: IntelTestbed, bit: int) -> None:
    altered = bytearray(testbed.evidence().report)
    altered[54 + 120 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(ParseError) as refusal:
        parse_quote(bytes(altered))
    assert refusal.value.code.name == "RESERVED_BIT_SET"


@pytest.mark.parametrize("bit", [0, 1, 3, 4, 10, 13, 16, *range(19, 64)])
def test_fixed_bits_of_xfam(testbed: IntelTestbed, bit: int) -> None:
    altered = bytearray(testbed.evidence().report)
    altered[54 + 128 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(ParseError) as refusal:
        parse_quote(bytes(altered))
    assert refusal.value.code.name == "RESERVED_BIT_SET"


def test_real_quotes_encode_to_themselves(tdx_vectors: Path) -> None:
    names = sorted(path.name for path in tdx_vectors.glob("*quote*.bin"))
    assert len(names) == 8
    for name in names:
        data = (tdx_vectors / name).read_bytes()
        if name == "google-quote_v4_spr_e4.bin":  # 39 bytes of text behind it
            with pytest.raises(ParseError) as refusal:
                parse_quote(data)
            assert refusal.value.code.name == "TRAILING_DATA"
            data = data[:-39]
        quote = parse_quote(data)
        assert quote.encode() == data
        assert isinstance(quote.body, EnclaveReport) == ("sgx" in name)
