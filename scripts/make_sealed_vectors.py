"""Write the test vectors of the sealed model. Usage: make_sealed_vectors.py OUTPUT_DIRECTORY.

Everything is deterministic: the random source is a counter under SHA-256, and Ed25519 signatures
have no randomness. The format is in docs/spec/sealed-model.md, the files are described at its end.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sealed_limits import (
    ABOUT,
    Owner,
    by_a_holder_of_the_key,
    largest,
    manifest_limits,
    prefix_limits,
    two_defects,
    unexpected_files,
)

from regalia.core.codec import b64
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest, ModelId
from regalia.crypto.aead import chunk_nonce
from regalia.crypto.dsse import Envelope, parse_envelope, sign
from regalia.crypto.kdf import hkdf_sha512
from regalia.crypto.sign import SigningKey
from regalia.seal.format.index import model_id
from regalia.seal.format.manifest import PAYLOAD_TYPE, SealedFile, parse_manifest
from regalia.seal.format.prefix import parse_prefix
from regalia.seal.format.sealed import (
    INDEX_NAME,
    MANIFEST_NAME,
    PREFIX_SIZE,
    Geometry,
    WrappedKey,
    chunk_at,
    chunk_count,
    shard_name,
    stored_size,
)
from regalia.seal.progress import no_progress
from regalia.seal.writer import SealOptions, seal_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.seal.format.manifest import Manifest

STRIDE = 64 * 1024
PAYLOAD = STRIDE - 16
SIGNER_SEED = hashlib.sha256(b"regalia test vector: owner").digest()
MALLORY_SEED = hashlib.sha256(b"regalia test vector: mallory").digest()
KEK_NAME = "test-kek"
WRAP_ALGORITHM = "opaque-test-vector"
WRAPPED = hashlib.sha256(b"regalia test vector: wrapped key").digest()


def counter_random(seed: str) -> Callable[[memoryview], None]:
    """A random source that gives the same bytes in every run. Never outside of test vectors."""
    state = {"calls": 0}

    def fill(buffer: memoryview) -> None:
        stream = b""
        while len(stream) < buffer.nbytes:
            block = f"regalia test vector: {seed}: {state['calls']}"
            stream += hashlib.sha256(block.encode()).digest()
            state["calls"] += 1
        buffer[:] = stream[: buffer.nbytes]

    return fill


def rule(size: int, seed: int) -> bytes:
    """Byte i is (i * 7 + i // 256 + seed) mod 251."""
    return bytes((i * 7 + i // 256 + seed) % 251 for i in range(size))


def model_files() -> dict[str, bytes]:
    """A model with every kind of size. Byte order of names: capitals before small letters."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [300], "data_offsets": [0, 300]}}).encode()
    return {
        "README": b"Not a real model.\n",
        "config.json": b'{"layers":1}',
        "empty.txt": b"",
        "one.bin": b"\x01",
        "sub/\u00fcmlaut.txt": "\u00fc".encode(),
        "tensors.safetensors": len(header).to_bytes(8, "little") + header + rule(300, 1),
        "weights.bin": rule(4 * PAYLOAD + 1000, 2),
    }


def adapter_files() -> dict[str, bytes]:
    """An adapter with one pair of matrices, as PEFT saves it."""
    names = ("lora_A", "lora_B")
    entries = {
        f"base_model.model.w.{name}.weight": {
            "dtype": "F32",
            "shape": [2, 2],
            "data_offsets": [16 * number, 16 * number + 16],
        }
        for number, name in enumerate(names)
    }
    header = json.dumps(entries).encode()
    return {
        "adapter_config.json": b'{"lora_alpha":2,"peft_type":"LORA","r":2}',
        "adapter_model.safetensors": len(header).to_bytes(8, "little") + header + rule(32, 3),
    }


def signing_key(seed: bytes) -> SigningKey:
    """An Ed25519 key from its RFC 8032 seed."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))


def seal(
    files: dict[str, bytes], out: Path, *, name: str, version: int, base: ModelId | None = None
) -> SecretBytes:
    """Seal some files deterministically; returns the model key."""
    keys: list[bytes] = []

    def wrap(model_key: SecretBytes, _context: bytes) -> WrappedKey:
        keys.append(model_key.view().tobytes())
        return WrappedKey(KEK_NAME, WRAP_ALGORITHM, WRAPPED)

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        for path, data in files.items():
            (model / path).parent.mkdir(parents=True, exist_ok=True)
            (model / path).write_bytes(data)
        seal_model(
            model,
            out,
            SealOptions(version=version, stride=STRIDE, shard_chunks=2, threads=2, base=base),
            wrap=wrap,
            signing_key=signing_key(SIGNER_SEED),
            progress=no_progress,
            random=counter_random(name),
        )
    return SecretBytes.copy_of(keys[0])


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a sealed model that this script made."""
    data = (folder / MANIFEST_NAME).read_bytes()
    return parse_manifest(parse_envelope(data, what="manifest").unverified_payload)


def describe_file(path: Path, model_key: SecretBytes) -> dict[str, object]:
    """Every intermediate value of one sealed file."""
    data = path.read_bytes()
    head = data[:PREFIX_SIZE]
    prefix = parse_prefix(head, what=path.name)
    info = b"regalia/sealed-model/v1" + prefix.committed()
    with hkdf_sha512(model_key, salt=prefix.salt, info=info, size=64) as derived:
        okm = derived.view().tobytes()
    chunks = []
    for number in range(chunk_count(prefix.plaintext_size, prefix.stride)):
        chunk = chunk_at(number, prefix.plaintext_size, prefix.stride)
        end = chunk.offset + chunk.stored
        chunks.append(
            {
                "number": number,
                "offset": chunk.offset,
                "plaintext_size": chunk.size,
                "nonce": chunk_nonce(number, last=chunk.last).hex(),
                "tag": data[end - 16 : end].hex(),
            }
        )
    return {
        "size": len(data),
        "plaintext_size": prefix.plaintext_size,
        "salt": prefix.salt.hex(),
        "hkdf_info": info.hex(),
        "file_key": okm[:32].hex(),
        "commitment": okm[32:].hex(),
        "associated_data": hashlib.sha256(head).hexdigest(),
        "prefix_digest": str(Digest.of(head)),
        "digest": str(Digest.of(data)),
        "chunks": chunks,
    }


def describe_model(folder: Path, files: dict[str, bytes], model_key: SecretBytes) -> dict[str, Any]:
    """Everything about one sealed model."""
    manifest = read_manifest(folder)
    names = [INDEX_NAME, *(shard_name(number) for number in range(len(manifest.shards)))]
    return {
        "folder": folder.name,
        "model_key": model_key.view().hex(),
        "model_id": str(manifest.model_id),
        "base": None if manifest.base is None else str(manifest.base),
        "seal_id": str(manifest.seal_id),
        "version": manifest.version,
        "stream_size": manifest.geometry.stream_size,
        "wrap_context": manifest.wrap_context().hex(),
        "files": {name: describe_file(folder / name, model_key) for name in names},
        "plaintext": [
            {
                "path": path,
                "length": len(data),
                "digest": str(Digest.of(data)),
                "base64": b64(data) if len(data) < PAYLOAD else None,
            }
            for path, data in sorted(files.items(), key=lambda item: item[0].encode())
        ],
    }


def geometry_table() -> list[dict[str, int]]:
    """Layouts by arithmetic."""
    cases = [
        *((1 << 16, 2, size) for size in (0, 1, PAYLOAD, PAYLOAD + 1, 2 * PAYLOAD)),
        *((1 << 16, 2, size) for size in (2 * PAYLOAD + 1, 4 * PAYLOAD)),
        *((1 << 20, 4096, size) for size in (269_060_608, (1 << 32) - 65_536, 140_000_000_000)),
        (1 << 22, 4096, 1_400_000_000_000),
    ]
    table = []
    for stride, shard_chunks, stream_size in cases:
        geometry = Geometry(stride, shard_chunks, stream_size)
        count = geometry.shard_count
        table.append(
            {
                "stride": stride,
                "shard_chunks": shard_chunks,
                "stream_size": stream_size,
                "shard_count": count,
                "first_shard_stored": stored_size(geometry.shard_size(0), stride),
                "last_shard_stored": stored_size(geometry.shard_size(count - 1), stride),
                "last_shard_start": geometry.shard_start(count - 1),
                "stored_total": geometry.stored_total(),
            }
        )
    return table


def model_id_table() -> list[dict[str, object]]:
    """Model ids of lists of files."""
    one, other = Digest.of(b"1"), Digest.of(b"2")
    cases = [
        [("a", 1, one)],
        [("a", 1, one), ("b", 1, other)],
        [("a", 1, other), ("b", 1, one)],
        [("a/b", 1, one)],
        [("\u00fc", 0, Digest.of(b""))],
    ]
    return [
        {
            "files": [
                {"path": path, "length": length, "digest": str(digest)}
                for path, length, digest in files
            ],
            "model_id": str(model_id(files)),
        }
        for files in cases
    ]


Case = dict[str, object]
Edit = Mapping[str, object]


def edit(name: str, *edits: Edit, verify: str | None, load: str) -> Case:
    """A case in which files are damaged and the manifest is as the owner wrote it."""
    return {"name": name, "edits": list(edits), "verify": verify, "load": load}


def xor(file: str, offset: int, mask: int = 1) -> Edit:
    """Flip bits of one byte."""
    return {"op": "xor", "file": file, "offset": offset, "mask": mask}


def plain_cases() -> list[Case]:
    """Damage that anybody with write access to a store can do."""
    shard, second, last = shard_name(0), shard_name(1), INDEX_NAME
    prefix, size, chunk = "PREFIX_CHANGED", "SIZE_CHANGED", PREFIX_SIZE + STRIDE
    fields = {
        "magic": 0,
        "version": 9,
        "suite": 11,
        "kind": 13,
        "reserved_a": 15,
        "shard_index": 19,
        "shard_count": 23,
        "stride": 25,
        "reserved_b": 31,
        "plaintext_size": 39,
        "reserved_c": 40,
        "seal_id": 64,
        "salt": 96,
        "commitment": 128,
        "reserved_d": 160,
        "reserved_d_end": 4095,
    }
    cases = [
        edit(f"prefix_{field}", xor(shard, offset), verify=prefix, load=prefix)
        for field, offset in fields.items()
    ]
    forged = {"verify": "CIPHERTEXT_CHANGED", "load": "CHUNK_FORGED"}
    move = {"op": "copy_range", "file": shard, "size": STRIDE}
    cases += [
        edit("index_chunk", xor(last, PREFIX_SIZE), **forged),
        edit("index_tag", xor(last, PREFIX_SIZE + 65_535), **forged),
        edit("first_chunk", xor(shard, PREFIX_SIZE), **forged),
        edit("second_chunk", xor(shard, chunk + 777, 0x80), **forged),
        edit("tag", xor(shard, chunk - 1), **forged),
        edit("chunk_duplicated", {**move, "from": PREFIX_SIZE, "to": chunk}, **forged),
        edit(
            "chunks_swapped",
            {**move, "op": "swap_range", "from": PREFIX_SIZE, "to": chunk},
            **forged,
        ),
        edit(
            "chunk_dropped",
            {"op": "truncate", "file": shard, "size": chunk},
            verify=size,
            load=size,
        ),
        edit(
            "chunk_appended",
            {**move, "from": PREFIX_SIZE, "to": chunk + STRIDE},
            verify=size,
            load=size,
        ),
        edit(
            "last_chunk_truncated",
            {"op": "truncate", "file": second, "size": -1},
            verify=size,
            load=size,
        ),
        edit(
            "shards_swapped",
            {"op": "swap", "file": shard, "with": second},
            verify=prefix,
            load=prefix,
        ),
        edit(
            "shard_of_another_model",
            {"op": "replace", "file": second, "with": "empty/shard-00000.seal"},
            verify=size,
            load=size,
        ),
        edit(
            "shard_renamed",
            {"op": "rename", "file": second, "to": "shard-00009.seal"},
            verify="FILE_MISSING",
            load="FILE_MISSING",
        ),
        edit(
            "index_missing",
            {"op": "remove", "file": last},
            verify="FILE_MISSING",
            load="FILE_MISSING",
        ),
    ]
    return cases


def manifest_cases(folder: Path, out: Path) -> list[Case]:
    """Manifests that somebody wrote wrongly, or somebody else wrote."""
    good = read_manifest(folder)
    owner, mallory = signing_key(SIGNER_SEED), signing_key(MALLORY_SEED)
    payload = good.encode()
    name = str(owner.verify_key.fingerprint)
    forged = sign(PAYLOAD_TYPE, payload, (mallory,)).signatures[0][1]
    as_mallory = replace(good, signer=mallory.verify_key.spki).encode()
    other_id = replace(good, model_id=ModelId(bytes(32))).encode()

    def text(old: bytes, new: bytes) -> bytes:
        if payload.count(old) != 1:
            raise ValueError(f"{old!r} is not there once")
        return payload.replace(old, new)

    def by_owner(data: bytes) -> Envelope:
        return sign(PAYLOAD_TYPE, data, (owner,))

    envelopes: dict[str, tuple[Envelope, str, str | None]] = {
        "unsigned": (sign(PAYLOAD_TYPE, replace(good, signer=None).encode(), ()), "UNSIGNED", ""),
        "signature_stripped": (sign(PAYLOAD_TYPE, payload, ()), "UNSIGNED", ""),
        "forged_signature": (
            Envelope(PAYLOAD_TYPE, payload, ((name, forged),)),
            "SIGNATURE_INVALID",
            "",
        ),
        "other_signer": (sign(PAYLOAD_TYPE, as_mallory, (mallory,)), "SIGNER_UNKNOWN", ""),
        "wrong_payload_type": (
            sign("application/json", payload, (owner,)),
            "WRONG_PAYLOAD_TYPE",
            "",
        ),
        "white_space": (by_owner(payload + b"\n"), "MALFORMED", ""),
        "unknown_member": (by_owner(text(b'"format":', b'"extra":1,"format":')), "MALFORMED", ""),
        "unknown_suite": (
            by_owner(text(b"aes-256-gcm+", b"aes-256-ocb+")),
            "SEALED_SUITE_UNKNOWN",
            "",
        ),
        "unknown_format": (
            by_owner(text(b"sealed-model/v1", b"sealed-model/v9")),
            "SEALED_VERSION_UNKNOWN",
            "",
        ),
        "oversized_index": (by_owner(text(b'"size":69664', b'"size":99999999')), "TOO_LARGE", ""),
        "other_layout": (by_owner(text(b'"shard_chunks":2', b'"shard_chunks":3')), "MALFORMED", ""),
        "other_model_id": (by_owner(other_id), "MODEL_ID_MISMATCH", None),
    }
    cases: list[Case] = []
    for case, (envelope, code, verify) in envelopes.items():
        path = Path("refused") / f"{case}.json"
        (out / path).parent.mkdir(exist_ok=True)
        (out / path).write_bytes(envelope.encode())
        change = {"op": "replace", "file": MANIFEST_NAME, "with": str(path)}
        cases.append(edit(case, change, verify=code if verify is not None else None, load=code))
    return cases


def resigned_cases(folder: Path, out: Path) -> list[Case]:
    """Prefixes that the owner signed although they are wrong: each has a code of its own."""
    good = read_manifest(folder)
    fields = {
        "magic": (0, 1, "NOT_A_SEALED_FILE"),
        "version": (9, 2, "SEALED_VERSION_UNKNOWN"),
        "suite": (11, 2, "SEALED_SUITE_UNKNOWN"),
        "kind_unknown": (13, 8, "MALFORMED"),
        "kind_other": (13, 3, "SHARD_MISPLACED"),
        "reserved": (4095, 1, "MALFORMED"),
        "shard_count": (23, 4, "SHARD_MISPLACED"),
        "stride": (25, 0x11, "SHARD_MISPLACED"),
        "plaintext_size": (39, 1, "SHARD_MISPLACED"),
        "seal_id": (64, 1, "SHARD_MISPLACED"),
        "salt": (96, 1, "COMMITMENT_MISMATCH"),
        "commitment": (128, 1, "COMMITMENT_MISMATCH"),
    }
    cases: list[Case] = []
    for field, (offset, mask, code) in fields.items():
        data = bytearray((folder / shard_name(1)).read_bytes())
        data[offset] ^= mask
        file = SealedFile(len(data), Digest.of(data[:PREFIX_SIZE]), Digest.of(data))
        manifest = replace(good, shards=(good.shards[0], file, *good.shards[2:]))
        path = Path("refused") / f"signed_prefix_{field}.json"
        envelope = sign(PAYLOAD_TYPE, manifest.encode(), (signing_key(SIGNER_SEED),))
        (out / path).write_bytes(envelope.encode())
        edits = (
            xor(shard_name(1), offset, mask),
            {"op": "replace", "file": MANIFEST_NAME, "with": str(path)},
        )
        verify = None if code == "COMMITMENT_MISMATCH" else code
        cases.append(edit(f"signed_prefix_{field}", *edits, verify=verify, load=code))
    return cases


def write_json(path: Path, value: object) -> None:
    """Readable and stable."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(out: Path) -> None:
    """Write all vectors into an existing, empty directory."""
    files = model_files()
    key = seal(files, out / "sealed", name="sealed", version=7)
    nothing = {"empty": b""}
    empty_key = seal(nothing, out / "empty", name="empty", version=1)
    owner = signing_key(SIGNER_SEED)
    good = read_manifest(out / "sealed")
    signs, mallory = (Owner(each, good) for each in (owner, signing_key(MALLORY_SEED)))
    tuned = adapter_files()
    tuned_key = seal(tuned, out / "adapter", name="adapter", version=1, base=good.model_id)
    models = [
        describe_model(out / "sealed", files, key),
        describe_model(out / "empty", nothing, empty_key),
        describe_model(out / "adapter", tuned, tuned_key),
    ]
    write_json(
        out / "vectors.json",
        {
            "signer_seed": SIGNER_SEED.hex(),
            "signer_spki": b64(owner.verify_key.spki),
            "signer_fingerprint": str(owner.verify_key.fingerprint),
            "models": models,
            "manifests_at_their_limits": largest(signs),
            "geometry": geometry_table(),
            "model_ids": model_id_table(),
        },
    )
    cases = plain_cases()
    cases += manifest_cases(out / "sealed", out)
    cases += resigned_cases(out / "sealed", out)
    cases.append({**edit("older_version", verify="VERSION_ROLLBACK", load="VERSION_ROLLBACK"),
                  "minimum_version": 8})  # fmt: skip
    cases.append({**edit("wrong_key", verify=None, load="WRONG_MODEL_KEY"),
                  "model_key": empty_key.view().hex()})  # fmt: skip
    cases += manifest_limits(signs, mallory.key)
    cases += prefix_limits(out / "sealed", signs)
    cases += unexpected_files()
    cases += by_a_holder_of_the_key(out / "sealed", models[0]["files"])
    several = two_defects(signs, mallory)
    write_json(
        out / "refused.json",
        {"about": ABOUT, "base": "sealed", "cases": cases, "two_defects": several},
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    main(target)
