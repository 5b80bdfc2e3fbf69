"""Write the release exchange's test vectors: python scripts/make_release_vectors.py [--check].

Specs: docs/spec/release-exchange.md, docs/spec/development-key-store.md. Nonces and salts, which
are random in use, are fixed here, so a second run gives the same bytes. The one thing that
cannot be repeated is an encapsulation to an ML-KEM key: ``released-key.json`` holds one that was
made once, and is only opened.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regalia.broker.challenges import RANDOM_SIZE, TIME_SIZE, tag_of
from regalia.core.codec import b64, lp
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.crypto import hpke
from regalia.crypto.kem import XWingKeyPair
from regalia.keys import devfile_format as fmt
from regalia.keys.devfile import WRAP_ALGORITHM
from regalia.wire.approval import FORMAT as APPROVAL_FORMAT
from regalia.wire.approval import Approval
from regalia.wire.evidence import BINDING_DOMAIN, NO_DEVICES, Binding, Role
from regalia.wire.release import release_info

FOLDER = Path(__file__).parents[1] / "tests" / "vectors" / "release"
PASSPHRASE = "correct horse battery staple"  # noqa: S105 - published, it protects nothing
MODEL_ID = ModelId(hashlib.sha256(b"regalia test vector: model").digest())
POLICY_ID = PolicyId(hashlib.sha256(b"regalia test vector: policy").digest())
LEASE_ID = "lease:000102030405060708090a0b0c0d0e0f"


def fixed(label: str, size: int = 32) -> bytes:
    """Bytes that look random and are published."""
    return hashlib.shake_256(f"regalia test vector: {label}".encode()).digest(size)


def secret(label: str) -> SecretBytes:
    """32 such bytes as a secret."""
    return SecretBytes(bytearray(fixed(label)))


def bindings() -> list[dict[str, Any]]:
    """Report data for two purposes."""
    out = []
    for role, audience, policy in (
        (Role.RELEASE, "log.example/regalia-vectors", POLICY_ID),
        (Role.SERVE, "client", PolicyId(bytes(32))),
    ):
        binding = Binding(
            role=role,
            audience=audience,
            challenge=fixed("challenge"),
            hpke_public_key=fixed("HPKE public key", 1216),
            wrap_public_key=fixed("wrap public key", 422),
            model_id=MODEL_ID,
            policy_id=policy,
            device_evidence=Digest(NO_DEVICES),
        )
        out.append(
            {
                "domain": BINDING_DOMAIN.decode(),
                "role": role.value,
                "audience": audience,
                "challenge": binding.challenge.hex(),
                "hpke_public_key": binding.hpke_public_key.hex(),
                "wrap_public_key": binding.wrap_public_key.hex(),
                "model_id": MODEL_ID.raw.hex(),
                "policy_id": policy.raw.hex(),
                "device_evidence": NO_DEVICES.hex(),
                "report_data": binding.report_data().hex(),
            }
        )
    return out


def challenge() -> dict[str, Any]:
    """A challenge as a broker issues it."""
    key, audience = fixed("challenge key"), "log.example/regalia-vectors"
    issued_ms, random = 1_795_341_600_123, fixed("challenge randomness", RANDOM_SIZE)
    head = issued_ms.to_bytes(TIME_SIZE, "big") + random
    return {
        "key": key.hex(),
        "audience": audience,
        "model_id": MODEL_ID.raw.hex(),
        "policy_id": POLICY_ID.raw.hex(),
        "issued_ms": issued_ms,
        "random": random.hex(),
        "challenge": (head + tag_of(key, audience, MODEL_ID, POLICY_ID, head)).hex(),
    }


def recipient() -> XWingKeyPair:
    """A runtime's HPKE key from published seeds."""
    return XWingKeyPair(
        MLKEM768PrivateKey.from_seed_bytes(fixed("ML-KEM-768 seed", 64)),
        X25519PrivateKey.from_private_bytes(fixed("X25519 key")),
    )


