"""Pairs of keys of which both must sign: what holds, and everything that must not."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import IntegrityError, KeyAccessError, ParseError
from regalia.core.secret import SecretBytes
from regalia.crypto import dsse, jws
from regalia.crypto.composite import (
    COMBINATIONS,
    ML_DSA_KEY_SIZE,
    ML_DSA_SIGNATURE_SIZE,
    WITH_ED25519,
    CompositePrivateKey,
    parse_composite,
)
from regalia.crypto.sign import SigningKey, VerifyKey

if TYPE_CHECKING:
    from collections.abc import Callable

ML_DSA = MLDSA65PrivateKey.generate()
ED25519 = ed25519.Ed25519PrivateKey.generate()
PAIR = SigningKey(CompositePrivateKey(ML_DSA, ED25519))
WITH_P384 = SigningKey.generate_ml_dsa_65_p384()
PAIRS = pytest.mark.parametrize("key", [PAIR, WITH_P384], ids=["Ed25519", "P-384"])
MESSAGE = b"the owner's manifest"
SIGNED = PAIR.sign(MESSAGE)


def refused(key: VerifyKey, signature: bytes, message: bytes = MESSAGE) -> None:
    with pytest.raises(IntegrityError) as caught:
        key.verify(signature, message)
    assert caught.value.code.name == "SIGNATURE_INVALID"


@PAIRS
def test_both_parts_sign(key: SigningKey) -> None:
    key.verify_key.verify(key.sign(MESSAGE), MESSAGE)
    assert key.verify_key.post_quantum
    refused(key.verify_key, key.sign(MESSAGE), MESSAGE + b"x")


def test_other_keys_are_not_called_post_quantum() -> None:
    for key in (SigningKey.generate_ed25519(), SigningKey.generate_p384()):
        assert not key.verify_key.post_quantum


OTHER = SigningKey(CompositePrivateKey(MLDSA65PrivateKey.generate(), ED25519)).sign(MESSAGE)
ELSEWHERE = SigningKey(CompositePrivateKey(ML_DSA, ed25519.Ed25519PrivateKey.generate())).sign(
    MESSAGE
)
DEFECTS: dict[str, bytes] = {
    "ML-DSA's part by another key": OTHER[:ML_DSA_SIGNATURE_SIZE] + SIGNED[ML_DSA_SIGNATURE_SIZE:],
    "the classical part by another key": (
        SIGNED[:ML_DSA_SIGNATURE_SIZE] + ELSEWHERE[ML_DSA_SIGNATURE_SIZE:]
    ),
    "no classical part": SIGNED[:ML_DSA_SIGNATURE_SIZE],
    "no part of ML-DSA": SIGNED[ML_DSA_SIGNATURE_SIZE:],
    "parts in the other order": SIGNED[ML_DSA_SIGNATURE_SIZE:] + SIGNED[:ML_DSA_SIGNATURE_SIZE],
    "the classical part over the message itself": (
        SIGNED[:ML_DSA_SIGNATURE_SIZE] + ED25519.sign(MESSAGE)
    ),
    "ML-DSA's part over the message itself": (
        ML_DSA.sign(MESSAGE, WITH_ED25519.label) + SIGNED[ML_DSA_SIGNATURE_SIZE:]
    ),
    "ML-DSA's part without its context": (
        ML_DSA.sign(WITH_ED25519.message(MESSAGE)) + SIGNED[ML_DSA_SIGNATURE_SIZE:]
    ),
    "a byte more": SIGNED + b"\0",
    "a byte less": SIGNED[:-1],
    "nothing": b"",
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_signature_with_one_defect(name: str) -> None:
    refused(PAIR.verify_key, DEFECTS[name])


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_every_byte_of_a_signature_counts(place: int, change: int) -> None:
    changed = bytearray(SIGNED)
    changed[place] ^= change
    refused(PAIR.verify_key, bytes(changed))


def test_a_part_is_no_signature_of_a_single_key() -> None:
    """Whoever strips a document of ML-DSA's part has nothing that an older reader would take."""
    single = SigningKey(ED25519).verify_key
    refused(single, SIGNED[ML_DSA_SIGNATURE_SIZE:])
    refused(single, SIGNED)
    refused(PAIR.verify_key, ED25519.sign(MESSAGE))


def test_one_combination_is_not_another() -> None:
    assert len({each.label for each in COMBINATIONS}) == len(COMBINATIONS)
    assert len({each.oid for each in COMBINATIONS}) == len(COMBINATIONS)
    refused(WITH_P384.verify_key, SIGNED)
    refused(PAIR.verify_key, WITH_P384.sign(MESSAGE))


# Public keys -----------------------------------------------------------------------------------


