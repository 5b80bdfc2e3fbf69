"""Write the log's test vectors: python scripts/make_tlog_vectors.py [--check].

All keys come from published seeds and Ed25519 signatures have no randomness, so a second run
gives the same bytes. ``log.json`` is a log of five records, and another one with notices and with
entries that are no records; ``defects.json`` holds proofs with exactly one defect each and the code
that each deserves. Specs: docs/spec/release-record.md.
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
from vector_files import short, write_or_compare

from regalia.core.clock import rfc3339
from regalia.core.codec import b64, unb64
from regalia.crypto.sign import SigningKey
from regalia.tlog.merkle import EMPTY_ROOT, Frontier, consistency_path, inclusion_path, leaf_hash
from regalia.tlog.note import Checkpoint, log_key, sign_checkpoint
from regalia.tlog.tiles import Tile, encode_bundle
from regalia.wire.release import (
    NOTICE_FORMAT,
    RECORD_FORMAT,
    RECORD_FORMAT_V1,
    RECORD_FORMAT_V2,
    RECORD_LIMIT,
    LogNotice,
    LogProof,
    Reason,
    ReleaseRecord,
)
from regalia.wire.statement import log_statement
from regalia_testing.statements import Tenant

FOLDER = Path(__file__).parents[1] / "tests" / "vectors" / "tlog"
ORIGIN = "log.example/regalia-vectors"
SEED = hashlib.sha256(b"regalia test vector: log").digest()
OTHER_SEED = hashlib.sha256(b"regalia test vector: another log").digest()
NOTICES = {
    "denials-counted": (41, "DEBUG_ENABLED 40, MALFORMED 1"),
    "lease-returned": (1, "lease:000102030405060708090a0b0c0d0e0f"),
    "state-loss-accepted": (3, "state.db was lost"),
    "log-loss-accepted": (2, "log.db was lost"),
    "clock-accepted": (0, "the clock ran ahead"),
}
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
        "key_wrapping": "none",
        "control": "",
        "lease_id": f"lease:{digest(f'lease {number}')[:32]}",
        "lease_until": f"2026-11-22T10:1{number}:00Z",
        "wildcards": [],
        "reasons": [],
    }
    return ReleaseRecord(**(fields | changes))


def records() -> list[ReleaseRecord]:
    """A release of version 1, a denial of verified and one of unverified evidence, a release to a
    machine with devices whose key a token has wrapped, a renewal of version 2.
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
            custody="hsm",
            key_wrapping="rsa-oaep-sha256",
            control=f"sha256:{digest('statement')}",
        ),
        record(4, format=RECORD_FORMAT_V2, lease_id=f"lease:{digest('lease 0')[:32]}"),
    ]


def notices() -> dict[str, bytes]:
    """One entry of each kind of notice."""
    return {
        f"notice_{kind}": LogNotice(
            format=NOTICE_FORMAT,
            kind=kind,
            time="2026-11-22T10:20:00Z",
            since="2026-11-22T10:19:00Z",
            broker=ORIGIN,
            count=count,
            what=what,
        ).encode()
        for kind, (count, what) in NOTICES.items()
    }


def sized(size: int) -> bytes:
    """A record of so many bytes."""
    return record(0, product="x" * (size - len(record(0, product="").encode()))).encode()


def other_records() -> dict[str, bytes]:
    """Records that a reader takes besides those of ``records``."""
    return {
        "record_plain": record(0).encode(),
        "record_65535_bytes": sized(RECORD_LIMIT),
        # What looks like another format is only a text here.
        "record_that_names_a_format": record(0, product='"format":"regalia/other/v1"').encode(),
    }


def statement() -> bytes:
    """The entry of a tenant's charter."""
    tenant = Tenant()
    tenant.found()
    return log_statement(tenant.chain[0], broker=ORIGIN, time=rfc3339(tenant.now)).encode()


