"""The documents around a TPM: quote, enrolment, and the steps of an enrolment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given

from regalia.appraisal.claims import Hardware
from regalia.core.errors import ParseError
from regalia.tees.tpm.evidence.document import TpmQuote, parse_tpm_quote, qualifying_data
from regalia.tees.tpm.evidence.enrol_steps import (
    Credential,
    EnrolmentRequest,
    answer_data,
    parse_challenge,
    parse_request,
)
from regalia.tees.tpm.evidence.enrolment import Enrolment, parse_enrolment
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.tees.tpm.model import TpmModel
from regalia_testing.tees.tpm.strategies import tpm_quotes

QUOTE = TpmQuote(b"quoted", b"signature", b"public", {HashAlg.SHA256: {4: b"\x01" * 32}})
ENROLMENT = Enrolment(
    ak_name=b"\x00\x0b" + b"\x01" * 32,
    ek_certificates=(b"leaf", b"issuer"),
    ek_public=b"public",
    model=TpmModel("id:58595A00", "XYZ", "id:1"),
    reset_count=3,
    enrolled_at=datetime(2026, 11, 22, tzinfo=UTC),
    hardware=Hardware.GENUINE,
)


@given(tpm_quotes())
def test_quotes_round_trip(quote: TpmQuote) -> None:
    assert parse_tpm_quote(quote.encode()) == quote


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"tpm-quote/v1", b"tpm-quote/v2"),
        (b'"sha256"', b'"sha-256"'),
        (b'"sha256"', b'"sm3"'),
        (b'"4"', b'"04"'),
        (b'"4"', b'"32"'),
        (b'"4"', b'"-1"'),
        (b'"4"', b'"\xd9\xa4"'),  # a digit of another script
        (b'"4":"01', b'"4":"'),
        (b"0101", b"01 01"),
        (b'"pcrs"', b'"extra":1,"pcrs"'),
        (b"{", b"{ "),
    ],
)
def test_quotes_refused(old: bytes, new: bytes) -> None:
    assert old in QUOTE.encode()
    with pytest.raises(ParseError):
        parse_tpm_quote(QUOTE.encode().replace(old, new, 1))


def test_enrolments_round_trip() -> None:
    assert parse_enrolment(ENROLMENT.encode()) == ENROLMENT


@pytest.mark.parametrize(
    "wrong",
    [
        replace(ENROLMENT, ak_name=b""),
        replace(ENROLMENT, ek_certificates=()),
        replace(ENROLMENT, ek_certificates=(b"x",) * 9),
        replace(ENROLMENT, reset_count=-1),
        replace(ENROLMENT, reset_count=2**32),
        replace(ENROLMENT, model=TpmModel("m" * 129, "", "")),
    ],
)
def test_enrolments_refused(wrong: Enrolment) -> None:
    with pytest.raises(ParseError):
        parse_enrolment(wrong.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"enrolment/v1", b"enrolment/v0"),
        (b'"genuine"', b'"real"'),
        (b"2026-11-22T00:00:00Z", b"2026-11-22T0:00:00Z"),
        (b"2026-11-22T00:00:00Z", b"2026-11-22"),
    ],
)
def test_enrolment_texts_refused(old: bytes, new: bytes) -> None:
    assert old in ENROLMENT.encode()
    with pytest.raises(ParseError):
        parse_enrolment(ENROLMENT.encode().replace(old, new))


def test_steps_round_trip_and_are_not_each_other() -> None:
    request = EnrolmentRequest(b"ak", b"ek", (b"certificate",))
    challenge = Credential(b"id", b"secret")
    assert parse_request(request.encode()) == request
    assert parse_challenge(challenge.encode()) == challenge
    for parse, data in (
        (parse_request, challenge.encode()),
        (parse_challenge, request.encode()),
        (parse_request, request.encode().replace(b"request/v1", b"request/v2")),
        (parse_request, replace(request, ek_certificates=(b"",) * 9).encode()),
        (parse_challenge, challenge.encode().replace(b"challenge/v1", b"challenge/v2")),
    ):
        with pytest.raises(ParseError):
            parse(data)


def test_qualifying_data_is_for_one_purpose() -> None:
    assert len(qualifying_data(bytes(64))) == 32
    assert qualifying_data(bytes(64)) != answer_data(bytes(64))
    with pytest.raises(ValueError, match="63 bytes"):
        qualifying_data(bytes(63))