@PAIRS
def test_public_keys_come_back(key: SigningKey) -> None:
    public = key.verify_key
    assert VerifyKey.from_der(public.spki) == public
    assert VerifyKey.from_pem(public.to_pem()) == public
    assert VerifyKey.from_pem(b"the owner's:\r\n" + public.to_pem()) == public
    assert str(public.fingerprint) == f"key:{hashlib.sha256(public.spki).hexdigest()}"


def test_the_encoding_is_der() -> None:
    """Against lengths that are counted by hand: 1,984 bytes of keys, and what is before them."""
    keys = ML_DSA.public_key().public_bytes_raw() + ED25519.public_key().public_bytes_raw()
    spki = PAIR.verify_key.spki
    assert spki[21:] == keys
    assert spki[:2] == b"\x30\x82"
    assert int.from_bytes(spki[2:4]) == len(spki) - 4
    assert spki[4:16] == bytes.fromhex("300a06082b06010505070630")
    assert spki[16:21] == bytes.fromhex("038207c100")
    assert WITH_P384.verify_key.spki[4:16] == bytes.fromhex("300a06082b0601050507062e")


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "a byte more": lambda spki: spki + b"\0",
    "a byte less": lambda spki: spki[:-1],
    "unused bits": lambda spki: spki[:20] + b"\1" + spki[21:],
    "another combination": lambda spki: spki[:15] + b"\x2e" + spki[16:],
    "another length": lambda spki: spki[:3] + bytes([spki[3] ^ 1]) + spki[4:],
    "ML-DSA alone": lambda _: ML_DSA.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    ),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_public_keys_that_are_none(name: str) -> None:
    with pytest.raises(ParseError) as caught:
        VerifyKey.from_der(MALFORMED[name](PAIR.verify_key.spki))
    assert caught.value.code.name == "PUBLIC_KEY_MALFORMED"


def test_a_point_that_is_not_on_the_curve() -> None:
    spki = bytearray(WITH_P384.verify_key.spki)
    spki[-1] ^= 1
    with pytest.raises(ParseError, match="PUBLIC_KEY_MALFORMED"):
        VerifyKey.from_der(bytes(spki))
    point = 21 + ML_DSA_KEY_SIZE
    spki[-1] ^= 1
    spki[point] = 2  # a compressed point has another size
    with pytest.raises(ParseError, match="PUBLIC_KEY_MALFORMED"):
        VerifyKey.from_der(bytes(spki))


def test_what_is_no_pair_is_left_to_others() -> None:
    assert parse_composite(SigningKey(ED25519).verify_key.spki) is None
    assert parse_composite(b"") is None


# Private keys ----------------------------------------------------------------------------------


@PAIRS
@pytest.mark.parametrize("passphrase", [None, b"crown jewels"])
def test_private_keys_come_back(key: SigningKey, passphrase: bytes | None) -> None:
    secret = None if passphrase is None else SecretBytes.copy_of(passphrase)
    pem = key.to_pem(secret)
    assert (b"ENCRYPTED" in pem) == (passphrase is not None)
    again = SigningKey.from_pem(pem, secret)
    assert again.verify_key == key.verify_key
    key.verify_key.verify(again.sign(MESSAGE), MESSAGE)


def block(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


FILES: dict[str, bytes] = {
    "ML-DSA-65 alone": block(ML_DSA),
    "in the other order": block(ED25519) + block(ML_DSA),
    "ML-DSA-44": block(MLDSA44PrivateKey.generate()) + block(ED25519),
    "three keys": block(ML_DSA) + block(ML_DSA) + block(ED25519),
    "two classical keys": block(ED25519) + block(ED25519),
    "two of ML-DSA-65": block(ML_DSA) + block(ML_DSA),
    "the second cut": block(ML_DSA) + block(ED25519)[:60] + b"\n-----END PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_hold_no_pair(name: str) -> None:
    with pytest.raises(KeyAccessError) as caught:
        SigningKey.from_pem(FILES[name], None)
    assert caught.value.code.name == "SIGNING_KEY_UNUSABLE"


# Documents -------------------------------------------------------------------------------------


@PAIRS
def test_documents_are_signed_by_pairs(key: SigningKey) -> None:
    sealed = dsse.sign("application/x", b"{}", (key, SigningKey(ED25519)))
    data = dsse.parse_envelope(sealed.encode(), what="document")
    both = (key.verify_key, SigningKey(ED25519).verify_key)
    assert data.verify("application/x", both, threshold=2) == b"{}"
    with pytest.raises(IntegrityError, match="SIGNER_UNKNOWN"):
        data.verify("application/x", both[:1], threshold=2)


def test_tokens_are_not() -> None:
    """JWS has no name for such keys; one of its names would promise less than the key does."""
    with pytest.raises(IntegrityError, match="SIGNER_UNKNOWN"):
        jws.sign_compact(b"{}", PAIR, typ="eat+jwt")
