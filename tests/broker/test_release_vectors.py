"""The release exchange's committed vectors, recomputed with standard parts only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from regalia.core.codec import unb64
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.crypto import hpke
from regalia.crypto.kem import XWingKeyPair
from regalia.keys.devfile import open_store
from regalia.wire.approval import parse_approval
from regalia.wire.evidence import Binding, Role
from regalia.wire.release import RETURN_EXPORT, RETURN_TOKEN_SIZE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "vectors" / "release"


def read(name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def test_the_script_writes_these_files() -> None:
    script = ROOT / "scripts" / "make_release_vectors.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def lp(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def test_report_data() -> None:
    for item in read("bindings.json"):
        parts = [item["role"].encode(), item["audience"].encode()]
        parts += [
            bytes.fromhex(item[name])
            for name in (
                "challenge",
                "hpke_public_key",
                "wrap_public_key",
                "model_id",
                "policy_id",
                "device_evidence",
            )
        ]
        digest = hashlib.sha512(item["domain"].encode() + lp(*parts))
        assert digest.hexdigest() == item["report_data"]
        assert binding_of(item).report_data().hex() == item["report_data"]


def binding_of(item: dict[str, str]) -> Binding:
    return Binding(
        role=Role(item["role"]),
        audience=item["audience"],
        challenge=bytes.fromhex(item["challenge"]),
        hpke_public_key=bytes.fromhex(item["hpke_public_key"]),
        wrap_public_key=bytes.fromhex(item["wrap_public_key"]),
        model_id=ModelId(bytes.fromhex(item["model_id"])),
        policy_id=PolicyId(bytes.fromhex(item["policy_id"])),
        device_evidence=Digest(bytes.fromhex(item["device_evidence"])),
    )


def test_both_roles_are_bound_with_and_without_devices() -> None:
    without = hashlib.sha256(b"regalia/no-devices/v1").hexdigest()
    bound = {(item["role"], item["device_evidence"] == without) for item in read("bindings.json")}
    assert bound == {(role, alone) for role in ("release", "serve") for alone in (True, False)}


def test_challenge() -> None:
    item = read("challenge.json")
    head = struct.pack(">Q", item["issued_ms"]) + bytes.fromhex(item["random"])
    parts = [item["audience"].encode(), bytes.fromhex(item["model_id"])]
    message = lp(*parts, bytes.fromhex(item["policy_id"]), head)
    key = bytes.fromhex(item["key"])
    tag = hmac.digest(key, b"regalia/challenge/v1" + message, "sha256")[:16]
    assert item["challenge"] == (head + tag).hex()


def test_released_key() -> None:
    item = read("released-key.json")
    mlkem = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(item["mlkem768_seed"]))
    x25519 = X25519PrivateKey.from_private_bytes(bytes.fromhex(item["x25519_private"]))
    pair = XWingKeyPair(mlkem, x25519)
    enc = unb64(item["encapsulated_key"], what="enc")
    sealed = unb64(item["wrapped_key"], what="key")
    assert pair.public_key == unb64(item["public_key"], what="public")
    opened = hpke.open_(pair, enc, item["info"].encode(), b"", sealed)
    assert opened.hex() == item["model_key"]
    channel = hpke.setup_recipient(pair, enc, item["info"].encode())
    with channel.export(RETURN_EXPORT, RETURN_TOKEN_SIZE) as token:
        assert bytes(token.view()).hex() == item["return_token"]
    # The library's own HPKE opens the same bytes.
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    theirs = suite.decrypt(
        enc + sealed, MLKEM768X25519PrivateKey(mlkem, x25519), info=item["info"].encode()
    )
    assert theirs == opened


def hkdf(key: bytes, info: str) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, info.encode()).derive(key)


def test_wrapped_key() -> None:
    item = read("wrapped-key.json")
    kek, blob = bytes.fromhex(item["kek"]), base64.b64decode(item["blob"])
    identity = hkdf(kek, "regalia/kek-id/v1")
    assert item["kek_id"] == f"kek:{identity.hex()}"
    assert blob[:32] == identity
    aad = lp(item["algorithm"].encode(), identity, bytes.fromhex(item["context"]))
    assert AESGCM(kek).decrypt(blob[32:44], blob[44:], aad).hex() == item["model_key"]


def test_key_store_opens_with_the_package(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes((FOLDER / "key-store.json").read_bytes())
    path.chmod(0o600)
    item = read("wrapped-key.json")
    with (
        SecretBytes(bytearray(b"correct horse battery staple")) as passphrase,
        open_store(path, passphrase) as store,
    ):
        opened = store.recover_for_owner(
            "model", base64.b64decode(item["blob"]), bytes.fromhex(item["context"])
        )
        assert opened.view().hex() == item["model_key"]


def test_key_store_opens_without_the_package() -> None:
    text = (FOLDER / "key-store.json").read_text(encoding="utf-8")
    item = json.loads(text)
    kdf = item["kdf"]
    salt = base64.b64decode(kdf["salt"])
    root = Argon2id(
        salt=salt,
        length=32,
        iterations=kdf["iterations"],
        lanes=kdf["lanes"],
        memory_cost=kdf["memory_kib"],
    ).derive(b"correct horse battery staple")
    domain = "regalia/development-key-store/v1"
    assert base64.b64encode(hkdf(root, f"{domain}/commitment")).decode() == item["commitment"]
    covered = text.replace(item["mac"], "").encode()
    mac = hmac.digest(hkdf(root, f"{domain}/mac"), covered, "sha256")
    assert base64.b64encode(mac).decode() == item["mac"]
    (entry,) = item["keys"]
    sealed = base64.b64decode(entry["sealed"])
    identity = bytes.fromhex(entry["id"].removeprefix("kek:"))
    aad = lp(f"{domain}/kek".encode(), salt, entry["name"].encode(), identity)
    kek = AESGCM(hkdf(root, f"{domain}/seal")).decrypt(sealed[:12], sealed[12:], aad)
    assert kek.hex() == read("wrapped-key.json")["kek"]


def test_approval() -> None:
    payload = read("approval.json")["payload"].encode()
    assert parse_approval(payload).encode() == payload
