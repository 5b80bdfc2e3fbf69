"""TPM structures: every encoder is the inverse of its parser, and nothing else parses."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg, sized
from regalia.tees.tpm.evidence.public import (
    Attribute,
    EccParameters,
    parse_public,
    parse_sized_public,
)
from regalia.tees.tpm.evidence.wire import (
    EcdsaSignature,
    PcrSelection,
    Quote,
    parse_quote,
    parse_signature,
)
from regalia_testing.mutation import truncated
from regalia_testing.tees.tpm.strategies import public_areas, quotes, selections, signatures

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.tees.tpm.evidence.public import PublicArea
    from regalia.tees.tpm.evidence.wire import RsaSignature

# Hand-made from Part 2's tables: 4 bytes of magic, 2 of type, empty signer, nonce "n", ...
QUOTE = bytes.fromhex(
    "ff544347"  # magic
    "8018"  # type
    "0004 40000001"  # qualifiedSigner: a handle
    "0001 6e"  # extraData
    "0000000000000102"  # clock
    "00000003"  # resetCount
    "00000004"  # restartCount
    "01"  # safe
    "0000000500000006"  # firmwareVersion
    "00000001 000b 03 010080"  # PCR 0 and 23 of the SHA-256 bank
    "0002 abcd"  # pcrDigest
)
# tpm2-tools' ECC EK template (L-2), less its point.
EK_PUBLIC = bytes.fromhex(
    "0023 000b 000300b2 0020"
    "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
    "0006 0080 0043 0010 0003 0010 0020" + "11" * 32 + "0020" + "22" * 32
)


def test_quote_fields() -> None:
    quote = parse_quote(QUOTE)
    assert quote == Quote(
        qualified_signer=b"\x40\x00\x00\x01",
        extra_data=b"n",
        clock=0x102,
        reset_count=3,
        restart_count=4,
        safe=True,
        firmware_version=0x500000006,
        selection=(PcrSelection(HashAlg.SHA256, b"\x01\x00\x80"),),
        pcr_digest=b"\xab\xcd",
    )
    assert quote.selection[0].pcrs == (0, 23)
    assert quote.encode() == QUOTE


def test_public_fields() -> None:
    public = parse_public(EK_PUBLIC)
    assert public.attributes == (
        Attribute.FIXED_TPM
        | Attribute.FIXED_PARENT
        | Attribute.SENSITIVE_DATA_ORIGIN
        | Attribute.ADMIN_WITH_POLICY
        | Attribute.RESTRICTED
        | Attribute.DECRYPT
    )
    assert isinstance(public.parameters, EccParameters)
    assert public.parameters.aes_bits == 128
    assert public.name == b"\x00\x0b" + hashlib.sha256(EK_PUBLIC).digest()
    assert parse_sized_public(sized(EK_PUBLIC)) == public


@given(quotes())
def test_quotes_round_trip(quote: Quote) -> None:
    assert parse_quote(quote.encode()) == quote


@given(signatures())
def test_signatures_round_trip(signature: RsaSignature | EcdsaSignature) -> None:
    assert parse_signature(signature.encode()) == signature


@given(public_areas())
def test_public_areas_round_trip(public: PublicArea) -> None:
    assert parse_public(public.encode()) == public


@given(selections())
def test_selections_round_trip(selection: tuple[PcrSelection, ...]) -> None:
    quote = replace(parse_quote(QUOTE), selection=selection)
    assert b"".join(bank.encode() for bank in selection) in quote.encode()
    assert parse_quote(quote.encode()) == quote


@given(st.binary(max_size=200))
def test_what_parses_is_canonical(data: bytes) -> None:
    for parse in (parse_quote, parse_signature, parse_public):
        try:
            value = parse(data)
        except ParseError:
            continue
        assert value.encode() == data


@given(st.data())
def test_damaged_structures_never_end_in_anything_but_a_refusal(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from((QUOTE, EK_PUBLIC)))
    at = data.draw(st.integers(0, len(whole) - 1))
    altered = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :]
    for parse in (parse_quote, parse_public, parse_signature):
        try:
            assert parse(altered).encode() == altered
        except ParseError:
            continue


@pytest.mark.parametrize(("parse", "whole"), [(parse_quote, QUOTE), (parse_public, EK_PUBLIC)])
def test_no_prefix_and_no_longer_one_parses(parse: Callable[[bytes], object], whole: bytes) -> None:
    for what, altered in truncated(whole):
        with pytest.raises(ParseError):
            assert parse(altered) is None, what


@pytest.mark.parametrize(
    ("at", "new", "code"),
    [
        (0, "fe", "MALFORMED"),  # magic
        (4, "8017", "MALFORMED"),  # TPM_ST_ATTEST_CERTIFY
        (6, "0043", "MALFORMED"),  # a name of 67 bytes
        (6, "0005", "MALFORMED"),  # a name that is neither handle nor digest
        (31, "02", "MALFORMED"),  # safe is no yes or no
        (40, "ffffffff", "MALFORMED"),  # four billion banks
        (44, "0012", "MALFORMED"),  # SM3
        (46, "05", "MALFORMED"),  # a bitmap of five bytes
        (46, "02", "MALFORMED"),
    ],
)
def test_quote_refused(at: int, new: str, code: str) -> None:
    altered = bytearray(QUOTE)
    patch = bytes.fromhex(new)
    altered[at : at + len(patch)] = patch
    with pytest.raises(ParseError) as refusal:
        parse_quote(bytes(altered))
    assert refusal.value.code.name == code


def test_a_bank_selected_twice_is_refused() -> None:
    bank = PcrSelection.of(HashAlg.SHA256, frozenset({1}))
    quote = replace(parse_quote(QUOTE), selection=(bank, bank))
    with pytest.raises(ParseError, match="twice"):
        parse_quote(quote.encode())


def test_trailing_bytes_have_their_code() -> None:
    with pytest.raises(ParseError) as refusal:
        parse_quote(QUOTE + b"\x00")
    assert refusal.value.code.name == "TRAILING_DATA"


@pytest.mark.parametrize(
    ("at", "new", "code"),
    [
        (0, "0008", "MALFORMED"),  # a keyed hash
        (2, "0010", "MALFORMED"),  # no name hash
        (4, "800300b2", "RESERVED_BIT_SET"),
        (8, "001f", "MALFORMED"),  # a policy of 31 bytes
        (42, "0013", "MALFORMED"),  # SM4
        (44, "0081", "MALFORMED"),  # 129 bits
        (46, "0042", "MALFORMED"),  # CBC
        (48, "0014", "MALFORMED"),  # a scheme without its hash shifts all that follows
        (50, "0001", "MALFORMED"),  # P-192
        (52, "0020", "MALFORMED"),  # a KDF
        (54, "001f", "MALFORMED"),  # a short coordinate
    ],
)
def test_public_refused(at: int, new: str, code: str) -> None:
    altered = bytearray(EK_PUBLIC)
    patch = bytes.fromhex(new)
    altered[at : at + len(patch)] = patch
    with pytest.raises(ParseError) as refusal:
        parse_public(bytes(altered))
    assert refusal.value.code.name == code


def test_rsa_keys_have_the_size_they_say() -> None:
    head = bytes.fromhex("0001 000b 00050072 0000 0010 0014 000b 0800 00000000 00ff")
    with pytest.raises(ParseError, match="255 bytes for 2048 bits"):
        parse_public(head + bytes(255))
    small = bytes.fromhex("0001 000b 00050072 0000 0010 0014 000b 0400 00000000 0080")
    with pytest.raises(ParseError, match="1024 bits"):
        parse_public(small + bytes(128))


def test_signatures_are_bounded() -> None:
    head = bytes.fromhex("0014 000b 0201")
    with pytest.raises(ParseError, match="at most 512"):
        parse_signature(head + bytes(0x201))
    with pytest.raises(ParseError, match="not known"):
        parse_signature(bytes.fromhex("001a 000b 0001 00"))  # ECDAA
    assert parse_signature(bytes.fromhex("0018 000c 0001 05 0002 0006")) == EcdsaSignature(
        HashAlg.SHA384, b"\x05", b"\x00\x06"
    )
    assert SignatureAlg.ECDSA == 0x18
