"""Signed results: any reader of RFC 7515 can verify them, and nothing but the key chooses how."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import IntegrityError, ParseError, RegaliaError
from regalia.crypto.jws import LIMIT, sign_compact, verify_compact
from regalia.crypto.sign import SigningKey

KEYS = {"EdDSA": SigningKey.generate_ed25519(), "ES384": SigningKey.generate_p384()}
TYP = "eat+jwt"


def _part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", KEYS)
def test_another_implementation_verifies(algorithm: str) -> None:
    key = KEYS[algorithm]
    header, payload, signature = sign_compact(b"{}", key, typ=TYP).split(".")
    assert json.loads(_part(header)) == {
        "alg": algorithm,
        "kid": str(key.verify_key.fingerprint),
        "typ": TYP,
    }
    assert _part(payload) == b"{}"
    public = load_der_public_key(key.verify_key.spki)
    signed, raw = f"{header}.{payload}".encode(), _part(signature)
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(raw, signed)
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        r, s = int.from_bytes(raw[:48], "big"), int.from_bytes(raw[48:], "big")
        public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA384()))


@given(st.binary(max_size=100), st.sampled_from(sorted(KEYS)))
def test_verify_inverts_sign(payload: bytes, algorithm: str) -> None:
    token = sign_compact(payload, KEYS[algorithm], typ=TYP)
    keys = [key.verify_key for key in KEYS.values()]
    assert verify_compact(token, keys, typ=TYP) == payload


@pytest.mark.parametrize("algorithm", KEYS)
def test_no_altered_character_is_accepted(algorithm: str) -> None:
    key = KEYS[algorithm]
    token = sign_compact(b'{"a":1}', key, typ=TYP)
    for at, char in enumerate(token):
        for other in "Aw_.":
            if other == char:
                continue
            with pytest.raises(RegaliaError):
                verify_compact(token[:at] + other + token[at + 1 :], [key.verify_key], typ=TYP)


def test_who_signs_and_how_is_the_readers_choice() -> None:
    ed, p384 = KEYS["EdDSA"], KEYS["ES384"]
    token = sign_compact(b"{}", ed, typ=TYP)
    for keys in ([], [p384.verify_key]):
        with pytest.raises(IntegrityError) as refusal:
            verify_compact(token, keys, typ=TYP)
        assert refusal.value.code.name == "SIGNER_UNKNOWN"
    header = {"alg": "none", "kid": str(ed.verify_key.fingerprint), "typ": TYP}
    _, payload, signature = token.split(".")
    forged = f"{_b64(json.dumps(header).encode())}.{payload}.{signature}"
    with pytest.raises(IntegrityError) as refusal:
        verify_compact(forged, [ed.verify_key], typ=TYP)
    assert refusal.value.code.name == "SIGNER_UNKNOWN"


@pytest.mark.parametrize(
    "token",
    ["", "a.b", "a.b.c.d", "..", "e30.e30.e30", "\xff.e30.e30", "e30=.e30.", "A" * (LIMIT + 1)],
    ids=["empty", "two", "four", "dots", "no header", "latin", "padding", "large"],
)
def test_malformed_tokens(token: str) -> None:
    with pytest.raises(ParseError):
        verify_compact(token, [KEYS["EdDSA"].verify_key], typ=TYP)


def test_another_type_is_refused() -> None:
    token = sign_compact(b"{}", KEYS["EdDSA"], typ="JWT")
    with pytest.raises(ParseError, match="typ"):
        verify_compact(token, [KEYS["EdDSA"].verify_key], typ=TYP)
