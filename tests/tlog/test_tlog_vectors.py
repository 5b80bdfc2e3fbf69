"""The committed vectors: what the script writes, what we accept, what anybody can recompute."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from vector_files import text_of

from regalia.core.errors import LogError, ParseError
from regalia.tlog.audit import audit_log
from regalia.tlog.merkle import leaf_hash, verify_consistency
from regalia.tlog.note import parse_log_key
from regalia.tlog.tiles import encode_bundle, parse_bundle
from regalia.tlog.verify import verify_proof
from regalia.wire.release import (
    LogNotice,
    LogProof,
    ReleaseRecord,
    parse_entry,
    parse_record,
)

if TYPE_CHECKING:
    from regalia.tlog.tiles import Tile

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "vectors" / "tlog"
LOG: dict[str, Any] = json.loads((FOLDER / "log.json").read_text(encoding="utf-8"))
DEFECTS: list[dict[str, Any]] = json.loads((FOLDER / "defects.json").read_text(encoding="utf-8"))


def test_the_script_writes_these_files() -> None:
    script = ROOT / "scripts" / "make_tlog_vectors.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def proof(fields: dict[str, Any]) -> LogProof:
    return msgspec.convert(fields | {"record": text_of(fields["record"])}, type=LogProof)


def test_records_are_encoded_like_this() -> None:
    for item in LOG["entries"]:
        # A record of version 1 lists no devices, and one of version 2 names no wrapping.
        added: dict[str, Any] = {"devices": [], "key_wrapping": "none"}
        record = msgspec.convert(added | item["record"], type=ReleaseRecord)
        assert parse_record(item["entry"].encode()) == record
        assert record.encode() == item["entry"].encode()
        # The canonical form is what Python's own encoder gives with sorted members.
        same = json.dumps(item["record"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert same == item["entry"]


def test_proofs_are_accepted() -> None:
    for index, fields in enumerate(LOG["proofs"]):
        logged = verify_proof(proof(fields), log_key=LOG["log_key"])
        assert logged.index == index
        assert logged.entry == LOG["entries"][index]["entry"].encode()


@pytest.mark.parametrize("case", DEFECTS, ids=[case["name"] for case in DEFECTS])
def test_defects_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(LogError) as caught:
        verify_proof(proof(case["proof"]), log_key=LOG["log_key"])
    assert caught.value.code.name == case["code"]


# -- notices, and entries that are no records ------------------------------------------------------

OTHER: dict[str, Any] = LOG["other_log"]


def kind_of(entry: bytes) -> str | None:
    try:
        found = parse_entry(entry)
    except ParseError:
        return None
    assert found.encode() == entry
    return "notice" if isinstance(found, LogNotice) else "record"


@pytest.mark.parametrize("case", OTHER["entries"], ids=lambda case: case["name"])
def test_what_an_entry_is(case: dict[str, Any]) -> None:
    assert kind_of(text_of(case["entry"]).encode()) == case["kind"]


@pytest.mark.parametrize("name", OTHER["proofs"])
def test_proofs_of_other_records_are_accepted(name: str) -> None:
    (entry,) = (text_of(case["entry"]) for case in OTHER["entries"] if case["name"] == name)
    assert (
        verify_proof(proof(OTHER["proofs"][name]), log_key=LOG["log_key"]).entry == entry.encode()
    )


def test_every_other_entry_has_a_proof_that_is_refused_for_what_it_is() -> None:
    """With another entry that is a record, in the same place, each of these proofs would hold."""
    defects = {case["name"]: case["proof"] for case in DEFECTS}
    for index, case in enumerate(OTHER["entries"]):
        if case["kind"] == "record":
            continue
        fields = defects[f"entry_is_{case['name']}"]
        assert fields["index"] == index
        entry = text_of(case["entry"]).encode()
        assert base64.b64decode(text_of(fields["record"])) == entry
        assert (
            independent_verify(fields | {"record": text_of(fields["record"])}, LOG["log_key"])
            == entry
        )


class OtherLog:
    """The log with these entries, as a server would show it at one size."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self.note = shown["checkpoint"]
        entries = OTHER["entries"][: shown["size"]]
        self.entries = [text_of(case["entry"]).encode() for case in entries]

    def checkpoint(self) -> str:
        return str(self.note)

    def tile(self, tile: Tile) -> bytes:
        if tile.level is None:
            return encode_bundle(self.entries)
        return b"".join(map(leaf_hash, self.entries))