def no_records() -> dict[str, bytes]:
    """Entries that are no record, notice or statement."""
    good, said = record(0).encode(), statement()
    notice = notices()["notice_denials-counted"]

    def edited(old: bytes, new: bytes, entry: bytes = good) -> bytes:
        if entry.count(old) != 1:
            raise ValueError(f"{old!r} is not there once")
        return entry.replace(old, new)

    return {
        "record_spaced": edited(b'"custody":', b'"custody": '),
        "record_newline_behind": good + b"\n",
        "record_members_out_of_order": edited(b'{"broker"', b'{"wildcards":[],"broker"').replace(
            b',"wildcards":[]}', b"}"
        ),
        "record_format_unknown": record(0, format="regalia/release-record/v4").encode(),
        "record_decision_unknown": record(0, decision="renewal").encode(),
        "record_decision_empty": record(0, decision="").encode(),
        "record_member_missing": edited(b'"product":"Genoa",', b""),
        "record_member_unknown": edited(b'"product":', b'"priority":1,"product":'),
        "record_without_devices": edited(b'"devices":[],', b""),
        "record_without_control": edited(b'"control":"",', b""),
        "record_without_key_wrapping": edited(b'"key_wrapping":"none",', b""),
        "record_of_version_2_with_key_wrapping": edited(
            b"record/v3", b"record/v2", edited(b'"control":"",', b"")
        ),
        "record_of_version_2_with_control": edited(
            b"record/v3", b"record/v2", edited(b'"key_wrapping":"none",', b"")
        ),
        "record_of_version_1_with_devices": edited(b"record/v3", b"record/v1"),
        "record_number_as_text": edited(b'"model_version":3', b'"model_version":"3"'),
        "record_65536_bytes": sized(RECORD_LIMIT + 1),
        "entry_empty_object": b"{}",
        "entry_list": b"[]",
        "notice_spaced": edited(b'"count":', b'"count": ', notice),
        "notice_format_unknown": edited(b"log-notice/v1", b"log-notice/v2", notice),
        "notice_kind_unknown": edited(b"denials-counted", b"denials-forgotten", notice),
        "statement_spaced": edited(b'"envelope":', b'"envelope": ', said),
        "statement_format_unknown": edited(b"log-statement/v1", b"log-statement/v2", said),
        "statement_time_of_a_day": edited(b"T12:00:00Z", b"", said),
        "statement_envelope_no_base64": edited(b'"envelope":"', b'"envelope":"-', said),
        "statement_member_unknown": edited(b'"format":', b'"elsewhere":1,"format":', said),
        "notice_member_unknown": edited(b'"kind":', b'"index":0,"kind":', notice),
    }


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
            "other_log": OtherLog.build().document(),
        }


@dataclass(frozen=True)
class OtherLog:
    """A log of the same key with records, notices, a statement, and entries that are none."""

    kinds: dict[str, str | None]  # by name of the entry
    log: Vectors

    @classmethod
    def build(cls) -> OtherLog:
        """Append each entry."""
        groups = {
            "record": other_records(),
            "notice": notices(),
            "statement": {"statement": statement()},
            None: no_records(),
        }
        kinds = {name: kind for kind, group in groups.items() for name in group}
        return cls(
            kinds, Vectors.build([each for group in groups.values() for each in group.values()])
        )

    def proof(self, name: str) -> dict[str, Any]:
        """The proof that an entry is in the log, which says nothing about what the entry is."""
        index = list(self.kinds).index(name)
        fields = msgspec.to_builtins(self.log.proof(index, len(self.kinds)))
        return fields | {"record": short(fields["record"])}

    def defects(self) -> list[dict[str, Any]]:
        """Proofs in which the entry is the defect."""
        return [
            {"name": f"entry_is_{name}", "code": "PROOF_INVALID", "proof": self.proof(name)}
            for name, kind in self.kinds.items()
            if kind != "record"
        ]

    def document(self) -> dict[str, Any]:
        """Its part of ``log.json``."""
        entries = zip(self.kinds.items(), self.log.entries, strict=True)
        kept = sum(kind is not None for kind in self.kinds.values())
        return {
            "about": (
                "Entries that an auditor takes, each a record or a notice; behind them those that "
                "are neither (null). A long text is 'before', then 'repeat' so many 'times', then "
                "'behind'."
            ),
            "entries": [
                {"name": name, "kind": kind, "entry": short(entry.decode())}
                for (name, kind), entry in entries
            ],
            "audited": {"size": kept, "checkpoint": self.log.checkpoint(kept)},
            "not_audited": {"size": kept + 1, "checkpoint": self.log.checkpoint(kept + 1)},
            "proofs": {n: self.proof(n) for n, kind in self.kinds.items() if kind == "record"},
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
    ] + OtherLog.build().defects()


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
