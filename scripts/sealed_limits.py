"""Manifests at and beyond their limits, signed prefixes, and what a holder of the key can change.

Used by ``make_sealed_vectors.py``. Spec: docs/spec/sealed-model.md. A case here says how a file is
made from another one, so it takes few bytes also where the file is large; see ``ABOUT``.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from vector_files import differing, short, text_of

from regalia.core.codec import MIB, b64, canonical_json
from regalia.core.types import Digest, KeyFingerprint
from regalia.crypto.dsse import pae
from regalia.seal.format.manifest import PAYLOAD_TYPE
from regalia.seal.format.sealed import (
    INDEX_NAME,
    MANIFEST_NAME,
    PREFIX_SIZE,
    SHARD_CHUNKS_MAX,
    Geometry,
    shard_name,
    stored_size,
)

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.crypto.sign import SigningKey
    from regalia.seal.format.manifest import Manifest

ABOUT = [
    "Each case is the model in the folder of `base`, after its edits, and the code with which it",
    "is refused: by `verify`, without a key; by `load`, with the key; by `open`, as `load` unless",
    "given. null: it is not refused. Edits of one file:",
    "xor: the mask changes the byte at the offset. truncate: its first bytes remain; a negative",
    "number counts from the end. copy_range, swap_range: inside of the file. swap: with another",
    "file. replace: by a file of these vectors. rename, remove: the file. write: these bytes stand",
    "at the offset. add: another file, of these bytes.",
    "manifest: an envelope of this type and signature. Its payload is that of `base` with these",
    "members in place of its own, and this text behind it; or `payload`.",
    "A long text is an object: `before`, then `repeat` as often as `times` says, then `behind`.",
    "`two_defects` are refused with the code of the defect that comes first in the order.",
]
Case = dict[str, Any]
Edit = dict[str, Any]
STRIDE = 64 * 1024
CHUNK_PAYLOAD = STRIDE - 16
ZERO_FILE = {"digest": "sha256:" + "0" * 64, "prefix_digest": "sha256:" + "0" * 64}


@dataclass(frozen=True)
class Owner:
    """Who signs manifests."""

    key: SigningKey
    good: Manifest

    def edit(self, *, members: dict[str, Any], behind: str = "", **other: str) -> Edit:
        """Exchange the manifest for one with other members.

        Args:
            members: of the payload, a long text in them as ``short`` returns it.
            behind: what stands behind the payload.
            other: members of the edit in place of the usual ones.
        """
        differs = {"members": members, "behind": behind}
        payload = differing(self.good.encode().decode(), differs)
        return differs | self.signed(payload, **other)

    def signed(self, payload: str, **other: str) -> Edit:
        """The parts of an edit that do not say what the payload is.

        Args:
            payload: what is signed.
            other: as in ``edit``.
        """
        kind = other.get("type", PAYLOAD_TYPE)
        return {
            "op": "manifest",
            "file": MANIFEST_NAME,
            "type": kind,
            "keyid": str(self.key.verify_key.fingerprint),
            "signature": b64(self.key.sign(pae(kind, payload.encode()))),
        } | other

    def many_shards(self, count: int) -> Edit:
        """A manifest of so many full shards of one chunk."""
        file = canonical_json(ZERO_FILE | {"size": PREFIX_SIZE + STRIDE}).decode()
        members = {"shard_chunks": 1, "stream_size": count * CHUNK_PAYLOAD, "shards": ["*"]}
        text = differing(self.good.encode().decode(), {"members": members})
        before, behind = text.split('"*"')
        payload = {"before": before, "repeat": f"{file},", "times": count - 1}
        payload["behind"] = file + behind
        return {"payload": payload} | self.signed(text_of(payload))


def layout(good: Manifest, stride: int, shard_chunks: int) -> dict[str, Any]:
    """Members for another layout of the same stream, with all sizes that follow from it."""
    geometry = Geometry(stride, shard_chunks, good.geometry.stream_size)
    sizes = [geometry.shard_size(number) for number in range(geometry.shard_count)]
    return {
        "stride": stride,
        "shard_chunks": shard_chunks,
        "index": ZERO_FILE | {"size": stored_size(STRIDE, stride)},
        "shards": [ZERO_FILE | {"size": stored_size(size, stride)} for size in sizes],
    }


def largest(owner: Owner) -> dict[str, Edit]:
    """Manifests with a value at its limit, which a reader takes."""
    good = owner.good
    wrapped = json.loads(good.encode())["wrapped_key"]
    members: dict[str, dict[str, Any]] = {
        "kek_of_256_characters": {"wrapped_key": wrapped | {"kek": "~" * 256}},
        "kek_of_a_space": {"wrapped_key": wrapped | {"kek": " "}},
        "algorithm_of_64_characters": {"wrapped_key": wrapped | {"algorithm": "x" * 64}},
        "blob_of_one_byte": {"wrapped_key": wrapped | {"blob": b64(b"\0")}},
        "blob_of_4096_bytes": {"wrapped_key": wrapped | {"blob": b64(bytes(4096))}},
        "version_1": {"version": 1},
        "version_2_53_less_1": {"version": 2**53 - 1},
        "shard_chunks_1": layout(good, STRIDE, 1),
        "shard_chunks_65536": layout(good, STRIDE, SHARD_CHUNKS_MAX),
        "stride_4_mib": layout(good, 4 * MIB, 1),
        "base_of_an_adapter": {"base": f"model:{'ba' * 32}"},
        "index_of_64_mib": {"index": ZERO_FILE | {"size": stored_size(64 * MIB, STRIDE)}},
    }
    edits = {name: owner.edit(members=each) for name, each in members.items()}
    return edits | {"shards_10000": owner.many_shards(10_000)}


def beyond(good: Manifest) -> dict[str, tuple[str, dict[str, Any]]]:
    """Members beyond their limits, by name, with the code."""
    wire = json.loads(good.encode())
    wrapped, index, shards = wire["wrapped_key"], wire["index"], wire["shards"]

    def wrap(**other: str) -> dict[str, Any]:
        return {"wrapped_key": wrapped | other}

    def sized(plaintext: int) -> dict[str, Any]:
        return {"index": index | {"size": stored_size(plaintext, STRIDE)}}

    def first(**other: Any) -> dict[str, Any]:  # noqa: ANN401 - any member
        return {"shards": [shards[0] | other, *shards[1:]]}

    return {
        "kek_empty": ("MALFORMED", wrap(kek="")),
        "kek_not_ascii": ("MALFORMED", wrap(kek="clé")),
        "kek_newline": ("MALFORMED", wrap(kek="kek\n")),
        "kek_delete": ("MALFORMED", wrap(kek="kek\x7f")),
        "kek_of_257_characters": ("TOO_LARGE", wrap(kek="~" * 257)),
        "algorithm_of_65_characters": ("TOO_LARGE", wrap(algorithm="x" * 65)),
        "algorithm_empty": ("MALFORMED", wrap(algorithm="")),
        "algorithm_not_ascii": ("MALFORMED", wrap(algorithm="é")),
        "algorithm_tab": ("MALFORMED", wrap(algorithm="a\tb")),
        "blob_empty": ("MALFORMED", wrap(blob="")),
        "blob_4097_bytes": ("TOO_LARGE", wrap(blob=b64(bytes(4097)))),
        "blob_not_canonical_base64": ("MALFORMED", wrap(blob="QR==")),
        "version_0": ("MALFORMED", {"version": 0}),
        "version_negative": ("MALFORMED", {"version": -1}),
        "version_2_53": ("MALFORMED", {"version": 2**53}),
        "version_text": ("MALFORMED", {"version": "7"}),
        "stride_0": ("MALFORMED", {"stride": 0}),
        "stride_16": ("MALFORMED", {"stride": 16}),
        "stride_32768": ("MALFORMED", layout(good, 1 << 15, 4)),
        "stride_131072": ("MALFORMED", layout(good, 1 << 17, 2)),
        "shard_chunks_0": ("MALFORMED", {"shard_chunks": 0}),
        "shard_chunks_negative": ("MALFORMED", {"shard_chunks": -2}),
        "shard_chunks_65537": ("MALFORMED", layout(good, STRIDE, SHARD_CHUNKS_MAX + 1)),
        "stream_size_negative": ("MALFORMED", {"stream_size": -1}),
        "signer_4097_bytes": ("TOO_LARGE", {"signer": b64(bytes(4097))}),
        "signer_no_base64": ("MALFORMED", {"signer": "*"}),
        "shard_missing": ("MALFORMED", {"shards": shards[:-1]}),
        "shard_too_many": ("MALFORMED", {"shards": [*shards, shards[-1]]}),
        "shards_none": ("MALFORMED", {"shards": []}),
        "shard_a_byte_less": ("MALFORMED", first(size=shards[0]["size"] - 1)),
        "shard_a_byte_more": ("MALFORMED", first(size=shards[0]["size"] + 1)),
        "shard_member_unknown": ("MALFORMED", first(name="shard-00000.seal")),
        "shard_digest_without_form": ("MALFORMED", first(digest="0" * 64)),
        "index_a_byte_less": ("MALFORMED", sized(STRIDE - 1)),
        "index_a_byte_more": ("MALFORMED", sized(STRIDE + 1)),
        "index_of_nothing": ("MALFORMED", sized(0)),
        "index_size_0": ("MALFORMED", {"index": index | {"size": 0}}),
        "index_size_of_no_plaintext": ("MALFORMED", {"index": index | {"size": PREFIX_SIZE + 15}}),
        "index_of_64_mib_and_a_block": ("TOO_LARGE", sized(64 * MIB + STRIDE)),
        "seal_id_without_form": ("MALFORMED", {"seal_id": wire["seal_id"].removeprefix("seal:")}),
        "base_is_null": ("MALFORMED", {"base": None}),
        "base_of_a_seal": ("MALFORMED", {"base": wire["seal_id"]}),
        "base_is_the_model_itself": ("MALFORMED", {"base": wire["model_id"]}),
        "model_id_of_a_seal": ("MALFORMED", {"model_id": wire["seal_id"]}),
    }


def malformed_signers(owner: Owner) -> dict[str, Edit]:
    """Manifests whose signer is no key that may sign."""
    curve = ec.derive_private_key(5, ec.SECP256R1()).public_key()
    keys = {
        "empty": b"",
        "zeros": bytes(44),
        "1024_bytes": bytes(1024),
        "cut": owner.key.verify_key.spki[:-1],
        "p256": curve.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    }
    return {
        name: owner.edit(members={"signer": b64(key)}, keyid=str(KeyFingerprint.of(key)))
        for name, key in keys.items()
    }


def case(name: str, *edits: Edit, verify: str | None, load: str | None) -> Case:
    """One case of ``refused.json``."""
    return {"name": name, "edits": list(edits), "verify": verify, "load": load}


def manifest_limits(owner: Owner, stranger: SigningKey) -> list[Case]:
    """Manifests that are refused before any file is read."""
    wrapped = json.loads(owner.good.encode())["wrapped_key"]
    too_long = {"wrapped_key": wrapped | {"kek": short("x" * (8 * MIB))}}
    edits = {
        f"manifest_{name}": (code, owner.edit(members=members))
        for name, (code, members) in beyond(owner.good).items()
    }
    edits["manifest_shards_10001"] = ("TOO_LARGE", owner.many_shards(10_001))
    edits["manifest_larger_than_8_mib"] = ("TOO_LARGE", owner.edit(members=too_long))
    edits |= {
        f"signer_{name}": ("PUBLIC_KEY_MALFORMED", edit)
        for name, edit in malformed_signers(owner).items()
    }
    mallory = Owner(stranger, owner.good)
    edits["signer_null_though_signed"] = ("UNSIGNED", owner.edit(members={"signer": None}))
    edits["signed_by_another_alone"] = ("SIGNER_UNKNOWN", mallory.edit(members={}))
    return [case(name, edit, verify=code, load=code) for name, (code, edit) in edits.items()]


def two_defects(owner: Owner, mallory: Owner) -> list[Case]:
    """Manifests with two defects, and the code of the one that comes first in the order."""
    signer = {"signer": b64(mallory.key.verify_key.spki)}
    forged = mallory.edit(members={"version": 1})["signature"]
    unknown = {"format": "regalia/sealed-model/v2", "suite": "none"}
    edits = {
        "another_type_and_white_space": (
            "WRONG_PAYLOAD_TYPE",
            owner.edit(members={}, behind="\n", type="text/plain"),
        ),
        "white_space_and_no_signer": (
            "MALFORMED",
            owner.edit(members={"signer": None}, behind="\n"),
        ),
        "white_space_and_another_signer": (
            "MALFORMED",
            mallory.edit(members=signer, behind="\n"),
        ),
        "another_signer_who_did_not_sign": (
            "SIGNER_UNKNOWN",
            mallory.edit(members=signer, signature=""),
        ),
        "forged_and_older": (
            "SIGNATURE_INVALID",
            owner.edit(members={"version": 1}, signature=forged),
        ),
        "unknown_format_and_suite": ("SEALED_VERSION_UNKNOWN", owner.edit(members=unknown)),
    }
    return [
        {**case(name, edit, verify=code, load=code), "minimum_version": 2}
        for name, (code, edit) in edits.items()
    ]


def write(file: str, offset: int, data: bytes) -> Edit:
    """Put bytes at one place."""
    return {"op": "write", "file": file, "offset": offset, "hex": data.hex()}


@dataclass(frozen=True)
class Patch:
    """Other bytes in a prefix."""

    shard: int | None  # number; None for the index
    offset: int
    data: bytes

    @property
    def name(self) -> str:
        """Of the file."""
        return INDEX_NAME if self.shard is None else shard_name(self.shard)


def signed_prefix(folder: Path, owner: Owner, patch: Patch) -> list[Edit]:
    """A file with other bytes in its prefix, and the manifest that the owner signed for it.

    Args:
        folder: of the sealed model.
        owner: who signs.
        patch: the bytes.
    """
    file = bytearray((folder / patch.name).read_bytes())
    file[patch.offset : patch.offset + len(patch.data)] = patch.data
    described = {
        "digest": str(Digest.of(bytes(file))),
        "prefix_digest": str(Digest.of(bytes(file[:PREFIX_SIZE]))),
        "size": len(file),
    }
    if patch.shard is None:
        members: dict[str, Any] = {"index": described}
    else:
        members = {"shards": json.loads(owner.good.encode())["shards"]}
        members["shards"][patch.shard] = described
    return [write(patch.name, patch.offset, patch.data), owner.edit(members=members)]


def prefix_limits(folder: Path, owner: Owner) -> list[Case]:
    """Prefixes that the owner signed although they are beyond a limit, or of another place."""
    u32, u64 = struct.Struct(">I").pack, struct.Struct(">Q").pack
    most = SHARD_CHUNKS_MAX * CHUNK_PAYLOAD
    zeros = {"a": 15, "b": 28, "c": 40, "c_end": 63, "d": 160}
    fields: dict[str, tuple[int | None, int, bytes, str]] = {
        "chunks_65536": (1, 32, u64(most), "SHARD_MISPLACED"),
        "chunks_65537": (1, 32, u64(most + 1), "TOO_LARGE"),
        "plaintext_size_2_64": (1, 32, b"\xff" * 8, "TOO_LARGE"),
        "shard_count_0": (1, 20, u32(0), "MALFORMED"),
        "shard_count_10000": (1, 20, u32(10_000), "SHARD_MISPLACED"),
        "shard_count_10001": (1, 20, u32(10_001), "TOO_LARGE"),
        "shard_index_at_the_count": (1, 16, u32(3), "MALFORMED"),
        "shard_index_of_another": (1, 16, u32(2), "SHARD_MISPLACED"),
        "stride_0": (1, 24, u32(0), "MALFORMED"),
        "stride_131072": (1, 24, u32(1 << 17), "MALFORMED"),
        "kind_0": (1, 12, b"\0\0", "MALFORMED"),
        "version_0": (1, 8, b"\0\0", "SEALED_VERSION_UNKNOWN"),
        "version_256": (1, 8, b"\1\0", "SEALED_VERSION_UNKNOWN"),
        "suite_0": (1, 10, b"\0\0", "SEALED_SUITE_UNKNOWN"),
        "index_of_kind_2": (None, 12, b"\0\2", "SHARD_MISPLACED"),
        "index_of_two": (None, 20, u32(2), "SHARD_MISPLACED"),
        "index_of_another_size": (None, 32, u64(STRIDE - 1), "SHARD_MISPLACED"),
        "index_of_another_seal": (None, 64, bytes(32), "SHARD_MISPLACED"),
        "index_of_another_stride": (None, 24, u32(MIB), "SHARD_MISPLACED"),
        "index_commitment": (None, 128, bytes(32), "WRONG_MODEL_KEY"),
    }
    fields |= {f"reserved_{name}": (1, at, b"\1", "MALFORMED") for name, at in zeros.items()}
    cases = []
    for name, (number, offset, data, code) in fields.items():
        edits = signed_prefix(folder, owner, Patch(number, offset, data))
        verify = None if code == "WRONG_MODEL_KEY" else code
        cases.append(case(f"prefix_signed_{name}", *edits, verify=verify, load=code))
    return cases


def unexpected_files() -> list[Case]:
    """Files beside those of the model. Whoever loads does not look for them."""
    names = {
        "notes": "notes.txt",
        "hidden": ".hidden",
        "another_shard": "shard-00003.seal",
        "shard_of_four_digits": "shard-0000.seal",
        "index_kept": "index.seal~",
    }
    return [
        case(
            f"file_beside_{name}",
            {"op": "add", "file": file, "hex": b"beside".hex()},
            verify="UNEXPECTED_FILE",
            load=None,
        )
        for name, file in names.items()
    ]


def rewritten(folder: Path, name: str, described: dict[str, Any], place: int) -> list[Edit]:
    """One bit of a file's first and only chunk changed by somebody who has the model key.

    Args:
        folder: of the sealed model.
        name: of the file.
        described: what ``vectors.json`` says of it.
        place: of the byte in the plaintext.
    """
    (chunk,) = described["chunks"]
    cipher, nonce = AESGCM(bytes.fromhex(described["file_key"])), bytes.fromhex(chunk["nonce"])
    aad, start = bytes.fromhex(described["associated_data"]), chunk["offset"]
    stored = (folder / name).read_bytes()[start:]
    plaintext = bytearray(cipher.decrypt(nonce, stored, aad))
    plaintext[place] ^= 1
    again = cipher.encrypt(nonce, bytes(plaintext), aad)
    tag = len(plaintext)
    return [
        write(name, start + place, again[place : place + 1]),
        write(name, start + tag, again[tag:]),
    ]


def by_a_holder_of_the_key(folder: Path, files: dict[str, Any]) -> list[Case]:
    """Chunks that authenticate and are not the owner's."""
    last = shard_name(2)
    found = "CIPHERTEXT_CHANGED"
    return [
        {
            **case(
                "chunk_rewritten", *rewritten(folder, last, files[last], 7), verify=found, load=None
            ),
            "open": "FILE_CHANGED",
        }
    ]
