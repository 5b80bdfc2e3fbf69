"""CBOR in one spelling: what cbor2 writes canonically is read, other spellings are not."""

from __future__ import annotations

import io

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.wire.cbor import DEPTH_MAX, decode_cbor, encode_cbor, parse_cbor
from regalia.wire.cose import ES384, parse_sign1

LIMIT = 1 << 16
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=300)
    | st.text(max_size=300)
)
KEYS = st.integers(-(1 << 64), (1 << 64) - 1) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def refused(data: bytes, code: str = "MALFORMED") -> None:
    with pytest.raises(ParseError) as refusal:
        decode_cbor(data, limit=LIMIT, what="item")
    assert refusal.value.code.name == code


@given(VALUES)
def test_encoding_is_what_the_oracle_writes_and_reads(value: object) -> None:
    data = encode_cbor(value)
    assert data == cbor2.dumps(value)
    try:
        again = decode_cbor(data, limit=LIMIT, what="item")
    except ParseError:
        assert depth_of(value) > DEPTH_MAX
        return
    assert again == value == cbor2.loads(data)
    assert encode_cbor(again) == data


def depth_of(value: object) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 0


@given(st.binary(max_size=64))
def test_whatever_is_read_has_one_spelling(data: bytes) -> None:
    try:
        value = decode_cbor(data, limit=LIMIT, what="item")
    except ParseError:
        return
    assert encode_cbor(value) == data
    assert cbor2.load(io.BytesIO(data)) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "nothing"),
        ("1800", "a head of two bytes for 0"),
        ("1817", "a head of two bytes for 23"),
        ("1900ff", "a head of three bytes for 255"),
        ("1a0000ffff", "a head of five bytes for 65535"),
        ("1b00000000ffffffff", "a head of nine bytes for 2^32 - 1"),
        ("3800", "likewise below zero"),
        ("580100", "a length of one in two bytes"),
        ("5f4100ff", "bytes of indefinite length"),
        ("7f6161ff", "text of indefinite length"),
        ("9f00ff", "an array of indefinite length"),
        ("bf0000ff", "a map of indefinite length"),
        ("1c", "a reserved head"),
        ("1d", "a reserved head"),
        ("1e", "a reserved head"),
        ("ff", "a break without a beginning"),
        ("c000", "a tag"),
        ("d28440a04040", "COSE_Sign1's tag, which is no business of this decoder"),
        ("f97e00", "a float of two bytes"),
        ("fa00000000", "a float of four bytes"),
        ("fb0000000000000000", "a float of eight bytes"),
        ("f7", "undefined"),
        ("f0", "simple value 16"),
        ("f815", "true in two bytes"),
        ("61ff", "text that is not UTF-8"),
        ("63eda080", "a surrogate"),
        ("a201010102", "a key twice"),
        ("a2616100616101", "a text key twice"),
        ("a14000", "bytes as a key"),
        ("a1f400", "a truth value as a key"),
        ("a1f600", "null as a key"),
        ("a18000", "an array as a key"),
        ("a1a000", "a map as a key"),
        ("a101", "a key without a value"),
        ("8200", "an array cut short"),
        ("4201", "bytes cut short"),
        ("19", "a head cut short"),
        ("9affffffff", "an array longer than the data"),
        ("baffffffff", "a map longer than the data"),
        ("5affffffff", "bytes longer than the data"),
        ("81" * (DEPTH_MAX + 1) + "00", "too deep"),
        ("a100" * (DEPTH_MAX + 1) + "00", "too deep in maps"),
    ],
)
def test_other_spellings_and_types(data: str, why: str) -> None:
    assert why
    refused(bytes.fromhex(data))


def test_the_deepest_that_is_read() -> None:
    data = b"\x81" * DEPTH_MAX + b"\x00"
    assert encode_cbor(decode_cbor(data, limit=LIMIT, what="item")) == data


def test_order_of_keys_is_kept() -> None:
    data = bytes.fromhex("a2020001 00".replace(" ", ""))
    value = decode_cbor(data, limit=LIMIT, what="item")
    assert isinstance(value, dict)
    assert list(value) == [2, 1]


def test_limits_and_ends() -> None:
    refused(b"\x00\x00", "TRAILING_DATA")
    refused(b"\x40" + bytes(LIMIT), "TOO_LARGE")


@pytest.mark.parametrize(
    "tag", ["c243010000", "c11a00000000", "d8236161", "d81c81d81d00", "d90100"]
)
def test_a_tag_means_nothing(tag: str) -> None:
    """Not even to cbor2, which would make a number, a time or an expression of these."""
    refused(bytes.fromhex(tag))
    refused(b"\x81" + bytes.fromhex(tag))


class Numbers(msgspec.Struct, forbid_unknown_fields=True):
    a: int
    b: dict[int, int] = {}


