"""CMS as AWS KMS makes it, and everything else, which is refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import IntegrityError, ParseError
from regalia.core.secret import SecretBytes
from regalia.crypto import cms
from regalia.crypto.cms import LIMIT, Enveloped, parse_enveloped
from regalia.crypto.key_wrapping import KeyWrappingCode, open_wrapped, wrap_to
from regalia_testing.kms.envelopes import (
    NULL,
    algorithm,
    element,
    envelope,
    oaep_parameters,
    open_ended,
    sealed_to,
)

WRAPPING = "cms-rsa-oaep-sha256-aes256-cbc"
KEY, IV, BODY = b"k" * 384, b"i" * 16, b"c" * 48
HEALTHY = envelope(KEY, IV, BODY)
SHA1 = bytes.fromhex("2b0e03021a")


def rebuilt(
    *,
    kind: bytes = cms.ENVELOPED_DATA,
    version: bytes = b"\x02",
    recipients: int = 1,
    recipient_version: bytes = b"\x02",
    scheme: bytes = cms.RSAES_OAEP,
    cipher: bytes = cms.AES256_CBC,
    content: bytes = cms.DATA,
    more: bytes = b"",
) -> bytes:
    """The healthy envelope, all in definite lengths, but for one thing."""
    recipient = element(
        0x30,
        element(0x02, recipient_version),
        element(0x80, b"i" * 32),
        algorithm(scheme, oaep_parameters()),
        element(0x04, KEY),
    )
    body = element(
        0x30,
        element(0x06, content),
        algorithm(cipher, element(0x04, IV)),
        element(0x80, BODY),
    )
    enveloped = element(
        0x30, element(0x02, version), element(0x31, *([recipient] * recipients)), body, more
    )
    return element(0x30, element(0x06, kind), element(0xA0, enveloped))


def test_what_kms_makes_and_the_same_in_definite_lengths() -> None:
    assert parse_enveloped(HEALTHY) == Enveloped(KEY, IV, BODY)
    assert parse_enveloped(rebuilt()) == Enveloped(KEY, IV, BODY)


def test_a_ciphertext_in_pieces() -> None:
    whole = open_ended(0xA0, element(0x04, BODY))
    pieces = open_ended(0xA0, element(0x04, BODY[:16]), element(0x04, BODY[16:]))
    assert parse_enveloped(HEALTHY.replace(whole, pieces)).ciphertext == BODY


REFUSED = {
    "nothing": b"",
    "cut": HEALTHY[:-1],
    "longer": HEALTHY + b"\x00",
    "too large": HEALTHY + bytes(LIMIT),
    "not enveloped data": rebuilt(kind=cms.DATA),
    "another version": rebuilt(version=b"\x00"),
    "another version of the recipient": rebuilt(recipient_version=b"\x00"),
    "no recipient": rebuilt(recipients=0),
    "two recipients": rebuilt(recipients=2),
    "RSA of PKCS #1 v1.5": rebuilt(scheme=bytes.fromhex("2a864886f70d010101")),
    "another cipher": rebuilt(cipher=bytes.fromhex("608648016503040102")),
    "other content": rebuilt(content=cms.ENVELOPED_DATA),
    "attributes": rebuilt(more=element(0xA1, NULL)),
    "SHA-1": envelope(KEY, IV, BODY, parameters=oaep_parameters(SHA1)),
    "no parameters": envelope(KEY, IV, BODY, parameters=element(0x30)),
    "a short IV": envelope(KEY, IV[:-1], BODY),
    "a size with a zero in front": element(0x30, b"").replace(b"\x30\x00", b"\x30\x82\x00\x00"),
    "a size of four bytes": b"\x30\x84\x00\x00\x00\x01\x00",
    "a primitive without an end": HEALTHY.replace(b"\x04\x30" + BODY, b"\x04\x80" + BODY),
    "nested too deep": b"\x30\x80" * 2000,
}


@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_is_refused(name: str) -> None:
    with pytest.raises(ParseError):
        parse_enveloped(REFUSED[name])


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_enveloped(data)


@given(st.integers(min_value=0, max_value=len(HEALTHY) - 1), st.integers(1, 255))
def test_a_changed_byte_changes_what_is_read_or_is_refused(at: int, change: int) -> None:
    changed = HEALTHY[:at] + bytes((HEALTHY[at] ^ change,)) + HEALTHY[at + 1 :]
    try:
        found = parse_enveloped(changed)
    except ParseError:
        return
    identifier = HEALTHY.index(b"i" * 32)
    assert found != Enveloped(KEY, IV, BODY) or identifier <= at < identifier + 32


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 3072)


def test_it_opens_for_its_recipient_only(private: rsa.RSAPrivateKey) -> None:
    sealed = sealed_to(private.public_key(), b"k" * 32)
    with open_wrapped(WRAPPING, SecretBytes(bytearray(sealed)), private) as key:
        assert bytes(key.view()) == b"k" * 32
    other = rsa.generate_private_key(65537, 3072)
    for data, opener in ((sealed, other), (sealed[:-1], private), (HEALTHY, private)):
        with pytest.raises(IntegrityError) as caught:
            open_wrapped(WRAPPING, SecretBytes(bytearray(data)), opener)
        assert caught.value.code is KeyWrappingCode.KEY_WRAPPING_FAILED


def test_nobody_but_kms_makes_it(private: rsa.RSAPrivateKey) -> None:
    with pytest.raises(IntegrityError):
        wrap_to(WRAPPING, SecretBytes(bytearray(32)), private.public_key())
