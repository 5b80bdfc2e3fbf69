"""Signed notes at their limits: the last that is accepted, the first that is refused, and why."""

from __future__ import annotations

import re

import pytest

from regalia.core.codec import b64
from regalia.core.errors import LogError
from regalia.crypto.sign import SigningKey, VerifyKey
from regalia.tlog.merkle import leaf_hash
from regalia.tlog.note import (
    ED25519,
    Checkpoint,
    LogKey,
    log_key,
    parse_log_key,
    sign_checkpoint,
    verifier_key_text,
    verify_checkpoint,
)

ORIGIN = "log.example"
KEY = SigningKey.generate_ed25519()
MINE = log_key(ORIGIN, KEY.verify_key)
ROOT = leaf_hash(b"root")


def note(*extensions: str, size: int = 7) -> str:
    return sign_checkpoint(Checkpoint(ORIGIN, size, ROOT, extensions), KEY)


def accepted(text: str) -> Checkpoint:
    return verify_checkpoint(text, MINE)


def refused(why: str) -> pytest.RaisesExc[LogError]:
    return pytest.raises(LogError, match=f"CHECKPOINT_INVALID: .*{re.escape(why)}")


def test_size_of_a_note() -> None:
    room = 64 * 1024 - len(note("").encode())
    assert accepted(note("x" * room)).extensions == ("x" * room,)
    with refused("more than 65536 bytes"):
        accepted(note("x" * (room + 1)))


def test_the_size_of_a_note_counts_bytes() -> None:
    room = 64 * 1024 - len(note("").encode())
    longest = "ü" * (room // 2) + "x" * (room % 2)
    assert accepted(note(longest)).extensions == (longest,)
    with refused("more than 65536 bytes"):
        accepted(note("ü" * (room // 2 + 1)))


def test_number_of_extensions() -> None:
    assert len(accepted(note(*["x"] * 16)).extensions) == 16
    with refused("malformed text"):
        accepted(note(*["x"] * 17))


def witness(raw: bytes, name: str = "w.example") -> str:
    return f"\N{EM DASH} {name} {b64(raw)}\n"


def test_number_of_signatures() -> None:
    other = witness(b"hash" + b"signature")
    assert accepted(note() + other * 15).size == 7
    with refused("17 signatures, at most 16"):
        accepted(note() + other * 16)


def test_a_signature_line_of_another() -> None:
    """Of another's signature only the form can be judged, and that is judged."""
    assert accepted(note() + witness(b"hash?")).size == 7
    with refused("a malformed signature"):
        accepted(note() + witness(b"hash"))
    with refused("a malformed signature line"):
        accepted(note() + witness(b"hash?", name=""))
    with refused("a malformed signature line"):
        accepted(note() + witness(b"hash?").removeprefix("\N{EM DASH} "))
    with refused("a malformed signature"):
        accepted(note() + "\N{EM DASH} w.example\n")


def test_signatures_alone_are_no_note() -> None:
    with refused("no signatures"):
        accepted(witness(b"hash?"))
    with refused("no signatures"):
        accepted(note().removesuffix("\n"))


@pytest.mark.parametrize("raw", [b"", bytes(63), bytes(65)])
def test_a_signature_of_another_size(raw: bytes) -> None:
    body = Checkpoint(ORIGIN, 7, ROOT).body()
    with refused("signature"):
        accepted(f"{body}\n{witness(MINE.key_hash + raw, name=ORIGIN)}")


def test_a_key_that_is_none_signed_nothing() -> None:
    short = LogKey(ORIGIN, MINE.public[:-1])
    body = Checkpoint(ORIGIN, 7, ROOT).body()
    with refused("does not hold"):
        verify_checkpoint(f"{body}\n{witness(short.key_hash + bytes(64), name=ORIGIN)}", short)


def test_the_largest_size() -> None:
    assert accepted(note(size=2**63 - 1)).size == 2**63 - 1
    with refused("size '9223372036854775808'"):
        accepted(note(size=2**63))


@pytest.mark.parametrize("origin", ["x", "x" * 255, "\N{LATIN SMALL LETTER E WITH ACUTE}" * 127])
def test_origins_that_may_name_a_log(origin: str) -> None:
    text = verifier_key_text(origin, KEY.verify_key)
    assert parse_log_key(text) == LogKey(origin, MINE.public)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "x" * 256,
        "\N{LATIN SMALL LETTER E WITH ACUTE}" * 128,
        "a+b",
        "a b",
        "a\tb",
        "a\x7fb",
        "\ud800",
    ],
)
def test_origins_that_may_not(origin: str) -> None:
    with pytest.raises(LogError, match="LOG_KEY_MALFORMED: log origin"):
        verifier_key_text(origin, KEY.verify_key)
    raw = ED25519 + MINE.public
    hash_ = LogKey("x", MINE.public).key_hash.hex()
    with pytest.raises(LogError, match="LOG_KEY_MALFORMED"):
        parse_log_key(f"{origin}+{hash_}+{b64(raw)}")


def test_keys_that_are_not_ed25519() -> None:
    spki = KEY.verify_key.spki
    x25519 = bytes.fromhex("302a300506032b656e032100") + MINE.public
    for other in (spki + b"\0", spki[:-1], x25519):
        with pytest.raises(LogError, match="LOG_KEY_MALFORMED: a log signs with Ed25519, alone or"):
            log_key(ORIGIN, VerifyKey(other))


def test_a_log_key_says_what_is_wrong_with_it() -> None:
    raw = b"\2" + MINE.public
    with pytest.raises(LogError, match="LOG_KEY_MALFORMED: log key: type 2"):
        parse_log_key(f"{ORIGIN}+{MINE.key_hash.hex()}+{b64(raw)}")
    with pytest.raises(LogError, match="LOG_KEY_MALFORMED: the log key's hash"):
        parse_log_key(f"{ORIGIN}+00000000+{b64(ED25519 + MINE.public)}")
