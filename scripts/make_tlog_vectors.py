"""Write the log's test vectors: python scripts/make_tlog_vectors.py [--check].

All keys come from published seeds and Ed25519 signatures have no randomness, so a second run
gives the same bytes. ``log.json`` is a log of five records; ``defects.json`` holds proofs with
exactly one defect each and the code that each deserves. Specs: docs/spec/release-record.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vector_files import write_or_compare

from regalia.core.codec import b64, unb64
from regalia.crypto.sign import SigningKey
from regalia.tlog.merkle import EMPTY_ROOT, Frontier, consistency_path, inclusion_path, leaf_hash
from regalia.tlog.note import Checkpoint, log_key, sign_checkpoint
from regalia.tlog.tiles import Tile, encode_bundle
from regalia.wire.release import RECORD_FORMAT, RECORD_FORMAT_V1, LogProof, Reason, ReleaseRecord

FOLDER = Path(__file__).parents[1] / "tests" / "vectors" / "tlog"
ORIGIN = "log.example/regalia-vectors"
SEED = hashlib.sha256(b"regalia test vector: log").digest()
OTHER_SEED = hashlib.sha256(b"regalia test vector: another log").digest()
ROOT_SIZES = (0, 1, 2, 3, 7, 8, 255, 256, 257, 65536, 65537)


def signer(seed: bytes) -> SigningKey:
    """A signing key from a published seed: it protects nothing."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))


def digest(text: str) -> str:
    """Hex that stands for something."""
    return hashlib.sha256(text.encode()).hexdigest()


def record(number: int, **changes: Any) -> ReleaseRecord:  # noqa: ANN401 - fields of a record
    """One record; the fields of a release by default."""
    fields: dict[str, Any] = {
        "format": RECORD_FORMAT,
        "decision": "release",
        "time": f"2026-11-22T10:0{number}:00Z",
        "broker": ORIGIN,
        "model_id": f"model:{digest('model')}",
        "model_version": 3,
        "policy_id": f"policy:{digest('policy')}",
        "policy_version": 7,
        "hardware": "genuine",
        "tee": "sev-snp",
        "product": "Genoa",
        "measurement": hashlib.sha384(b"image").hexdigest(),
        "chip_id": hashlib.sha512(b"chip").hexdigest(),
        "devices": [],
        "revocation": "checked",
        "evidence_digest": f"sha256:{digest(f'evidence {number}')}",
        "recipient": f"key:{digest(f'key {number}')}",
        "custody": "broker",
        "lease_id": f"lease:{digest(f'lease {number}')[:32]}",
        "lease_until": f"2026-11-22T10:1{number}:00Z",
        "wildcards": [],
        "reasons": [],
    }
    return ReleaseRecord(**(fields | changes))


def records() -> list[ReleaseRecord]:
    """A release of version 1, a denial of verified and one of unverified evidence, a release to a
    machine with devices, a renewal.
    """
    denial: dict[str, Any] = {"decision": "denial", "lease_id": "", "lease_until": ""}
    unverified = dict.fromkeys(("tee", "product", "measurement", "chip_id", "revocation"), "")
    return [
        record(0, format=RECORD_FORMAT_V1),
        record(1, **denial, reasons=[Reason(code="DEBUG_ENABLED", what="guest policy 0xb0000")]),
        record(
            2,
            **denial,
            **unverified,
            hardware="unverified",
            reasons=[Reason(code="NONCE_MISMATCH", what="REPORT_DATA is “other”")],
        ),
        record(
            3,
            devices=["nvidia-gpu:41" + digest("gpu")[:16], "nvidia-switch:50" + digest("sw")[:16]],
            wildcards=["platform.snp.chip_ids", "placement.sites"],
        ),
        record(4, lease_id=f"lease:{digest('lease 0')[:32]}"),
    ]


@dataclass(frozen=True)
class Vectors:
    """A log of five records."""

    entries: tuple[bytes, ...]
    hashes: dict[tuple[int, int], bytes]
    roots: tuple[bytes, ...]  # by size

    @classmethod
    def build(cls, entries: list[bytes]) -> Vectors:
        """Append each entry."""
        frontier, hashes, roots = Frontier(), {}, [EMPTY_ROOT]
        for entry in entries:
            hashes.update(frontier.append(leaf_hash(entry)))
            roots.append(frontier.root())
        return cls(tuple(entries), hashes, tuple(roots))

    def checkpoint(self, size: int, seed: bytes = SEED, origin: str = ORIGIN) -> str:
        """The signed note at one size."""
        return sign_checkpoint(Checkpoint(origin, size, self.roots[size]), signer(seed))

    def proof(self, index: int, size: int) -> LogProof:
        """The proof of one entry at one size."""
        path = inclusion_path(index, size, self.hashes.__getitem__)
        return LogProof(
            record=b64(self.entries[index]),
            index=index,
            path=[b64(item) for item in path],
            checkpoint=self.checkpoint(size),
        )

    def document(self) -> dict[str, Any]:
        """``log.json``."""
        last = len(self.entries)
        get = self.hashes.__getitem__
        return {
            "about": "A log of five release records, at every size. Keys are published.",
            "origin": ORIGIN,
            "private_seed": SEED.hex(),
            "log_key": str(log_key(ORIGIN, signer(SEED).verify_key)),
            "entries": [
                {
                    "index": index,
                    "record": json.loads(each.encode()),
                    "entry": self.entries[index].decode(),
                    "leaf_hash": leaf_hash(self.entries[index]).hex(),
                }
                for index, each in enumerate(records())
            ],
            "sizes": [
                {"size": n, "root": self.roots[n].hex(), "checkpoint": self.checkpoint(n)}
                for n in range(last + 1)
            ],
            "proofs": [msgspec.to_builtins(self.proof(index, last)) for index in range(last)],
            "consistency": [
                {
                    "old": old,
                    "new": new,
                    "path": [b64(item) for item in consistency_path(old, new, get)],
                }
                for new in range(last + 1)
                for old in range(new + 1)
            ],
            "tiles": {
                Tile(None, 0, last).path(): b64(encode_bundle(self.entries)),
                Tile(0, 0, last).path(): b64(b"".join(get((0, n)) for n in range(last))),
            },
            "roots_of_counters": counters(),
        }


