from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import IntegrityError, KeyAccessError, ParseError
from regalia.core.secret import SecretBytes
from regalia.crypto import dsse
from regalia.crypto.sign import SigningKey, VerifyKey

TYPE = "application/x-test"
ED = SigningKey.generate_ed25519()
EC = SigningKey.generate_p384()
OTHER = SigningKey.generate_ed25519()


@pytest.mark.parametrize("key", [ED, EC])
def test_signatures_hold_and_every_changed_byte_is_seen(key: SigningKey) -> None:
    message = b"message"
    signature = key.sign(message)
    key.verify_key.verify(signature, message)
    for i in range(len(message)):
        with pytest.raises(IntegrityError):
            key.verify_key.verify(
                signature, message[:i] + bytes([message[i] ^ 1]) + message[i + 1 :]
            )
    for i in range(len(signature)):
        bad = signature[:i] + bytes([signature[i] ^ 1]) + signature[i + 1 :]
        with pytest.raises(IntegrityError):
            key.verify_key.verify(bad, message)


@pytest.mark.parametrize("key", [ED, EC])
@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_keys_survive_their_files(key: SigningKey, passphrase: bytes | None) -> None:
    secret = None if passphrase is None else SecretBytes.copy_of(passphrase)
    again = SigningKey.from_pem(key.to_pem(secret), secret)
    assert again.verify_key == key.verify_key
    assert VerifyKey.from_pem(key.verify_key.to_pem()) == key.verify_key


def test_a_wrong_passphrase_is_a_key_access_error() -> None:
    pem = ED.to_pem(SecretBytes.copy_of(b"right"))
    for wrong in (SecretBytes.copy_of(b"wrong"), None):
        with pytest.raises(KeyAccessError):
            SigningKey.from_pem(pem, wrong)


def test_other_kinds_of_key_are_refused() -> None:
    p256 = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = p256.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(ParseError):
        VerifyKey.from_pem(pem)
    with pytest.raises(ParseError):
        VerifyKey.from_pem(b"nonsense")


def test_a_private_key_of_another_curve_is_no_signing_key() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(KeyAccessError, match="SIGNING_KEY_UNUSABLE"):
        SigningKey.from_pem(pem, None)


def test_a_signed_document_names_a_key_in_its_one_encoding() -> None:
    """A file in PEM is carried by people, and may have another."""
    point = serialization.load_der_public_key(EC.verify_key.spki)
    assert isinstance(point, ec.EllipticCurvePublicKey)
    long = point.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    short = point.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    head = EC.verify_key.spki.removesuffix(long)
    hybrid = bytes([6 + (long[-1] & 1)]) + long[1:]
    less = len(long) - len(short)
    compressed = bytes([head[0], head[1] - less, *head[2:-2], head[-2] - less, head[-1]]) + short
    assert VerifyKey.from_der(EC.verify_key.spki) == EC.verify_key
    assert serialization.load_der_public_key(compressed) == point
    for other in (compressed, head + hybrid, EC.verify_key.spki + b"\0"):
        with pytest.raises(ParseError, match="PUBLIC_KEY_MALFORMED"):
            VerifyKey.from_der(other)


def test_pae_is_the_published_one() -> None:
    # secure-systems-lab/dsse, protocol.md, test vector.
    want = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == want


def test_an_envelope_verifies_and_round_trips() -> None:
    envelope = dsse.sign(TYPE, b"payload", (ED, EC))
    assert dsse.parse_envelope(envelope.encode(), what="x") == envelope
    trusted = (ED.verify_key, EC.verify_key)
    assert envelope.verify(TYPE, trusted, threshold=2) == b"payload"


@pytest.mark.parametrize(
    ("keys", "trusted", "threshold", "code"),
    [
        ((), (ED,), 1, "UNSIGNED"),
        ((OTHER,), (ED,), 1, "SIGNER_UNKNOWN"),
        ((ED,), (), 1, "SIGNER_UNKNOWN"),
        ((ED,), (ED, EC), 2, "SIGNER_UNKNOWN"),
    ],
)
def test_too_few_trusted_signatures(
    keys: tuple[SigningKey, ...], trusted: tuple[SigningKey, ...], threshold: int, code: str
) -> None:
    envelope = dsse.sign(TYPE, b"payload", keys)
    with pytest.raises(IntegrityError) as caught:
        envelope.verify(TYPE, tuple(k.verify_key for k in trusted), threshold=threshold)
    assert caught.value.code.name == code


def test_one_key_cannot_count_twice() -> None:
    envelope = dsse.sign(TYPE, b"payload", (ED, ED))
    with pytest.raises(IntegrityError):
        envelope.verify(TYPE, (ED.verify_key, EC.verify_key), threshold=2)
    with pytest.raises(ParseError):
        dsse.parse_envelope(envelope.encode(), what="x")


def test_a_swapped_type_or_payload_is_seen() -> None:
    envelope = dsse.sign(TYPE, b"payload", (ED,))
    with pytest.raises(IntegrityError) as caught:
        envelope.verify("application/x-other", (ED.verify_key,), threshold=1)
    assert caught.value.code.name == "WRONG_PAYLOAD_TYPE"
    swapped = dsse.Envelope(TYPE, b"payloae", envelope.signatures)
    with pytest.raises(IntegrityError) as caught:
        swapped.verify(TYPE, (ED.verify_key,), threshold=1)
    assert caught.value.code.name == "SIGNATURE_INVALID"


def test_a_threshold_of_zero_is_a_programmers_error() -> None:
    with pytest.raises(ValueError, match="threshold"):
        dsse.sign(TYPE, b"p", (ED,)).verify(TYPE, (ED.verify_key,), threshold=0)


@given(st.binary(max_size=200))
def test_the_parser_raises_nothing_but_parse_errors(data: bytes) -> None:
    with pytest.raises(ParseError):
        dsse.parse_envelope(data, what="x")
