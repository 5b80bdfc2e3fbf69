"""HPKE against the RFC's vectors, against two other implementations, and against its defects."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hpke as oracle
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

from regalia.core.errors import IntegrityError, ParseError
from regalia.crypto import hpke
from regalia.crypto.hpke import Aead, HpkeCode, Kdf, Kem, Suite
from regalia.crypto.kem import X25519KeyPair, XWingKeyPair, encapsulate_x25519

VECTORS = Path(__file__).parents[1] / "vectors" / "hpke"
RFC9180 = json.loads((VECTORS / "rfc9180.json").read_text())["vectors"]
PQ = json.loads((VECTORS / "draft-ietf-hpke-pq.json").read_text())["vectors"]
PY_AEAD = {
    Aead.AES_128_GCM: AEADId.AES128_GCM,
    Aead.AES_256_GCM: AEADId.AES256_GCM,
    Aead.CHACHA20_POLY1305: AEADId.CHACHA20_POLY1305,
}
ORACLE_SUITE = oracle.Suite(
    oracle.KEM.MLKEM768_X25519, oracle.KDF.HKDF_SHA256, oracle.AEAD.AES_256_GCM
)
SMALL_ORDER = (
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
)


def xwing_from_seed(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """Key expansion of the X-Wing draft, which the product does not need."""
    expanded = hashlib.shake_256(seed).digest(96)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def unhex(vector: dict[str, object], name: str) -> bytes:
    return bytes.fromhex(str(vector[name]))


def check_context(vector: dict[str, object], secret: bytes, suite: Suite) -> None:
    """Key schedule, every printed message and every export."""
    assert secret == unhex(vector, "shared_secret")
    sender = hpke.SenderContext(suite, secret, unhex(vector, "info"))
    recipient = hpke.RecipientContext(suite, secret, unhex(vector, "info"))
    wanted = {item["sequence"]: item for item in vector["encryptions"]}
    for sequence in range(max(wanted) + 1):
        item = wanted.get(sequence)
        aad = f"Count-{sequence}".encode() if item is None else bytes.fromhex(item["aad"])
        sealed = sender.seal(aad, bytes.fromhex(wanted[0]["pt"]))
        assert recipient.open(aad, sealed) == bytes.fromhex(wanted[0]["pt"])
        if item is not None:
            assert sealed.hex() == item["ct"], f"message {sequence}"
    for item in vector["exports"]:
        context = bytes.fromhex(item["exporter_context"])
        for side in (sender, recipient):
            assert bytes(side.export(context, item["L"]).view()).hex() == item["exported_value"]


@pytest.mark.parametrize("vector", RFC9180, ids=lambda v: f"aead{v['aead_id']}")
def test_rfc9180_vectors(vector: dict[str, object]) -> None:
    pair = X25519KeyPair(X25519PrivateKey.from_private_bytes(unhex(vector, "skRm")))
    assert pair.public_key == unhex(vector, "pkRm")
    ephemeral = X25519PrivateKey.from_private_bytes(unhex(vector, "skEm"))
    secret, enc = encapsulate_x25519(pair.public_key, ephemeral)
    assert enc == unhex(vector, "enc")
    assert pair.decapsulate(enc) == secret
    suite = Suite(Kem.X25519_HKDF_SHA256, Kdf.HKDF_SHA256, Aead(vector["aead_id"]))
    check_context(vector, secret, suite)


def test_xwing_vector() -> None:
    (vector,) = PQ
    pair = XWingKeyPair(*xwing_from_seed(unhex(vector, "skRm")))
    assert pair.public_key == unhex(vector, "pkRm")
    suite = Suite(Kem.X_WING, Kdf.HKDF_SHA256, Aead(vector["aead_id"]))
    assert suite.suite_id == unhex(vector, "suite_id")
    vector = dict(vector)
    vector["encryptions"] = [
        {**item, "sequence": index} for index, item in enumerate(vector["encryptions"])
    ]
    check_context(vector, pair.decapsulate(unhex(vector, "enc")), suite)


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=60))
def test_xwing_agrees_with_cryptography_suite(plaintext: bytes, info: bytes) -> None:
    mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    pair = XWingKeyPair(mlkem, x25519)
    assert pair.public_key[:1184] == mlkem.public_key().public_bytes_raw()
    enc, sealed = hpke.seal(pair.public_key, info, b"", plaintext)
    assert (len(enc), len(sealed)) == (1120, len(plaintext) + 16)
    theirs_private = oracle.MLKEM768X25519PrivateKey(mlkem, x25519)
    assert ORACLE_SUITE.decrypt(enc + sealed, theirs_private, info) == plaintext
    theirs_public = oracle.MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(pair.public_key[:1184]),
        X25519PublicKey.from_public_bytes(pair.public_key[1184:]),
    )
    theirs = ORACLE_SUITE.encrypt(plaintext, theirs_public, info)
    assert hpke.open_(pair, theirs[:1120], info, b"", theirs[1120:]) == plaintext


@pytest.mark.parametrize("aead", list(Aead))
def test_x25519_agrees_with_pyhpke(aead: Aead) -> None:
    private = X25519PrivateKey.generate()
    pair = X25519KeyPair(private)
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, PY_AEAD[aead])
    their_private = KEMKey.from_pyca_cryptography_key(private)
    their_public = KEMKey.from_pyca_cryptography_key(private.public_key())

    enc, ours = hpke.setup_sender(pair.kem, pair.public_key, b"info", aead=aead)
    theirs = suite.create_recipient_context(enc, their_private, info=b"info")
    for number in range(3):
        assert theirs.open(ours.seal(b"aad", b"text %d" % number), b"aad") == b"text %d" % number
    assert theirs.export(b"x", 40) == bytes(ours.export(b"x", 40).view())

    enc, theirs = suite.create_sender_context(their_public, info=b"info")
    ours = hpke.setup_recipient(pair, enc, b"info", aead=aead)
    for number in range(3):
        assert ours.open(b"aad", theirs.seal(b"text %d" % number, b"aad")) == b"text %d" % number


@pytest.mark.parametrize("kem", list(Kem))
def test_sizes(kem: Kem) -> None:
    pair = hpke.generate_keypair(kem)
    enc, _ = hpke.setup_sender(kem, pair.public_key, b"")
    assert len(pair.public_key) == kem.public_key_size
    assert len(enc) == kem.enc_size
    for wrong in (pair.public_key[:-1], pair.public_key + b"\0", b""):
        with pytest.raises(ParseError) as caught:
            hpke.setup_sender(kem, wrong, b"")
        assert caught.value.code is HpkeCode.HPKE_KEY_MALFORMED
    for wrong in (enc[:-1], enc + b"\0", b""):
        with pytest.raises(ParseError) as caught:
            hpke.setup_recipient(pair, wrong, b"")
        assert caught.value.code is HpkeCode.HPKE_KEY_MALFORMED


@pytest.mark.parametrize("kem", list(Kem))
@pytest.mark.parametrize("point", SMALL_ORDER)
def test_all_zero_dh_is_refused(kem: Kem, point: bytes) -> None:
    pair = hpke.generate_keypair(kem)
    with pytest.raises(ParseError) as caught:
        hpke.setup_sender(kem, pair.public_key[:-32] + point, b"")
    assert caught.value.code is HpkeCode.HPKE_KEY_MALFORMED
    enc, _ = hpke.setup_sender(kem, pair.public_key, b"")
    with pytest.raises(ParseError) as caught:
        hpke.setup_recipient(pair, enc[:-32] + point, b"")
    assert caught.value.code is HpkeCode.HPKE_KEY_MALFORMED


def test_mlkem_key_out_of_range_is_refused() -> None:
    pair = hpke.generate_keypair(Kem.X_WING)
    with pytest.raises(ParseError) as caught:
        hpke.setup_sender(Kem.X_WING, b"\xff" * 1184 + pair.public_key[1184:], b"")
    assert caught.value.code is HpkeCode.HPKE_KEY_MALFORMED


@pytest.mark.parametrize("defect", ["enc_mlkem", "enc_x25519", "info", "aad", "text", "tag", "cut"])
def test_any_change_is_refused(defect: str) -> None:
    pair = hpke.generate_keypair(Kem.X_WING)
    enc, sealed = hpke.seal(pair.public_key, b"info", b"aad", b"secret")
    parts = {"enc": enc, "info": b"info", "aad": b"aad", "sealed": sealed}
    if defect == "enc_mlkem":
        parts["enc"] = bytes([enc[0] ^ 1]) + enc[1:]
    elif defect == "enc_x25519":
        parts["enc"] = enc[:-20] + bytes([enc[-20] ^ 1]) + enc[-19:]
    elif defect == "text":
        parts["sealed"] = bytes([sealed[0] ^ 1]) + sealed[1:]
    elif defect == "tag":
        parts["sealed"] = sealed[:-1] + bytes([sealed[-1] ^ 1])
    elif defect == "cut":
        parts["sealed"] = sealed[:10]
    else:
        parts[defect] += b"!"
    for opener in (hpke.open_, hpke.open_secret):
        with pytest.raises(IntegrityError) as caught:
            opener(pair, parts["enc"], parts["info"], parts["aad"], parts["sealed"])
        assert caught.value.code is HpkeCode.HPKE_OPEN_FAILED


def test_another_key_does_not_open() -> None:
    mine, other = (hpke.generate_keypair(Kem.X_WING) for _ in range(2))
    enc, sealed = hpke.seal(mine.public_key, b"", b"", b"secret")
    with pytest.raises(IntegrityError):
        hpke.open_(other, enc, b"", b"", sealed)


def test_order_is_part_of_the_key_stream() -> None:
    pair = hpke.generate_keypair(Kem.X25519_HKDF_SHA256)
    enc, sender = hpke.setup_sender(pair.kem, pair.public_key, b"")
    first, second = sender.seal(b"", b"one"), sender.seal(b"", b"two")
    recipient = hpke.setup_recipient(pair, enc, b"")
    with pytest.raises(IntegrityError):
        recipient.open(b"", second)
    assert recipient.open(b"", first) == b"one"  # a refusal does not move the counter
    with pytest.raises(IntegrityError):
        recipient.open(b"", first)
    assert recipient.open(b"", second) == b"two"


def test_open_secret_gives_a_buffer_that_is_wiped() -> None:
    pair = hpke.generate_keypair(Kem.X_WING)
    enc, sealed = hpke.seal(pair.public_key, b"i", b"a", b"k" * 32)
    secret = hpke.open_secret(pair, enc, b"i", b"a", sealed)
    assert bytes(secret.view()) == b"k" * 32
    buffer = secret._buf
    secret.close()
    assert bytes(buffer) == bytes(32)


def test_the_last_sequence_number_is_never_used() -> None:
    pair = hpke.generate_keypair(Kem.X25519_HKDF_SHA256)
    _, sender = hpke.setup_sender(pair.kem, pair.public_key, b"")
    sender.messages._sequence = (1 << 96) - 2
    sender.seal(b"", b"last but one")
    with pytest.raises(IntegrityError) as caught:
        sender.seal(b"", b"one too many")
    assert caught.value.code is HpkeCode.HPKE_SEQUENCE_EXHAUSTED


def test_export_length_is_bounded() -> None:
    pair = hpke.generate_keypair(Kem.X25519_HKDF_SHA256)
    _, sender = hpke.setup_sender(pair.kem, pair.public_key, b"")
    assert len(sender.export(b"", 255 * 32)) == 255 * 32
    for length in (0, -1, 255 * 32 + 1):
        with pytest.raises(ValueError, match="an export has"):
            sender.export(b"", length)


def test_nothing_secret_is_printed() -> None:
    pair = hpke.generate_keypair(Kem.X_WING)
    _, sender = hpke.setup_sender(pair.kem, pair.public_key, b"")
    assert repr(pair) == "<X_WING key pair>"
    assert repr(sender) == "<SenderContext, 0 messages>"
    assert not hasattr(pair, "__dict__")