def test_an_auditor_takes_notices_and_nothing_else_beside_records() -> None:
    key, seen = parse_log_key(LOG["log_key"]), []
    audit_log(
        OtherLog(OTHER["audited"]),
        key,
        remembered=None,
        visit=lambda _, entry: seen.append(isinstance(entry, LogNotice)),
    )
    assert seen == [case["kind"] == "notice" for case in OTHER["entries"][: len(seen)]]
    with pytest.raises(LogError, match="LOG_INCONSISTENT"):
        audit_log(OtherLog(OTHER["not_audited"]), key, remembered=None, visit=lambda *_: None)


def test_consistency() -> None:
    roots = [bytes.fromhex(item["root"]) for item in LOG["sizes"]]
    for item in LOG["consistency"]:
        path = [base64.b64decode(hash_) for hash_ in item["path"]]
        verify_consistency(item["old"], roots[item["old"]], item["new"], roots[item["new"]], path)


def test_tiles() -> None:
    entries = [item["entry"].encode() for item in LOG["entries"]]
    tiles = {path: base64.b64decode(data) for path, data in LOG["tiles"].items()}
    assert parse_bundle(tiles["tile/entries/000.p/5"], 5) == entries
    hashes = b"".join(bytes.fromhex(item["leaf_hash"]) for item in LOG["entries"])
    assert tiles["tile/0/000.p/5"] == hashes


# -- a second implementation, from docs/spec/release-record.md alone -------------------------------


def h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tree_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return h()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return h(b"\x01", tree_root(leaves[:half]), tree_root(leaves[half:]))


def independent_verify(fields: dict[str, Any], log_key: str) -> bytes:
    origin, key_hash, key = log_key.split("+", 2)
    public = base64.b64decode(key)
    assert h(origin.encode(), b"\n", public)[:4].hex() == key_hash
    body, _, signatures = fields["checkpoint"].rpartition("\n\n")
    (line,) = signatures.splitlines()
    dash, name, encoded = line.split(" ")
    raw = base64.b64decode(encoded)
    assert (dash, name, raw[:4].hex()) == ("\N{EM DASH}", origin, key_hash)
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[4:], f"{body}\n".encode())
    name, size, root = body.split("\n")
    entry = base64.b64decode(fields["record"])
    node, first, last = h(b"\x00", entry), fields["index"], int(size) - 1
    assert name == origin
    for item in fields["path"]:
        sibling = base64.b64decode(item)
        if first % 2 or first == last:
            node = h(b"\x01", sibling, node)
            while first and not first % 2:
                first, last = first // 2, last // 2
        else:
            node = h(b"\x01", node, sibling)
        first, last = first // 2, last // 2
    assert last == 0
    assert base64.b64encode(node).decode() == root
    return entry


def test_a_reader_of_thirty_lines_agrees() -> None:
    for index, fields in enumerate(LOG["proofs"]):
        entry = independent_verify(fields, LOG["log_key"])
        assert entry == LOG["entries"][index]["entry"].encode()
    leaves = [h(b"\x00", item["entry"].encode()) for item in LOG["entries"]]
    for size in LOG["sizes"]:
        assert tree_root(leaves[: size["size"]]).hex() == size["root"]
    forged = LOG["proofs"][2] | {"checkpoint": LOG["sizes"][5]["checkpoint"].replace("5", "6", 1)}
    with pytest.raises((InvalidSignature, AssertionError)):
        independent_verify(forged, LOG["log_key"])


@pytest.mark.parametrize("size", ["0", "1", "2", "3", "7", "8", "255", "256", "257"])
def test_roots_around_the_borders_of_tiles(size: str) -> None:
    leaves = [h(b"\x00", str(number).encode()) for number in range(int(size))]
    assert tree_root(leaves).hex() == LOG["roots_of_counters"][size]
