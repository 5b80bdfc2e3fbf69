"""Write the vectors of pairs with ML-DSA-65: python scripts/make_pair_vectors.py.

Keys come from published seeds. Signatures of ML-DSA and ECDSA are randomized, so a second run
writes others; tests verify those that are there. Spec: docs/spec/conventions.md, "Pairs with
ML-DSA-65".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from vector_files import VECTORS, as_json, fixed

from regalia.core.codec import b64
from regalia.crypto.composite import ML_DSA_SIGNATURE_SIZE, CompositePrivateKey
from regalia.crypto.sign import SigningKey
from regalia.tlog.note import Checkpoint, sign_checkpoint, verifier_key_text

if TYPE_CHECKING:
    from regalia.crypto.composite import ClassicalPrivate

FILE = VECTORS / "conventions" / "pairs.json"
MESSAGE = b"a message that both keys sign"
ORIGIN = "log.example.org/pairs"


def pair(name: str, classical: ClassicalPrivate) -> dict[str, Any]:
    """One pair: its seeds, its public key, a signature that holds, and what must not."""
    seed = fixed(f"pair {name}: ML-DSA-65")
    ml_dsa = MLDSA65PrivateKey.from_seed_bytes(seed)
    key = SigningKey(CompositePrivateKey(ml_dsa, classical))
    signature, other = key.sign(MESSAGE), key.sign(MESSAGE + b".")
    first, second = signature[:ML_DSA_SIGNATURE_SIZE], signature[ML_DSA_SIGNATURE_SIZE:]
    refused = {
        "of_another_message": other,
        "ml_dsa_part_of_another_message": other[:ML_DSA_SIGNATURE_SIZE] + second,
        "classical_part_of_another_message": first + other[ML_DSA_SIGNATURE_SIZE:],
        "ml_dsa_part_alone": first,
        "classical_part_alone": second,
        "classical_part_first": second + first,
        "a_byte_more": signature + b"\0",
        "empty": b"",
    }
    return {
        "ml_dsa_seed": seed.hex(),
        "spki": b64(key.verify_key.spki),
        "fingerprint": str(key.verify_key.fingerprint),
        "message": MESSAGE.decode(),
        "signature": b64(signature),
        "refused": {name: b64(data) for name, data in refused.items()},
    }


def log() -> dict[str, Any]:
    """A log whose checkpoint a pair has signed."""
    key = SigningKey(
        CompositePrivateKey(
            MLDSA65PrivateKey.from_seed_bytes(fixed("pair of a log: ML-DSA-65")),
            Ed25519PrivateKey.from_private_bytes(fixed("pair of a log: Ed25519")),
        )
    )
    checkpoint = Checkpoint(ORIGIN, 7, fixed("root of a log"))
    return {
        "log_key": verifier_key_text(ORIGIN, key.verify_key),
        "checkpoint": sign_checkpoint(checkpoint, key),
    }


def main() -> None:
    """Write the file."""
    secret = int.from_bytes(fixed("pair: P-384", 47)) + 1
    vectors = {
        "ml-dsa-65-ed25519": pair(
            "Ed25519", Ed25519PrivateKey.from_private_bytes(fixed("pair: Ed25519"))
        ),
        "ml-dsa-65-p384": pair("P-384", ec.derive_private_key(secret, ec.SECP384R1())),
        "log": log(),
    }
    FILE.write_bytes(as_json(vectors))


if __name__ == "__main__":
    main()
