"""Which token a key reference selects, and what it may not hold."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import UsageError
from regalia.keys.pkcs11.uri import TokenUri, parse_uri

PATH = "?module-path=/usr/lib/p11.so"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (f"token=regalia{PATH}", TokenUri("/usr/lib/p11.so", "regalia", None)),
        (f"serial=12ab{PATH}", TokenUri("/usr/lib/p11.so", None, "12ab")),
        (f"serial=1;token=a{PATH}", TokenUri("/usr/lib/p11.so", "a", "1")),
        (f"token=a%20b%3b%23{PATH}", TokenUri("/usr/lib/p11.so", "a b;#", None)),
        (f"token=%C3%A9{PATH}", TokenUri("/usr/lib/p11.so", "é", None)),
        ("token=a?module-path=/a%20b.so", TokenUri("/a b.so", "a", None)),
    ],
)
def test_a_uri_selects_one_token(text: str, want: TokenUri) -> None:
    assert parse_uri(text) == want


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must say which token"),
        (PATH, "must say which token"),
        ("token=a", "absolute path"),
        ("token=a?", "absolute path"),
        ("token=a?module-path=p11.so", "absolute path"),
        ("token=a?module-path=", "want 1 to 4095"),
        ("token=a?module-name=softhsm2", "not one of"),
        (f"token=a;token=b{PATH}", "stands twice"),
        (f"token=a{PATH}&module-path=/b", "stands twice"),
        (f"token=a;{PATH}", "not one of"),
        (f"token{PATH}", "not one of"),
        (f"token={PATH}", "want 1 to 32"),
        (f"token={'a' * 33}{PATH}", "want 1 to 32"),
        (f"token={'%C3%A9' * 17}{PATH}", "want 1 to 32"),
        (f"serial={'1' * 17}{PATH}", "want 1 to 16"),
        (f"token=a%20{PATH}", "no blank at its end"),
        (f"token=a%0A{PATH}", "printable"),
        (f"token=a%00{PATH}", "printable"),
        (f"token=%FF{PATH}", "not UTF-8"),
        (f"token=%2{PATH}", "percent-encoded"),
        (f"token=%zz{PATH}", "percent-encoded"),
        (f"token=a b{PATH}", "percent-encoded"),
        (f"token=a/b{PATH}", "percent-encoded"),
        (f"token=é{PATH}", "percent-encoded"),
        (f"slot-id=1{PATH}", "not one of"),
        (f"token=a;object=k{PATH}", "not one of"),
        (f"TOKEN=a{PATH}", "not one of"),
    ],
)
def test_what_selects_no_token_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        parse_uri(text)
    assert caught.value.code.name == "TOKEN_URI_MALFORMED"


@pytest.mark.parametrize("text", [f"token=a{PATH}&pin-value=98761", f"pin-value=98761{PATH}"])
def test_a_pin_is_neither_taken_nor_shown(text: str) -> None:
    with pytest.raises(UsageError, match="pin-value is not taken") as caught:
        parse_uri(text)
    assert "98761" not in str(caught.value)


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for each in (text, f"token={text}{PATH}", f"token=a?module-path=/{text}"):
        with suppress(UsageError):
            found = parse_uri(each)
            assert found.library.startswith("/")
            assert found.label or found.serial