def counters() -> dict[str, str]:
    """Roots over the entries "0", "1", "2" and so on, around the borders of tiles."""
    frontier, roots = Frontier(), {}
    for number in range(ROOT_SIZES[-1] + 1):
        if number in ROOT_SIZES:
            roots[str(number)] = frontier.root().hex()
        frontier.append(leaf_hash(str(number).encode()))
    return roots


def flipped(text: str, position: int = 0) -> str:
    """The same base64 with one bit of the data changed."""
    data = bytearray(unb64(text, what="vector"))
    data[position] ^= 1
    return b64(data)


def defects(vectors: Vectors) -> list[dict[str, Any]]:
    """Proofs with one defect each."""
    good = vectors.proof(2, 5)
    note, path = good.checkpoint, good.path
    body, signature = note.split("\n\n")
    other = vectors.proof(3, 5)
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "record_flipped": ("PROOF_INVALID", {"record": flipped(good.record, 100)}),
        "record_of_another_entry": ("PROOF_INVALID", {"record": other.record}),
        "record_empty": ("PROOF_INVALID", {"record": ""}),
        "record_not_base64": ("PROOF_INVALID", {"record": "*"}),
        "index_of_another_entry": ("PROOF_INVALID", {"index": 3}),
        "index_negative": ("PROOF_INVALID", {"index": -1}),
        "index_at_size": ("PROOF_INVALID", {"index": 5}),
        "path_flipped": ("PROOF_INVALID", {"path": [flipped(path[0]), *path[1:]]}),
        "path_swapped": ("PROOF_INVALID", {"path": [path[1], path[0], *path[2:]]}),
        "path_cut": ("PROOF_INVALID", {"path": path[:-1]}),
        "path_appended": ("PROOF_INVALID", {"path": [*path, path[0]]}),
        "path_of_another_entry": ("PROOF_INVALID", {"path": other.path}),
        "path_hash_short": ("PROOF_INVALID", {"path": [path[0][:40], *path[1:]]}),
        "checkpoint_older": ("PROOF_INVALID", {"checkpoint": vectors.checkpoint(4)}),
        "checkpoint_empty": ("CHECKPOINT_INVALID", {"checkpoint": ""}),
        "checkpoint_unsigned": ("CHECKPOINT_INVALID", {"checkpoint": f"{body}\n"}),
        "checkpoint_by_another_key": (
            "CHECKPOINT_INVALID",
            {"checkpoint": vectors.checkpoint(5, seed=OTHER_SEED)},
        ),
        "checkpoint_of_another_origin": (
            "CHECKPOINT_INVALID",
            {"checkpoint": vectors.checkpoint(5, origin="other.example")},
        ),
        "checkpoint_size_changed": (
            "CHECKPOINT_INVALID",
            {"checkpoint": note.replace("\n5\n", "\n6\n")},
        ),
        "checkpoint_size_with_zero": (
            "CHECKPOINT_INVALID",
            {"checkpoint": note.replace("\n5\n", "\n05\n")},
        ),
        "checkpoint_signature_flipped": (
            "CHECKPOINT_INVALID",
            {"checkpoint": f"{body}\n\n{flip_signature(signature)}"},
        ),
        "checkpoint_signature_twice": ("CHECKPOINT_INVALID", {"checkpoint": note + signature}),
        "checkpoint_carriage_return": (
            "CHECKPOINT_INVALID",
            {"checkpoint": note.replace("\n", "\r\n")},
        ),
    }
    return [
        {
            "name": name,
            "code": code,
            "proof": msgspec.to_builtins(msgspec.structs.replace(good, **changes)),
        }
        for name, (code, changes) in cases.items()
    ]


def flip_signature(line: str) -> str:
    """The same signature line with one bit of the signature changed."""
    start, _, encoded = line.removesuffix("\n").rpartition(" ")
    return f"{start} {flipped(encoded, 20)}\n"


def files() -> dict[str, bytes]:
    """Contents by name."""
    vectors = Vectors.build([each.encode() for each in records()])
    return {
        name: json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
        for name, value in (("log.json", vectors.document()), ("defects.json", defects(vectors)))
    }


def main() -> int:
    """Write the files, or compare them."""
    return write_or_compare(FOLDER, files())


if __name__ == "__main__":
    sys.exit(main())
