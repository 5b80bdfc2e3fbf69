"""Log keys, checkpoints and consistency proofs: the product and a second reader agree."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from vector_files import text_of

from regalia.core.errors import LogError
from regalia.tlog.merkle import verify_consistency
from regalia.tlog.note import parse_log_key, verify_checkpoint

FOLDER = Path(__file__).parents[1] / "vectors" / "tlog"


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return document


CONSISTENCY, CHECKPOINTS = read("consistency.json"), read("checkpoints.json")
LOG_KEYS, COUNTERS = read("log-keys.json"), read("log.json")["roots_of_counters"]


def verify(case: dict[str, Any]) -> None:
    roots = (bytes.fromhex(case[name]) for name in ("old_root", "new_root"))
    old_root, new_root = roots
    path = [base64.b64decode(item) for item in case["path"]]
    verify_consistency(case["old"], old_root, case["new"], new_root, path)


# -- a second reader, from docs/spec/release-record.md alone ---------------------------------------


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def holds(case: dict[str, Any]) -> bool:
    old, new = case["old"], case["new"]
    old_root, new_root = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
    path = [base64.b64decode(item) for item in case["path"]]
    if not 0 <= old <= new <= 2**63 - 1:
        return False
    if old in {0, new}:
        same = hashlib.sha256().digest() if old == 0 else new_root
        return not path and old_root == same
    hashes = [old_root, *path] if old & (old - 1) == 0 else path
    return bool(hashes) and roots(old, new, hashes) == (old_root, new_root)


def roots(old: int, new: int, hashes: list[bytes]) -> tuple[bytes, bytes] | None:
    fn, sn = old - 1, new - 1
    while fn % 2:
        fn, sn = fn // 2, sn // 2
    a = b = hashes[0]
    for p in hashes[1:]:
        if sn == 0:
            return None
        if fn % 2 or fn == sn:
            a, b = node(p, a), node(p, b)
            while fn and fn % 2 == 0:
                fn, sn = fn // 2, sn // 2
        else:
            b = node(b, p)
        fn, sn = fn // 2, sn // 2
    return (a, b) if sn == 0 else None


# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", CONSISTENCY["accepted"], ids=lambda case: f"{case['old']}-{case['new']}"
)
def test_consistency(case: dict[str, Any]) -> None:
    verify(case)
    assert holds(case)
    for size, root in ((case["old"], "old_root"), (case["new"], "new_root")):
        assert COUNTERS.get(str(size), case[root]) == case[root]


def test_short_paths_are_among_them() -> None:
    sizes = {(case["old"], case["new"]): len(case["path"]) for case in CONSISTENCY["accepted"]}
    assert sizes[0, 5] == sizes[1, 1] == sizes[8, 8] == 0
    assert sizes[1, 2] == sizes[2, 3] == sizes[256, 257] == 1


@pytest.mark.parametrize("name", CONSISTENCY["refused"])
def test_consistency_is_refused(name: str) -> None:
    case = CONSISTENCY["refused"][name]
    with pytest.raises(LogError, match="LOG_FORKED"):
        verify(case)
    assert not holds(case)


@pytest.mark.parametrize("name", CHECKPOINTS["accepted"])
def test_checkpoints(name: str) -> None:
    note = text_of(CHECKPOINTS["accepted"][name])
    found = verify_checkpoint(note, parse_log_key(CHECKPOINTS["log_key"]))
    assert note.startswith(found.body() + "\n")


@pytest.mark.parametrize("name", CHECKPOINTS["refused"])
def test_checkpoints_are_refused(name: str) -> None:
    with pytest.raises(LogError, match="CHECKPOINT_INVALID"):
        verify_checkpoint(
            text_of(CHECKPOINTS["refused"][name]), parse_log_key(CHECKPOINTS["log_key"])
        )


def test_what_the_signature_covers() -> None:
    note = CHECKPOINTS["accepted"]["more_lines_of_text"]
    text, _, line = note.partition("\n\n")
    assert CHECKPOINTS["signed_text"] == f"{text}\n"
    public = base64.b64decode(CHECKPOINTS["log_key"].split("+", 2)[2])[1:]
    signature = base64.b64decode(line.split(" ")[2])[4:]
    Ed25519PublicKey.from_public_bytes(public).verify(signature, f"{text}\n".encode())


def test_log_keys() -> None:
    for case in LOG_KEYS["accepted"]:
        key = parse_log_key(case["text"])
        assert (key.origin, key.public.hex(), str(key)) == (
            case["origin"],
            case["public"],
            case["text"],
        )
    for text in LOG_KEYS["refused"].values():
        with pytest.raises(LogError, match="LOG_KEY_MALFORMED"):
            parse_log_key(text)
