"""A second reader of sealed models, written from docs/spec/sealed-model.md and conventions.md.

It shares no code with the package: only ``cryptography`` and the standard library. It is short
and slow, and reads whole files into memory; the package's reader is the one to use.

Usage: independent_reader.py SEALED MODEL_KEY_HEX OWNER_FINGERPRINT
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import struct
import sys
import unicodedata
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PAYLOAD_TYPE = "application/vnd.regalia.sealed-model.v1+json"
STRIDES = (65_536, 1_048_576, 4_194_304)
MIB = 1 << 20


class Refused(Exception):  # noqa: N818 - the spec's word
    """A code of the spec's table "Verification order"."""


def need(condition: object, code: str) -> None:
    if not condition:
        raise Refused(code)


# --- conventions.md


def canonical(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def parse_json(data: bytes, members: dict[str, Any], limit: int) -> dict[str, Any]:
    need(len(data) <= limit, "TOO_LARGE")
    try:
        value = json.loads(data.decode())
        same = canonical(value) == data
    except (ValueError, RecursionError):
        raise Refused("MALFORMED") from None
    need(same, "MALFORMED")
    return shape(value, members)


def shape(value: object, members: dict[str, Any]) -> dict[str, Any]:
    need(isinstance(value, dict), "MALFORMED")
    if not isinstance(value, dict):
        raise TypeError
    need(value.keys() == members.keys(), "MALFORMED")
    for name, kind in members.items():
        need(isinstance(value[name], kind) and not isinstance(value[name], bool), "MALFORMED")
    return value


def unb64(text: str, limit: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("MALFORMED") from None
    need(len(data) <= limit, "TOO_LARGE")
    need(base64.b64encode(data).decode() == text, "MALFORMED")
    return data


def fixed(text: str, prefix: str) -> bytes:
    need(text.startswith(prefix + ":"), "MALFORMED")
    try:
        data = bytes.fromhex(text[len(prefix) + 1 :])
    except ValueError:
        raise Refused("MALFORMED") from None
    need(len(data) == 32 and text == f"{prefix}:{data.hex()}", "MALFORMED")
    return data


def lp(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def fingerprint(spki: bytes) -> str:
    return "key:" + hashlib.sha256(spki).hexdigest()


def check_signature(spki: bytes, signature: bytes, message: bytes) -> None:
    key = load_key(spki)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise Refused("SIGNATURE_INVALID") from None


def load_key(spki: bytes) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_der_public_key(spki)
    except ValueError:
        raise Refused("PUBLIC_KEY_MALFORMED") from None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise Refused("PUBLIC_KEY_MALFORMED")


# --- sealed-model.md: manifest, steps 1 to 7


def read_manifest(data: bytes, owner: str, minimum_version: int) -> dict[str, Any]:
    envelope = parse_json(data, {"payload": str, "payloadType": str, "signatures": list}, 24 * MIB)
    need(len(envelope["signatures"]) <= 16, "TOO_LARGE")
    signatures = {}
    for item in envelope["signatures"]:
        shape(item, {"keyid": str, "sig": str})
        need(item["keyid"] not in signatures, "MALFORMED")
        signatures[item["keyid"]] = unb64(item["sig"], MIB)
    payload = unb64(envelope["payload"], 16 * MIB)
    need(envelope["payloadType"] == PAYLOAD_TYPE, "WRONG_PAYLOAD_TYPE")
    manifest = parse_manifest(payload)
    need(manifest["signer"] is not None and signatures, "UNSIGNED")
    spki = unb64(manifest["signer"], 1024)
    load_key(spki)
    need(fingerprint(spki) == owner and owner in signatures, "SIGNER_UNKNOWN")
    kind = PAYLOAD_TYPE.encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    check_signature(spki, signatures[owner], message)
    need(manifest["version"] >= minimum_version, "VERSION_ROLLBACK")
    return manifest


def parse_manifest(payload: bytes) -> dict[str, Any]:
    need(len(payload) <= 8 * MIB, "TOO_LARGE")
    members = {
        **dict.fromkeys(("format", "suite", "seal_id", "model_id"), str),
        **dict.fromkeys(("version", "stride", "shard_chunks", "stream_size"), int),
        "signer": str | None,
        "wrapped_key": dict,
        "index": dict,
        "shards": list,
    }
    if b'"base":' in payload:  # of adapters only
        members["base"] = str
    m = parse_json(payload, members, 8 * MIB)
    need(m["format"] == "regalia/sealed-model/v1", "SEALED_VERSION_UNKNOWN")
    need(m["suite"] == "aes-256-gcm+hkdf-sha-512", "SEALED_SUITE_UNKNOWN")
    fixed(m["seal_id"], "seal")
    fixed(m["model_id"], "model")
    if "base" in m:
        fixed(m["base"], "model")
        need(m["base"] != m["model_id"], "MALFORMED")
    need(1 <= m["version"] < 1 << 53, "MALFORMED")
    need(m["stride"] in STRIDES and 1 <= m["shard_chunks"] <= 65_536, "MALFORMED")
    need(0 <= m["stream_size"] <= 1 << 53, "MALFORMED")
    shape(m["wrapped_key"], {"kek": str, "algorithm": str, "blob": str})
    for name, most in (("kek", 256), ("algorithm", 64)):
        need(len(m["wrapped_key"][name].encode()) <= most, "TOO_LARGE")
        text = m["wrapped_key"][name]
        need(text and all(" " <= character <= "~" for character in text), "MALFORMED")
    unb64(m["signer"] or "", 1024)
    need(len(unb64(m["wrapped_key"]["blob"], 4096)) >= 1, "MALFORMED")
    sizes = shard_sizes(m)
    need(len(sizes) <= 10_000, "TOO_LARGE")
    need(len(m["shards"]) == len(sizes), "MALFORMED")
    for file in (m["index"], *m["shards"]):
        shape(file, {"size": int, "prefix_digest": str, "digest": str})
        fixed(file["prefix_digest"], "sha256")
        fixed(file["digest"], "sha256")
    for file, size in zip(m["shards"], sizes, strict=True):
        need(file["size"] == stored(size, m["stride"]), "MALFORMED")
    need(m["index"]["size"] <= stored(64 * MIB, m["stride"]), "TOO_LARGE")
    blocks = range(65_536, 64 * MIB + 1, 65_536)
    sizes_of_indexes = (stored(size, m["stride"]) for size in blocks)
    need(m["index"]["size"] in sizes_of_indexes, "MALFORMED")
    return m


def chunk_count(size: int, stride: int) -> int:
    return max(1, -(-size // (stride - 16)))


def stored(size: int, stride: int) -> int:
    return 4096 + size + 16 * chunk_count(size, stride)


def shard_sizes(m: dict[str, Any]) -> list[int]:
    full = m["shard_chunks"] * (m["stride"] - 16)
    count = max(1, -(-m["stream_size"] // full))
    return [min(full, m["stream_size"] - shard * full) for shard in range(count)]


# --- sealed-model.md: sealed files, steps 8 to 13, 16 and 19


class SealedFile:
    def __init__(self, folder: Path, m: dict[str, Any], number: int | None) -> None:
        self.name = "index.seal" if number is None else f"shard-{number:05d}.seal"
        entry = m["index"] if number is None else m["shards"][number]
        need((folder / self.name).is_file(), "FILE_MISSING")
        self.data = (folder / self.name).read_bytes()
        need(len(self.data) == entry["size"], "SIZE_CHANGED")
        self.prefix = self.data[:4096]
        need(sha256_text(self.prefix) == entry["prefix_digest"], "PREFIX_CHANGED")
        need(self.prefix[:8] == b"RGLSEAL\0", "NOT_A_SEALED_FILE")
        version, suite, kind, zero_a, index, count, stride, zero_b, size = struct.unpack(
            ">HHHHIIIIQ", self.prefix[8:40]
        )
        need(version == 1, "SEALED_VERSION_UNKNOWN")
        need(suite == 1, "SEALED_SUITE_UNKNOWN")
        zeros = self.prefix[40:64] + self.prefix[160:]
        need(kind in {1, 2} and not zero_a and not zero_b and not any(zeros), "MALFORMED")
        need(stride in STRIDES, "MALFORMED")
        need(count <= 10_000, "TOO_LARGE")
        need(index < count, "MALFORMED")
        need(chunk_count(size, stride) <= 65_536, "TOO_LARGE")
        want = (1, 0, 1) if number is None else (2, number, len(m["shards"]))
        need((kind, index, count) == want, "SHARD_MISPLACED")
        need(stride == m["stride"], "SHARD_MISPLACED")
        need(self.prefix[64:96] == fixed(m["seal_id"], "seal"), "SHARD_MISPLACED")
        need(stored(size, stride) == len(self.data), "SHARD_MISPLACED")
        self.size, self.stride, self.digest = size, stride, entry["digest"]

    def decrypt(self, model_key: bytes) -> bytes:
        info = b"regalia/sealed-model/v1" + self.prefix[:128]
        okm = HKDF(hashes.SHA512(), 64, self.prefix[96:128], info).derive(model_key)
        wrong = "WRONG_MODEL_KEY" if self.name == "index.seal" else "COMMITMENT_MISMATCH"
        need(hmac.compare_digest(okm[32:], self.prefix[128:160]), wrong)
        cipher, aad = AESGCM(okm[:32]), hashlib.sha256(self.prefix).digest()
        count, plaintext = chunk_count(self.size, self.stride), b""
        for number in range(count):
            nonce = bytes(3) + struct.pack(">Q", number) + bytes([number == count - 1])
            start = 4096 + number * self.stride
            end = min(start + self.stride, len(self.data))
            try:
                plaintext += cipher.decrypt(nonce, self.data[start:end], aad)
            except InvalidTag:
                raise Refused("CHUNK_FORGED") from None
        return plaintext


def sha256_text(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


# --- sealed-model.md: index, paths and model id, steps 17, 18 and 20


def parse_index(data: bytes) -> dict[str, Any]:
    need(len(data) <= 64 * MIB, "TOO_LARGE")
    need(len(data) >= 8, "MALFORMED")
    size = int.from_bytes(data[:8], "big")
    need(len(data) == -(-(8 + size) // 65_536) * 65_536, "MALFORMED")
    need(not any(data[8 + size :]), "MALFORMED")
    members = {"format": str, "stream_size": int, "files": list}
    index = parse_json(data[8 : 8 + size], members, 64 * MIB)
    need(index["format"] == "regalia/sealed-index/v1", "MALFORMED")
    need(1 <= len(index["files"]) <= 100_000, "TOO_LARGE")
    end, previous = 0, b""
    for file in index["files"]:
        shape(file, {"path": str, "offset": int, "length": int, "digest": str})
        fixed(file["digest"], "sha256")
        check_path(file["path"])
        path = file["path"].encode()
        need(path > previous and file["length"] >= 0, "MALFORMED")
        need(0 <= file["offset"] - end <= 63, "MALFORMED")
        previous, end = path, file["offset"] + file["length"]
    need(end == index["stream_size"], "MALFORMED")
    check_collisions([file["path"] for file in index["files"]])
    return index


def check_path(path: str) -> None:
    parts = path.split("/")
    bad = {*range(0x20), *range(0x7F, 0xA0), 0x5C, 0x061C, 0x200E, 0x200F}
    bad |= {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    need(1 <= len(path.encode()) <= 1024 and len(parts) <= 32, "PATH_REFUSED")
    need(not any(part in {"", ".", ".."} for part in parts), "PATH_REFUSED")
    need(all(len(part.encode()) <= 255 for part in parts), "PATH_REFUSED")
    need(not any(ord(character) in bad for character in path), "PATH_REFUSED")


def check_collisions(paths: list[str]) -> None:
    places: dict[str, tuple[str, bool]] = {}
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            spelling = ("/".join(parts[:depth]), depth == len(parts))
            folded = unicodedata.normalize("NFC", spelling[0]).casefold()
            place = unicodedata.normalize("NFC", folded)
            need(places.setdefault(place, spelling) == spelling, "PATHS_COLLIDE")


def model_id(files: list[dict[str, Any]]) -> str:
    data = b"regalia/model-id/v1"
    for file in files:
        length = struct.pack(">Q", file["length"])
        data += lp(file["path"].encode(), length, fixed(file["digest"], "sha256"))
    return "model:" + hashlib.sha256(data).hexdigest()


# --- the two readings


def verify(folder: Path, owner: str, minimum_version: int = 1) -> None:
    """Steps 1 to 15: without a key."""
    need((folder / "manifest.json").is_file(), "FILE_MISSING")
    m = read_manifest((folder / "manifest.json").read_bytes(), owner, minimum_version)
    names = ["manifest.json", "index.seal"]
    names += [f"shard-{number:05d}.seal" for number in range(len(m["shards"]))]
    have = {path.name for path in folder.iterdir()}
    need(have >= set(names), "FILE_MISSING")
    need(have <= set(names), "UNEXPECTED_FILE")
    files = [SealedFile(folder, m, n) for n in (None, *range(len(m["shards"])))]
    need(all(sha256_text(file.data) == file.digest for file in files), "CIPHERTEXT_CHANGED")


def read(folder: Path, model_key: bytes, owner: str, minimum_version: int = 1) -> dict[str, bytes]:
    """Steps 1 to 13 and 16 to 20: every file of the model by its path."""
    need((folder / "manifest.json").is_file(), "FILE_MISSING")
    m = read_manifest((folder / "manifest.json").read_bytes(), owner, minimum_version)
    index = parse_index(SealedFile(folder, m, None).decrypt(model_key))
    need(index["stream_size"] == m["stream_size"], "MODEL_ID_MISMATCH")
    need(model_id(index["files"]) == m["model_id"], "MODEL_ID_MISMATCH")
    shards = [SealedFile(folder, m, number) for number in range(len(m["shards"]))]
    stream = b"".join(shard.decrypt(model_key) for shard in shards)
    files = {}
    for file in index["files"]:
        data = stream[file["offset"] : file["offset"] + file["length"]]
        need(sha256_text(data) == file["digest"], "FILE_CHANGED")
        files[file["path"]] = data
    return files


if __name__ == "__main__":
    sealed, key, trusted = sys.argv[1:]
    for name, content in read(Path(sealed), bytes.fromhex(key), trusted).items():
        sys.stdout.write(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