def released_key(existing: dict[str, Any] | None) -> dict[str, Any]:
    """A released model key; the ciphertext is kept once it was made."""
    info = release_info(model_id=str(MODEL_ID), lease_id=LEASE_ID, record_index=41)
    sealed = existing or {}
    if not sealed:
        enc, ciphertext = hpke.seal(recipient().public_key, info, b"", fixed("model key"))
        sealed = {"encapsulated_key": b64(enc), "wrapped_key": b64(ciphertext)}
    return {
        "mlkem768_seed": fixed("ML-KEM-768 seed", 64).hex(),
        "x25519_private": fixed("X25519 key").hex(),
        "public_key": b64(recipient().public_key),
        "info": info.decode(),
        "encapsulated_key": sealed["encapsulated_key"],
        "wrapped_key": sealed["wrapped_key"],
        "model_key": fixed("model key").hex(),
    }


def wrapped_key() -> dict[str, Any]:
    """A model key under a KEK."""
    context, nonce = fixed("wrapping context", 100), fixed("wrap nonce", 12)
    with secret("KEK") as kek:
        identity = fmt.kek_id(kek)
        aad = lp(WRAP_ALGORITHM.encode(), identity.raw, context)
        body = AESGCM(kek.view()).encrypt(nonce, fixed("model key"), aad)
    return {
        "algorithm": WRAP_ALGORITHM,
        "kek": fixed("KEK").hex(),
        "kek_id": str(identity),
        "context": context.hex(),
        "nonce": nonce.hex(),
        "model_key": fixed("model key").hex(),
        "blob": b64(identity.raw + nonce + body),
    }


def key_store() -> bytes:
    """A development key store with one KEK, "model", which is that of ``wrapped_key``."""
    salt, nonce = fixed("salt", fmt.SALT_SIZE), fixed("KEK nonce", fmt.NONCE_SIZE)
    kdf = fmt.Kdf(
        algorithm="argon2id",
        iterations=fmt.ITERATIONS,
        lanes=fmt.LANES,
        memory_kib=fmt.MEMORY_KIB,
        salt=b64(salt),
    )
    keys = fmt.FileKeys(SecretBytes(bytearray(PASSPHRASE.encode())), kdf)
    with secret("KEK") as kek:
        identity = fmt.kek_id(kek)
        body = AESGCM(keys.seal_key.view()).encrypt(
            nonce, kek.view(), fmt.kek_aad(salt, "model", identity)
        )
    document = fmt.Document(
        format=fmt.FORMAT,
        banner=fmt.BANNER,
        kdf=kdf,
        commitment=b64(keys.commitment),
        keys=[fmt.SealedKek(name="model", id=str(identity), sealed=b64(nonce + body))],
        mac="",
    )
    mac = b64(keys.mac(document))
    keys.close()
    return document.encode().replace(b'"mac":""', f'"mac":"{mac}"'.encode())


def approval() -> dict[str, Any]:
    """An approver's statement, before it is signed."""
    statement = Approval(
        format=APPROVAL_FORMAT,
        policy_id=str(POLICY_ID),
        model_id=str(MODEL_ID),
        not_after="2026-12-31T23:59:59Z",
    )
    return {"payload": statement.encode().decode()}


def files(existing: dict[str, Any] | None) -> dict[str, bytes]:
    """Contents by name."""
    documents = {
        "bindings.json": bindings(),
        "challenge.json": challenge(),
        "released-key.json": released_key(existing),
        "wrapped-key.json": wrapped_key(),
        "approval.json": approval(),
    }
    out = {
        name: json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
        for name, value in documents.items()
    }
    return out | {"key-store.json": key_store()}


def main() -> int:
    """Write the files, or compare them."""
    check = sys.argv[1:] == ["--check"]
    kept = FOLDER / "released-key.json"
    existing = json.loads(kept.read_bytes()) if kept.exists() else None
    status = 0
    for name, data in files(existing).items():
        path = FOLDER / name
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        elif not path.exists() or path.read_bytes() != data:
            print(f"{path} is not what this script writes")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
