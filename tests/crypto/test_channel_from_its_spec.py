"""A second reader of the sealed channel, written from docs/spec/sealed-channel.md alone.

It shares no code with the package: HMAC, SHA-3 and the primitives of ``cryptography``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VECTORS = Path(__file__).parents[1] / "vectors"
EXCHANGE = json.loads((VECTORS / "ohttp" / "x-wing.json").read_text())
(KEYS,) = json.loads((VECTORS / "hpke" / "draft-ietf-hpke-pq.json").read_text())["vectors"]
SUITE = b"HPKE" + bytes.fromhex("647a00010002")


def extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def expand(prk: bytes, info: bytes, size: int) -> bytes:
    assert size <= 32
    return hmac.digest(prk, info + b"\x01", "sha256")[:size]


def le(salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + SUITE + label + ikm)


def lx(prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return expand(prk, size.to_bytes(2) + b"HPKE-v1" + SUITE + label + info, size)


def kem_secret(enc: bytes) -> bytes:
    seed = hashlib.shake_256(bytes.fromhex(KEYS["skRm"])).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:64])
    x25519 = X25519PrivateKey.from_private_bytes(seed[64:])
    ct_m, ct_x = enc[:1088], enc[1088:]
    ss_x = x25519.exchange(X25519PublicKey.from_public_bytes(ct_x))
    pk_x = x25519.public_key().public_bytes_raw()
    parts = mlkem.decapsulate(ct_m) + ss_x + ct_x + pk_x + bytes.fromhex("5c2e2f2f5e5c")
    return hashlib.sha3_256(parts).digest()


def open_chunks(key: bytes, base: bytes, data: bytes) -> bytes:
    message, index = b"", 0
    while True:
        size = 1 << (data[0] >> 6)
        length = int.from_bytes(data[:size]) & ((1 << (8 * size - 2)) - 1)
        data = data[size:]
        nonce = bytes(a ^ b for a, b in zip(base, index.to_bytes(12), strict=True))
        if length == 0:
            return message + AESGCM(key).decrypt(nonce, data, b"final")
        message += AESGCM(key).decrypt(nonce, data[:length], b"")
        data, index = data[length:], index + 1


def test_a_reader_written_from_the_spec_opens_the_example() -> None:
    request = bytes.fromhex("".join(EXCHANGE["encapsulated_request"]))
    header, enc, chunks = request[:7], request[7:1127], request[1127:]
    secret = kem_secret(enc)
    info = b"message/bhttp chunked request\x00" + header
    context = b"\x00" + le(b"", b"psk_id_hash", b"") + le(b"", b"info_hash", info)
    prk = le(secret, b"secret", b"")
    key, base = lx(prk, b"key", context, 32), lx(prk, b"base_nonce", context, 12)
    assert open_chunks(key, base, chunks).hex() == EXCHANGE["request"]

    response = bytes.fromhex("".join(EXCHANGE["encapsulated_response"]))
    exporter = lx(prk, b"exp", context, 32)
    exported = lx(exporter, b"sec", b"message/bhttp chunked response", 32)
    prk = extract(enc + response[:32], exported)
    key, base = expand(prk, b"key", 32), expand(prk, b"nonce", 12)
    assert open_chunks(key, base, response[32:]).hex() == "".join(EXCHANGE["response"])


def test_the_spec_prints_the_vector() -> None:
    page = Path(__file__).parents[2] / "docs" / "spec" / "sealed-channel.md"
    text = page.read_text(encoding="utf-8")
    for name in ("info", "shared_secret", "exported", "aead_key", "aead_nonce"):
        assert EXCHANGE[name] in text, name
