"""Deny-lists: one spelling, and nothing that denies nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.codec import canonical_json
from regalia.core.errors import ParseError
from regalia.wire.deny_list import (
    FORMAT,
    DeniedIdentity,
    DeniedKey,
    DeniedSerial,
    DenyList,
    parse_deny_list,
    serial_number,
)
from regalia_testing.tees.snp.testbed import refused

_reasons = st.text("!aZ~9", min_size=1, max_size=8)
_keys = st.binary(min_size=32, max_size=32).map(lambda raw: f"key:{raw.hex()}")
_serials = st.integers(0, 2**160 - 1).map(lambda n: f"{n:x}")
_identities = st.binary(min_size=1, max_size=128).filter(any).map(bytes.hex)
_entries = st.one_of(
    st.builds(DeniedKey, key=_keys, reason=_reasons),
    st.builds(DeniedSerial, issuer=_keys, serial=_serials, reason=_reasons),
    st.builds(
        DeniedIdentity,
        identity=_identities,
        of=st.sampled_from(["sev-snp", "tdx", "nvidia-gpu"]),
        reason=_reasons,
    ),
)
_lists = st.lists(_entries, max_size=6, unique_by=repr).map(
    lambda entries: DenyList(entries=entries, format=FORMAT, name="list")
)


@given(_lists)
def test_encode_is_the_inverse_of_parse(listed: DenyList) -> None:
    data = listed.encode()
    try:
        assert parse_deny_list(data) == listed
    except ParseError as refusal:
        assert "denied twice" in refusal.what  # the same thing for two reasons  # noqa: PT017
    else:
        assert parse_deny_list(data).encode() == data


def document(**entry: Any) -> bytes:  # noqa: ANN401
    return canonical_json({"entries": [entry], "format": FORMAT, "name": "list"})


KEY = "key:" + "ab" * 32
GOOD: dict[str, dict[str, Any]] = {
    "key": {"kind": "key", "key": KEY, "reason": "x"},
    "serial": {"kind": "serial", "issuer": KEY, "serial": "1f", "reason": "x"},
    "identity": {"kind": "identity", "of": "tdx", "identity": "ab", "reason": "x"},
}
BAD: list[dict[str, Any]] = [
    {**GOOD["key"], "key": "ab" * 32},
    {**GOOD["key"], "key": KEY[:-2]},
    {**GOOD["key"], "key": KEY.upper()},
    {**GOOD["key"], "reason": ""},
    {**GOOD["key"], "reason": "a\nb"},
    {**GOOD["key"], "more": 1},
    {**GOOD["serial"], "serial": ""},
    {**GOOD["serial"], "serial": "01"},
    {**GOOD["serial"], "serial": "1F"},
    {**GOOD["serial"], "serial": "0x1f"},
    {**GOOD["serial"], "serial": "-1"},
    {**GOOD["serial"], "serial": "1_0"},
    {**GOOD["serial"], "serial": "1" + "0" * 40},
    {**GOOD["serial"], "issuer": "x"},
    {**GOOD["identity"], "of": "toaster"},
    {**GOOD["identity"], "identity": ""},
    {**GOOD["identity"], "identity": "00" * 64},
    {**GOOD["identity"], "identity": "a"},
    {**GOOD["identity"], "identity": "ab" * 129},
    {"kind": "certificate", "certificate": "sha256:" + "00" * 32, "reason": "x"},
    {},
]


@pytest.mark.parametrize("name", GOOD)
def test_each_kind(name: str) -> None:
    data = document(**GOOD[name])
    assert parse_deny_list(data).encode() == data
    for field in GOOD[name]:
        short = {key: value for key, value in GOOD[name].items() if key != field}
        refused("MALFORMED", parse_deny_list, data=document(**short))


@pytest.mark.parametrize("entry", BAD, ids=json.dumps)
def test_entries_that_are_none(entry: dict[str, Any]) -> None:
    refused("MALFORMED", parse_deny_list, data=document(**entry))


def test_documents_that_are_none() -> None:
    right = document(**GOOD["key"])
    for data in (b"", right + b"\n", right[:-1], right.replace(b"list/v1", b"list/v2")):
        refused("MALFORMED", parse_deny_list, data=data)
    twice = json.loads(right)
    twice["entries"].append({**GOOD["key"], "reason": "y"})
    refused("MALFORMED", parse_deny_list, data=canonical_json(twice))
    many = [{**GOOD["serial"], "serial": f"{n:x}"} for n in range(4097)]
    many_list = canonical_json({"entries": many, "format": FORMAT, "name": "list"})
    refused("TOO_LARGE", parse_deny_list, data=many_list)
    refused("TOO_LARGE", parse_deny_list, data=b" " * ((1 << 20) + 1))


def test_serial_numbers() -> None:
    assert serial_number("0", "x") == 0
    assert serial_number("f" * 40, "x") == 2**160 - 1


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_deny_list(data)
