"""Policy documents: one spelling, every field required, every ill-formed value refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.bits import bit
from regalia.core.codec import canonical_json
from regalia.core.errors import ParseError
from regalia.policy.documents import (
    CLIENT_FORMAT,
    LIMIT,
    RELEASE_FORMAT,
    parse_client_policy,
    parse_release_policy,
)
from regalia.tees.snp.names import GuestPolicyBit, PlatformInfoBit

KEY = "key:" + "ab" * 32


def _platform() -> dict[str, Any]:
    return {
        "hardware": "genuine",
        "snp": {
            "products": ["Genoa"],
            "measurements": ["11" * 48],
            "host_data": ["22" * 32],
            "id_blocks": [
                {
                    "id_key": "33" * 48,
                    "author_key": "any",
                    "family_id": "34" * 16,
                    "image_id": "any",
                    "guest_svn_minimum": 2,
                }
            ],
            "vmpl": [0],
            "guest_policy": {
                "abi_minor_min": 55,
                "abi_major_min": 1,
                "smt": "allow",
                "single_socket": "any",
                "cxl": "deny",
                "mem_aes_256_xts": "any",
                "rapl_dis": "any",
                "ciphertext_hiding": "any",
                "page_swap_disable": "any",
            },
            "platform_info_required": ["ALIAS_CHECK_COMPLETE"],
            "tcb_minimum": {
                "Genoa": {"fmc": 0, "bootloader": 9, "tee": 0, "snp": 21, "microcode": 72}
            },
            "firmware_minimum": {"major": 1, "minor": 55, "build": 21},
            "provisional_firmware": "deny",
            "mitigations_required": 1,
            "report_version_minimum": 3,
            "signing_keys": ["vcek"],
            "csp_ids": [],
            "chip_ids": ["44" * 64],
            "revocation": "required",
        },
        "devices": [],
    }


def _client() -> dict[str, Any]:
    return {
        "format": CLIENT_FORMAT,
        "name": "a client",
        "model": {"id": "model:" + "00" * 32, "version_minimum": 1},
        "platform": _platform(),
        "freshness": {"challenge_max_age_s": 60},
        "placement": {"regions": ["eu"], "sites": "any", "tiers": ["own"]},
        "runtime": {
            "owner_key": KEY,
            "log_key": "log.example/1+0badc0de+AQID",
            "egress": ["a.example:443", "[::1]:1"],
        },
        "conditions": ["claims.vmpl == 0"],
    }


def _release() -> dict[str, Any]:
    return {
        **_client(),
        "format": RELEASE_FORMAT,
        "version": 1,
        "holders_max": 1,
        "lease_s": 60,
        "custody": ["broker"],
        "approvals": {"threshold": 1, "approvers": [KEY]},
    }


def _set(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *groups, last = path.split(".")
    inner = document
    for name in groups:
        inner = inner[name]
    inner[last] = value
    return document


SNP = "platform.snp"

# Hand-written: the field that is changed, to what, and the path that the message must name.
ILL_FORMED = json.loads(
    (Path(__file__).parents[1] / "vectors" / "policy" / "ill-formed.json").read_bytes()
)


def _leaves(document: dict[str, Any], prefix: str = "") -> list[str]:
    out: list[str] = []
    for name, value in document.items():
        path = f"{prefix}{name}"
        out.append(path)
        if isinstance(value, dict):
            out += _leaves(value, f"{path}.")
    return out


def test_a_well_formed_policy_round_trips() -> None:
    for parse, document in ((parse_release_policy, _release()), (parse_client_policy, _client())):
        data = canonical_json(document)
        assert parse(data).encode() == data


def test_the_policy_id_is_the_digest_of_the_payload() -> None:
    first = parse_release_policy(canonical_json(_release()))
    second = parse_release_policy(canonical_json(_set(_release(), "version", 2)))
    assert str(first.policy_id()).startswith("policy:")
    assert first.policy_id() != second.policy_id()


@pytest.mark.parametrize("name", ILL_FORMED)
def test_ill_formed_values_are_refused_with_their_path(name: str) -> None:
    case = ILL_FORMED[name]
    path, value, named = case["path"], case["value"], case["named"]
    with pytest.raises(ParseError) as caught:
        parse_release_policy(canonical_json(_set(_release(), path, value)))
    assert caught.value.code.name == "MALFORMED"
    assert named in caught.value.what
    assert caught.value.what.isascii()
    if path.split(".")[0] in _client():
        with pytest.raises(ParseError) as caught:
            parse_client_policy(canonical_json(_set(_client(), path, value)))
        assert named in caught.value.what


@pytest.mark.parametrize("path", _leaves(_release()))
def test_every_field_is_required(path: str) -> None:
    document = _release()
    *groups, last = path.split(".")
    inner = document
    for name in groups:
        inner = inner[name]
    del inner[last]
    # A member of a map is no field, and without its section a TEE is refused by evaluation.
    if path in {f"{SNP}.tcb_minimum.Genoa", SNP}:
        data = canonical_json(document)
        assert parse_release_policy(data).encode() == data
        return
    with pytest.raises(ParseError, match=last):
        parse_release_policy(canonical_json(document))


@pytest.mark.parametrize("path", ["", "platform.", "platform.snp.", "runtime.", "approvals."])
def test_unknown_fields_are_refused(path: str) -> None:
    with pytest.raises(ParseError, match="minimum_tcb"):
        parse_release_policy(canonical_json(_set(_release(), f"{path}minimum_tcb", "any")))


def test_one_kind_is_not_taken_for_the_other() -> None:
    with pytest.raises(ParseError):
        parse_release_policy(canonical_json(_client()))
    with pytest.raises(ParseError):
        parse_client_policy(canonical_json(_release()))
    with pytest.raises(ParseError, match="format"):
        parse_client_policy(canonical_json(_set(_client(), "format", "regalia/client-policy/v2")))
    with pytest.raises(ParseError, match="format"):
        parse_release_policy(canonical_json(_set(_release(), "format", RELEASE_FORMAT + "x" * 999)))


def test_other_spellings_are_refused() -> None:
    good = canonical_json(_release())
    for bad in (
        json.dumps(_release()).encode(),
        good + b"\n",
        good.replace(b'"holders_max":1', b'"holders_max":1,"holders_max":1'),
        good.replace(b'"holders_max":1', b'"holders_max":1.0'),
        good.replace(b'"holders_max":1', b'"holders_max":10e-1'),
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
    ):
        assert bad != good
        with pytest.raises(ParseError):
            parse_release_policy(bad)


def test_size_is_checked_before_parsing() -> None:
    with pytest.raises(ParseError) as caught:
        parse_release_policy(b" " * (LIMIT + 1))
    assert caught.value.code.name == "TOO_LARGE"


def _hex(size: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=size, max_size=size).map(bytes.hex)


def _lists(size: int) -> st.SearchStrategy[Any]:
    hexes = st.binary(min_size=size, max_size=size).filter(any).map(bytes.hex)
    return st.just("any") | st.lists(hexes, unique=True, max_size=3)


_words = st.lists(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=9).filter(
        lambda word: word != "any"
    ),
    unique=True,
    max_size=3,
)
_svn = st.integers(0, 255)
_id_block = st.fixed_dictionaries(
    {
        "id_key": _hex(48),
        "author_key": st.just("any") | _hex(48),
        "family_id": st.just("any") | _hex(16),
        "image_id": st.just("any") | _hex(16),
        "guest_svn_minimum": st.integers(0, 2**32 - 1),
    }
)


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    out = _release()
    snp = out["platform"]["snp"]
    for name, size in (("measurements", 48), ("host_data", 32), ("chip_ids", 64)):
        snp[name] = draw(_lists(size))
    tcb = st.fixed_dictionaries(
        dict.fromkeys(("fmc", "bootloader", "tee", "snp", "microcode"), _svn)
    )
    minima = draw(st.dictionaries(st.sampled_from(["Milan", "Genoa", "Turin"]), tcb))
    for product in {"Milan", "Genoa"} & set(minima):
        minima[product]["fmc"] = 0
    snp["tcb_minimum"] = draw(st.just("any") | st.just(minima))
    snp["id_blocks"] = draw(st.just("any") | st.lists(_id_block, unique_by=repr, max_size=3))
    snp["vmpl"] = draw(st.lists(st.integers(0, 3), unique=True))
    snp["mitigations_required"] = draw(st.just("any") | st.integers(0, 2**53 - 1))
    out["placement"] = {
        name: draw(st.just("any") | _words) for name in ("regions", "sites", "tiers")
    }
    out["lease_s"] = draw(st.integers(1, 31_536_000))
    out["holders_max"] = draw(st.integers(1, 1_000_000))
    return out


@given(_documents())
@settings(max_examples=60, deadline=None)
def test_every_document_round_trips(document: dict[str, Any]) -> None:
    data = canonical_json(document)
    policy = parse_release_policy(data)
    assert policy.encode() == data
    assert parse_release_policy(policy.encode()) == policy


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_parse_canonically_or_not_at_all(data: st.DataObject) -> None:
    good = bytearray(canonical_json(_release()))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] = data.draw(st.integers(0, 255))
    try:
        policy = parse_release_policy(bytes(good))
    except ParseError:
        return
    assert policy.encode() == bytes(good)


def test_bits_stand_where_the_abi_says() -> None:
    """SEV-SNP firmware ABI, tables of POLICY and PLATFORM_INFO."""
    assert bit(0xB0000, GuestPolicyBit.DEBUG)
    assert not bit(0x30000, GuestPolicyBit.DEBUG)
    assert bit(1 << 18, GuestPolicyBit.MIGRATE_MA)
    assert bit(0x20, PlatformInfoBit.ALIAS_CHECK_COMPLETE)
    assert not bit(0xDF, PlatformInfoBit.ALIAS_CHECK_COMPLETE)
