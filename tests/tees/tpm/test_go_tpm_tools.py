"""The protocol buffers reader takes well-formed messages and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.inspect.recognize import recognize
from regalia.tees.tpm.evidence.go_tpm_tools import parse_go_attestation
from regalia.tees.tpm.evidence.layout import HashAlg


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


PCRS = field(1, 0x0B) + field(2, field(2, bytes(32))) + field(2, field(1, 4) + field(2, b"4" * 32))
QUOTE = field(1, b"quote") + field(2, b"signature") + field(3, PCRS)
WHOLE = field(1, b"ak") + field(2, QUOTE) + field(3, b"log") + field(6, b"cert") + field(7, b"ca")


def test_fields() -> None:
    found = parse_go_attestation(WHOLE)
    (quote,) = found.quotes
    assert (quote.quoted, quote.signature, quote.ak_public) == (b"quote", b"signature", b"ak")
    assert quote.pcrs == {HashAlg.SHA256: {0: bytes(32), 4: b"4" * 32}}
    assert (found.event_log, found.ak_cert, found.intermediate_certs) == (b"log", b"cert", (b"ca",))
    assert parse_go_attestation(WHOLE + field(9, b"tdx")).tee == b"tdx"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_last_newline_is_no_part_of_it(end: bytes) -> None:
    found = recognize(WHOLE + end)
    assert found == recognize(WHOLE)
    assert found.form == "go-tpm-tools attestation"


@pytest.mark.parametrize(
    "wrong",
    [
        b"",  # no quote
        WHOLE + field(10, b"unknown"),
        WHOLE + field(1, b"another ak"),
        WHOLE + field(3, 7),  # a log that is a number
        WHOLE + b"\x0d\x00\x00\x00\x00",  # a fixed32
        WHOLE + b"\x1a\x05ab",  # cut
        WHOLE + b"\x1a",
        WHOLE + b"\xff" * 11,
        WHOLE + b"\x9a\x00\x01a",  # a tag that could be shorter
        WHOLE + b"".join(field(7, b"ca") for _ in range(8)),
        field(2, QUOTE) * 9,
        field(2, field(1, b"quote") + field(3, field(1, 0x12))),  # SM3
        field(2, field(1, b"quote")),  # no bank
        field(2, field(3, PCRS + field(2, field(2, bytes(32))))),  # PCR 0 twice
        field(2, field(3, field(1, 0x0B) + field(2, field(1, 4) + field(2, bytes(31))))),
        field(2, field(3, field(1, 0x0B) + field(2, field(1, 32) + field(2, bytes(32))))),
        field(2, field(3, field(1, 0x0B) + field(1, 0x0B))),
    ],
)
def test_refused(wrong: bytes) -> None:
    with pytest.raises(ParseError):
        parse_go_attestation(wrong)


@given(st.data())
def test_damage_ends_in_a_refusal_or_a_message(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    altered = WHOLE[:at] + data.draw(st.binary(max_size=3)) + WHOLE[at + 1 :]
    try:
        found = parse_go_attestation(altered)
    except ParseError:
        return
    parts = [found.event_log, found.ak_cert, *found.intermediate_certs]
    parts += [part for quote in found.quotes for part in (quote.quoted, quote.signature)]
    assert all(part in altered for part in parts)
