from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from regalia.core.codec import b64, canonical_json, decimal, exact, lp, parse_json, unb64, unhex
from regalia.core.errors import CoreCode, ParseError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(JSON)
def test_canonical_json_round_trips(value: object) -> None:
    data = canonical_json(value)
    assert parse_json(data, object, limit=1 << 20, what="x") == value


@given(JSON)
def test_canonical_json_is_sorted_compact_utf8(value: object) -> None:
    spelled = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    # Python escapes DEL and a few controls otherwise; where both agree on escapes they agree whole.
    assume(b"\\" not in spelled and b"\\" not in canonical_json(value) and b"\x7f" not in spelled)
    assert canonical_json(value) == spelled


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1}\n',
        b'{"a":"\\u0041"}',
        b'{"a":1',
        b"\xff",
        b"",
        b"[" * 5000,
    ],
)
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse_json(data, object, limit=1 << 20, what="x")
    assert caught.value.code is CoreCode.MALFORMED


def test_the_limit_is_checked_before_decoding() -> None:
    with pytest.raises(ParseError) as caught:
        parse_json(b"[" * 100, object, limit=99, what="x")
    assert caught.value.code is CoreCode.TOO_LARGE


@given(st.binary())
def test_base64_round_trips(data: bytes) -> None:
    assert unb64(b64(data), what="x") == data


@pytest.mark.parametrize("text", ["QQ", "QQ=", "QR==", "Q Q==", "QQ==\n", "QQ==QQ==", "-_8=", "é"])
def test_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(ParseError):
        unb64(text, what="x")


def test_base64_limit() -> None:
    with pytest.raises(ParseError) as caught:
        unb64(b64(bytes(100)), what="x", limit=64)
    assert caught.value.code is CoreCode.TOO_LARGE


@pytest.mark.parametrize("limit", range(7))
def test_base64_limit_counts_decoded_bytes(limit: int) -> None:
    assert unb64(b64(bytes(limit)), what="x", limit=limit) == bytes(limit)
    with pytest.raises(ParseError, match="TOO_LARGE"):
        unb64(b64(bytes(limit + 1)), what="x", limit=limit)


@pytest.mark.parametrize("text", ["AA", "a", "0x00", "a a", "zz", " 00"])
def test_hex_has_one_spelling(text: str) -> None:
    with pytest.raises(ParseError):
        unhex(text, what="x")


@pytest.mark.parametrize("size", [31, 33])
def test_nothing_is_padded_or_truncated(size: int) -> None:
    with pytest.raises(ParseError):
        exact(bytes(size), 32, what="x")


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.binary(max_size=40), max_size=5))
def test_length_prefixing_is_injective(left: list[bytes], right: list[bytes]) -> None:
    assert (lp(*left) == lp(*right)) == (left == right)


@given(st.integers(0, 2**64))
def test_decimal_round_trips(number: int) -> None:
    assert decimal(str(number), what="x", maximum=2**64) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "01",
        "1 ",
        "1_0",
        "0x1",
        "1.0",
        "\u0663",
        "\u00b2",
        "256",
        "1000",
        "9" * 5000,
    ],
)
def test_decimal_refuses_other_spellings_and_greater_numbers(text: str) -> None:
    with pytest.raises(ParseError) as info:
        decimal(text, what="x", maximum=255)
    assert info.value.code == CoreCode.MALFORMED
    assert len(info.value.what) < 100