def parsed(data: str) -> Numbers:
    return parse_cbor(bytes.fromhex(data), Numbers, limit=LIMIT, what="numbers")


@pytest.mark.parametrize("data", ["a1616105", "bf616105ff", "bf616105616 2a0ff".replace(" ", "")])
def test_the_outermost_map_may_be_open(data: str) -> None:
    assert parsed(data) == Numbers(5)


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        ("bf616105", "MALFORMED", "no end"),
        ("bf61610561 6105ff", "MALFORMED", "a key twice"),
        ("bf6161 1805ff", "MALFORMED", "a head of two bytes for 5"),
        ("bf616105 6162 bfff ff", "MALFORMED", "another open map in it"),
        ("bf616105 7f6162ff a0 ff", "MALFORMED", "open text in it"),
        ("bf616105 6163 00 ff", "MALFORMED", "an unknown field"),
        ("bf6161f5ff", "MALFORMED", "a truth value for a number"),
        ("bf616105 6162a1f500 ff", "MALFORMED", "a truth value as a key"),
        ("bf6161c24105ff", "MALFORMED", "a tag"),
        ("bf616105ff00", "TRAILING_DATA", "a byte behind the end"),
        ("bf616105ffff", "TRAILING_DATA", "another end behind the end"),
        ("a161610500", "TRAILING_DATA", "likewise, of definite length"),
        ("9f05ff", "MALFORMED", "an open array"),
        ("", "MALFORMED", "nothing"),
    ],
)
def test_what_an_open_map_may_not_hold(data: str, code: str, why: str) -> None:
    assert why
    with pytest.raises(ParseError) as refusal:
        parsed(data.replace(" ", ""))
    assert refusal.value.code.name == code


def test_an_open_map_of_many_entries() -> None:
    """A map whose definite form has a longer head is not what anybody sends."""
    body = b"".join(encode_cbor(number) * 2 for number in range(24))
    with pytest.raises(ParseError, match="encoding"):
        parse_cbor(b"\xbf" + body + b"\xff", dict, limit=LIMIT, what="numbers")
    assert parse_cbor(b"\xb8\x18" + body, dict, limit=LIMIT, what="numbers")


def test_the_limit_is_before_the_decoder() -> None:
    with pytest.raises(ParseError) as refusal:
        parse_cbor(b"\x40" + bytes(8), bytes, limit=8, what="bytes")
    assert refusal.value.code.name == "TOO_LARGE"


@pytest.mark.parametrize("value", [1.5, {True: 0}, {b"k": 0}, {1, 2}, [object()]])
def test_what_has_no_encoding(value: object) -> None:
    with pytest.raises(TypeError):
        encode_cbor(value)
    with pytest.raises(ValueError, match="64 bits"):
        encode_cbor(1 << 64)


PROTECTED = encode_cbor({1: ES384})


def test_a_message_and_what_is_signed() -> None:
    """RFC 9052 section 4.4, byte by byte."""
    data = encode_cbor([PROTECTED, {}, b"payload", b"signature"])
    message = parse_sign1(data, limit=LIMIT, what="message")
    assert message.algorithm == ES384
    assert message.signed_bytes() == (
        bytes.fromhex("84") + b"\x6aSignature1" + b"\x44\xa1\x01\x38\x22" + b"\x40" + b"\x47payload"
    )


@pytest.mark.parametrize(
    "message",
    [
        {},
        [],
        [PROTECTED, {}, b"p"],
        [PROTECTED, {}, b"p", b"s", b""],
        [{1: ES384}, {}, b"p", b"s"],
        [PROTECTED, {1: ES384}, b"p", b"s"],
        [PROTECTED, [], b"p", b"s"],
        [PROTECTED, None, b"p", b"s"],
        [PROTECTED, {}, None, b"s"],  # a detached payload
        [PROTECTED, {}, "p", b"s"],
        [PROTECTED, {}, b"p", None],
        [b"", {}, b"p", b"s"],
        [encode_cbor({}), {}, b"p", b"s"],
        [encode_cbor([1]), {}, b"p", b"s"],
        [encode_cbor({1: ES384, 2: [5]}), {}, b"p", b"s"],
        [encode_cbor({2: [1], 1: ES384}), {}, b"p", b"s"],
        [encode_cbor({1: "ES384"}), {}, b"p", b"s"],
        [encode_cbor({1: True}), {}, b"p", b"s"],
        [bytes.fromhex("a10139 0022".replace(" ", "")), {}, b"p", b"s"],  # -35, not shortest
    ],
)
def test_other_messages(message: object) -> None:
    with pytest.raises(ParseError) as refusal:
        parse_sign1(encode_cbor(message), limit=LIMIT, what="message")
    assert refusal.value.code.name == "MALFORMED"
