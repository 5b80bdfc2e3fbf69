"""Pairs with ML-DSA-65, by a reader of its own that follows the page, and by ours."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from regalia.core.errors import IntegrityError
from regalia.crypto.sign import VerifyKey
from regalia.tlog.note import parse_log_key, verify_checkpoint

FILE = Path(__file__).parents[1] / "vectors" / "conventions" / "pairs.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PAIRS = ("ml-dsa-65-ed25519", "ml-dsa-65-p384")
REFUSED = [(name, each) for name in PAIRS for each in VECTORS[name]["refused"]]
LABELS = {
    "ml-dsa-65-ed25519": b"COMPSIG-MLDSA65-Ed25519-SHA512",
    "ml-dsa-65-p384": b"COMPSIG-MLDSA65-ECDSA-P384-SHA512",
}


def holds(name: str, spki: bytes, signature: bytes, message: bytes) -> bool:
    """What the page says, in its order."""
    keys, label = spki[21:], LABELS[name]
    signed = b"CompositeAlgorithmSignatures2025" + label + b"\0" + hashlib.sha512(message).digest()
    try:
        MLDSA65PublicKey.from_public_bytes(keys[:1952]).verify(signature[:3309], signed, label)
        if name == "ml-dsa-65-ed25519":
            public = ed25519.Ed25519PublicKey.from_public_bytes(keys[1952:])
            public.verify(signature[3309:], signed)
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), keys[1952:])
            point.verify(signature[3309:], signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


def read(name: str) -> tuple[bytes, bytes]:
    case = VECTORS[name]
    return base64.b64decode(case["spki"]), case["message"].encode()


@pytest.mark.parametrize("name", PAIRS)
def test_what_holds(name: str) -> None:
    case, (spki, message) = VECTORS[name], read(name)
    signature = base64.b64decode(case["signature"])
    assert holds(name, spki, signature, message)
    key = VerifyKey.from_der(spki)
    key.verify(signature, message)
    assert str(key.fingerprint) == case["fingerprint"]
    seed = MLDSA65PrivateKey.from_seed_bytes(bytes.fromhex(case["ml_dsa_seed"]))
    assert seed.public_key().public_bytes_raw() == spki[21 : 21 + 1952]


@pytest.mark.parametrize(("name", "defect"), REFUSED)
def test_what_does_not(name: str, defect: str) -> None:
    spki, message = read(name)
    signature = base64.b64decode(VECTORS[name]["refused"][defect])
    assert not holds(name, spki, signature, message)
    with pytest.raises(IntegrityError, match="SIGNATURE_INVALID"):
        VerifyKey.from_der(spki).verify(signature, message)


def test_a_log_that_a_pair_signs() -> None:
    log = VECTORS["log"]
    key = parse_log_key(log["log_key"])
    checkpoint = verify_checkpoint(log["checkpoint"], key)
    assert (checkpoint.origin, checkpoint.size) == (key.origin, 7)
    body, _, line = log["checkpoint"].rpartition("\n\n")
    raw = base64.b64decode(line.split(" ")[2])
    assert raw[:4] == key.key_hash
    assert holds("ml-dsa-65-ed25519", key.verify_key.spki, raw[4:], body.encode() + b"\n")
    data = base64.b64decode(log["log_key"].split("+", 2)[2])
    assert data.startswith(b"\xffregalia/ml-dsa-65-ed25519/v1")
