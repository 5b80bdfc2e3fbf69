"""Write the release exchange's test vectors: python scripts/make_release_vectors.py [--check].

Specs: docs/spec/release-exchange.md, docs/spec/development-key-store.md. Nonces and salts, which
are random in use, are fixed here, so a second run gives the same bytes. The one thing that
cannot be repeated is an encapsulation to an ML-KEM key: ``released-key.json`` holds one that was
made once, and is only opened.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from message_parts import GPU, SWITCH
from vector_files import VECTORS, as_json, fixed, write_or_compare

from regalia.broker.challenges import RANDOM_SIZE, TIME_SIZE, tag_of
from regalia.core.codec import b64, canonical_json, lp, unb64
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest, KeyFingerprint, ModelId, PolicyId
from regalia.crypto import hpke
from regalia.crypto.kem import XWingKeyPair
from regalia.keys import devfile_format as fmt
from regalia.keys.devfile import WRAP_ALGORITHM
from regalia.seal.format.sealed import SealId, wrap_context
from regalia.wire.approval import FORMAT as APPROVAL_FORMAT
from regalia.wire.approval import Approval
from regalia.wire.evidence import BINDING_DOMAIN, NO_DEVICES, Binding, Role, devices_digest
from regalia.wire.release import RETURN_EXPORT, release_info
from regalia.wire.serving import serving_binding

FOLDER = VECTORS / "release"
PASSPHRASE = "correct horse battery staple"  # noqa: S105 - published, it protects nothing
MODEL_ID = ModelId(hashlib.sha256(b"regalia test vector: model").digest())
POLICY_ID = PolicyId(hashlib.sha256(b"regalia test vector: policy").digest())
OTHER_MODEL_ID = ModelId(hashlib.sha256(b"regalia test vector: another model").digest())
SEAL_ID = SealId(hashlib.sha256(b"regalia test vector: seal").digest())
CONTEXT = wrap_context(MODEL_ID, 3, SEAL_ID)
LEASE_ID = "lease:000102030405060708090a0b0c0d0e0f"


def secret(label: str) -> SecretBytes:
    """32 such bytes as a secret."""
    return SecretBytes(bytearray(fixed(label)))


def bindings() -> list[dict[str, Any]]:
    """Report data for two purposes, without devices and with two of them."""
    challenge = fixed("challenge")
    keys = fixed("HPKE public key", 1216), fixed("wrap public key", 422)
    released = Binding(
        role=Role.RELEASE,
        audience="log.example/regalia-vectors",
        challenge=challenge,
        hpke_public_key=keys[0],
        wrap_public_key=keys[1],
        model_id=MODEL_ID,
        policy_id=POLICY_ID,
        device_evidence=Digest(NO_DEVICES),
    )
    served = serving_binding(
        challenge,
        *keys,
        MODEL_ID,
        model_version=3,
        recipient=KeyFingerprint(fixed("recipient")),
    )
    devices = devices_digest((GPU, SWITCH))
    with_devices = (replace(each, device_evidence=devices) for each in (released, served))
    return [
        {
            "domain": BINDING_DOMAIN.decode(),
            "role": binding.role.value,
            "audience": binding.audience,
            "challenge": binding.challenge.hex(),
            "hpke_public_key": binding.hpke_public_key.hex(),
            "wrap_public_key": binding.wrap_public_key.hex(),
            "model_id": binding.model_id.raw.hex(),
            "policy_id": binding.policy_id.raw.hex(),
            "device_evidence": binding.device_evidence.raw.hex(),
            "report_data": binding.report_data().hex(),
        }
        for binding in (released, served, *with_devices)
    ]


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
    enc = unb64(sealed["encapsulated_key"], what="enc")
    with hpke.setup_recipient(recipient(), enc, info).export(RETURN_EXPORT, 32) as token:
        return_token = bytes(token.view()).hex()
    return {
        "mlkem768_seed": fixed("ML-KEM-768 seed", 64).hex(),
        "x25519_private": fixed("X25519 key").hex(),
        "public_key": b64(recipient().public_key),
        "info": info.decode(),
        "encapsulated_key": sealed["encapsulated_key"],
        "wrapped_key": sealed["wrapped_key"],
        "model_key": fixed("model key").hex(),
        "return_token": return_token,
    }


def wrapped_key() -> dict[str, Any]:
    """A model key under a KEK."""
    blob = wrap("KEK", CONTEXT)
    with secret("KEK") as kek:
        identity = fmt.kek_id(kek)
    return {
        "algorithm": WRAP_ALGORITHM,
        "kek": fixed("KEK").hex(),
        "kek_id": str(identity),
        "model_id": str(MODEL_ID),
        "model_version": 3,
        "seal_id": str(SEAL_ID),
        "context": CONTEXT.hex(),
        "nonce": fixed("wrap nonce", 12).hex(),
        "model_key": fixed("model key").hex(),
        "blob": b64(blob),
    }


def wrap(kek_label: str, context: bytes) -> bytes:
    """The model key under one KEK, bound to a context."""
    nonce = fixed("wrap nonce", 12)
    with secret(kek_label) as kek:
        identity = fmt.kek_id(kek)
        aad = lp(WRAP_ALGORITHM.encode(), identity.raw, context)
        return identity.raw + nonce + AESGCM(kek.view()).encrypt(nonce, fixed("model key"), aad)


def wrapped_key_refused() -> list[dict[str, Any]]:
    """Requests for the model key that the key store of ``key_store`` refuses.

    The record's decision and model, the wrapped key and its context, and the code.
    """
    good = wrap("KEK", CONTEXT)
    other_version = wrap_context(MODEL_ID, 4, SEAL_ID)
    # Who seals a model chooses the seal id, and may write another model's id there.
    in_seal_id = wrap_context(MODEL_ID, 3, SealId(OTHER_MODEL_ID.raw))
    mine, other = str(MODEL_ID), str(OTHER_MODEL_ID)
    cases: dict[str, tuple[str, str, bytes, bytes, str]] = {
        "record_of_a_denial": ("denial", mine, good, CONTEXT, "RECORD_NO_RELEASE"),
        "record_of_another_model": ("release", other, good, CONTEXT, "RECORD_OTHER_MODEL"),
        "record_of_no_model": ("release", "", good, CONTEXT, "RECORD_OTHER_MODEL"),
        "other_model_in_the_seal_id": (
            "release",
            other,
            wrap("KEK", in_seal_id),
            in_seal_id,
            "RECORD_OTHER_MODEL",
        ),
        "context_with_a_byte_more": (
            "release",
            mine,
            wrap("KEK", CONTEXT + b"\0"),
            CONTEXT + b"\0",
            "RECORD_OTHER_MODEL",
        ),
        "context_of_another_version": (
            "release",
            mine,
            good,
            other_version,
            "KEY_UNWRAP_FAILED",
        ),
        "another_kek": ("release", mine, wrap("another KEK", CONTEXT), CONTEXT, "KEK_MISMATCH"),
        "nonce_changed": ("release", mine, flip(good, 32), CONTEXT, "KEY_UNWRAP_FAILED"),
        "ciphertext_changed": ("release", mine, flip(good, 44), CONTEXT, "KEY_UNWRAP_FAILED"),
        "tag_changed": ("release", mine, flip(good, 91), CONTEXT, "KEY_UNWRAP_FAILED"),
        "a_byte_less": ("release", mine, good[:-1], CONTEXT, "KEY_UNWRAP_FAILED"),
        "a_byte_more": ("release", mine, good + b"\0", CONTEXT, "KEY_UNWRAP_FAILED"),
    }
    return [
        {
            "name": name,
            "decision": decision,
            "model_id": model_id,
            "blob": b64(blob),
            "context": context.hex(),
            "code": code,
        }
        for name, (decision, model_id, blob, context, code) in cases.items()
    ]


def flip(data: bytes, place: int) -> bytes:
    """The same bytes with one bit changed."""
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def key_store_refused(good: bytes) -> dict[str, list[str]]:
    """Files that do not open with the passphrase, by name: the code and the file's text."""
    document = json.loads(good)
    (entry,) = document["keys"]

    def edited(**members: Any) -> str:  # noqa: ANN401 - any member
        return canonical_json(document | members).decode()

    def flipped(text: str) -> str:
        return b64(flip(base64.b64decode(text), 0))

    def kdf(**members: Any) -> str:  # noqa: ANN401 - any member
        return edited(kdf=document["kdf"] | members)

    return {
        "salt": ["KEY_STORE_LOCKED", kdf(salt=flipped(document["kdf"]["salt"]))],
        "commitment": ["KEY_STORE_LOCKED", edited(commitment=flipped(document["commitment"]))],
        "mac": ["KEY_STORE_TAMPERED", edited(mac=flipped(document["mac"]))],
        "key_dropped": ["KEY_STORE_TAMPERED", edited(keys=[])],
        "key_renamed": ["KEY_STORE_TAMPERED", edited(keys=[entry | {"name": "other"}])],
        "key_changed": [
            "KEY_STORE_TAMPERED",
            edited(keys=[entry | {"sealed": flipped(entry["sealed"])}]),
        ],
        "memory_100_gib": ["KEY_STORE_PARAMETERS", kdf(memory_kib=100 << 20)],
        "memory_low": ["KEY_STORE_PARAMETERS", kdf(memory_kib=65_535)],
        "iterations_low": ["KEY_STORE_PARAMETERS", kdf(iterations=2)],
        "iterations_high": ["KEY_STORE_PARAMETERS", kdf(iterations=17)],
        "lanes_none": ["KEY_STORE_PARAMETERS", kdf(lanes=0)],
        "lanes_high": ["KEY_STORE_PARAMETERS", kdf(lanes=17)],
        "algorithm_unknown": ["KEY_STORE_PARAMETERS", kdf(algorithm="argon2i")],
        "salt_short": ["MALFORMED", kdf(salt=b64(bytes(15)))],
        "banner_softened": ["MALFORMED", edited(banner="A key store.")],
        "format_unknown": ["MALFORMED", edited(format=f"{fmt.FORMAT[:-1]}2")],
        "keys_unsorted": ["MALFORMED", edited(keys=[entry, entry | {"name": "a"}])],
        "name_twice": ["MALFORMED", edited(keys=[entry, entry])],
        "name_upper_case": ["MALFORMED", edited(keys=[entry | {"name": "Model"}])],
        "sealed_short": ["MALFORMED", edited(keys=[entry | {"sealed": b64(bytes(59))}])],
        "257_keys": [
            "TOO_LARGE",
            edited(keys=[entry | {"name": f"k{number:03}"} for number in range(257)]),
        ],
        "member_unknown": ["MALFORMED", edited(extra=1)],
        "white_space": ["MALFORMED", good.decode() + "\n"],
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
    store = key_store()
    documents = {
        "bindings.json": bindings(),
        "challenge.json": challenge(),
        "released-key.json": released_key(existing),
        "wrapped-key.json": wrapped_key(),
        "wrapped-key-refused.json": wrapped_key_refused(),
        "key-store-refused.json": key_store_refused(store),
        "approval.json": approval(),
    }
    return {name: as_json(value) for name, value in documents.items()} | {"key-store.json": store}


def main() -> int:
    """Write the files, or compare them."""
    kept = FOLDER / "released-key.json"
    existing = json.loads(kept.read_bytes()) if kept.exists() else None
    return write_or_compare(FOLDER, files(existing))


if __name__ == "__main__":
    sys.exit(main())
