"""Signed notes: known keys and notes of other logs, and every way in which one can be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import LogError
from regalia.crypto.sign import SigningKey
from regalia.tlog import note as note_module
from regalia.tlog.merkle import EMPTY_ROOT, leaf_hash
from regalia.tlog.note import (
    Checkpoint,
    log_key,
    parse_log_key,
    sign_checkpoint,
    verifier_key_text,
    verify_checkpoint,
)

# The example key and note of the reference implementation of signed notes (Go, sumdb/note).
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
NEUMANN_SIGNATURE = (
    "\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
    "qdngotpRZb6KE6RyyBwJnAM=\n"
)
SUM_GOLANG_ORG = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

ORIGIN = "log.example/regalia"


@pytest.mark.parametrize("text", [NEUMANN, SUM_GOLANG_ORG])
def test_keys_of_other_logs_parse(text: str) -> None:
    assert str(parse_log_key(text)) == text


def test_a_note_made_elsewhere_verifies() -> None:
    key = parse_log_key(NEUMANN)
    body, ((name, key_hash, signature),) = note_module._split_note(
        NEUMANN_TEXT + "\n" + NEUMANN_SIGNATURE
    )
    assert (body, name, key_hash) == (NEUMANN_TEXT, "PeterNeumann", key.key_hash)
    key.verify_key.verify(signature, body.encode())


def test_it_is_signed_and_no_checkpoint() -> None:
    with pytest.raises(LogError, match="CHECKPOINT_INVALID"):
        verify_checkpoint(NEUMANN_TEXT + "\n" + NEUMANN_SIGNATURE, parse_log_key(NEUMANN))


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate_ed25519()


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(ORIGIN, 7, leaf_hash(b"root"))


@pytest.fixture(scope="module")
def note(key: SigningKey, checkpoint: Checkpoint) -> str:
    return sign_checkpoint(checkpoint, key)


def code(note: str, key: SigningKey, origin: str = ORIGIN) -> str:
    with pytest.raises(LogError) as caught:
        verify_checkpoint(note, log_key(origin, key.verify_key))
    return caught.value.code.name


def test_round_trip(note: str, checkpoint: Checkpoint, key: SigningKey) -> None:
    assert verify_checkpoint(note, log_key(ORIGIN, key.verify_key)) == checkpoint
    assert note.startswith(f"{ORIGIN}\n7\n")


def test_extension_lines_are_signed_and_kept(key: SigningKey) -> None:
    checkpoint = Checkpoint(ORIGIN, 7, leaf_hash(b"r"), ("time 1", "more"))
    note = sign_checkpoint(checkpoint, key)
    assert verify_checkpoint(note, log_key(ORIGIN, key.verify_key)) == checkpoint
    assert code(note.replace("time 1", "time 2"), key) == "CHECKPOINT_INVALID"


def test_every_flipped_byte_is_refused(note: str, key: SigningKey) -> None:
    data = note.encode()
    for position in range(len(data)):
        for bit in (0, 3, 7):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            text = bytes(changed).decode("utf-8", "surrogateescape")
            assert code(text, key) == "CHECKPOINT_INVALID", (position, bit)


def test_every_truncation_is_refused(note: str, key: SigningKey) -> None:
    for end in range(len(note)):
        assert code(note[:end], key) == "CHECKPOINT_INVALID"


def test_another_key_or_origin(note: str, key: SigningKey) -> None:
    assert code(note, SigningKey.generate_ed25519()) == "CHECKPOINT_INVALID"
    assert code(note, key, "other.example") == "CHECKPOINT_INVALID"


def test_signed_by_the_log_for_another_origin(key: SigningKey) -> None:
    mine = log_key(ORIGIN, key.verify_key)
    body = Checkpoint("other.example", 7, leaf_hash(b"r")).body()
    line = note_module.b64(mine.key_hash + key.sign(body.encode()))
    assert code(f"{body}\n\N{EM DASH} {ORIGIN} {line}\n", key) == "CHECKPOINT_INVALID"


def test_witness_signatures_may_stand_beside(note: str, key: SigningKey) -> None:
    other = sign_checkpoint(Checkpoint("w.example", 7, leaf_hash(b"r")), key).rsplit("\n\n", 1)[1]
    verify_checkpoint(note + other, log_key(ORIGIN, key.verify_key))
    verify_checkpoint(note.replace("\n\n", "\n\n" + other), log_key(ORIGIN, key.verify_key))
    mine = note.rsplit("\n\n", 1)[1]
    assert code(note + mine, key) == "CHECKPOINT_INVALID"  # twice the log's own
    assert code(note + other * 16, key) == "CHECKPOINT_INVALID"


def signed(body: str, key: SigningKey) -> str:
    mine = log_key(ORIGIN, key.verify_key)
    line = note_module.b64(mine.key_hash + key.sign(body.encode()))
    return f"{body}\n\N{EM DASH} {ORIGIN} {line}\n"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["7"],
        ["07", "ROOT"],
        ["+7", "ROOT"],
        ["-1", "ROOT"],
        ["7 ", "ROOT"],
        ["\N{ARABIC-INDIC DIGIT SEVEN}", "ROOT"],
        ["9223372036854775808", "ROOT"],
        ["7", ""],
        ["7", "AAAA"],
        ["7", "ROOT", ""],
        ["7", "ROOT", *["x"] * 17],
        ["0", "ROOT"],
        ["7", "ROOT", "a\tb"],
    ],
)
def test_bad_text_with_a_good_signature(lines: list[str], key: SigningKey) -> None:
    root = note_module.b64(leaf_hash(b"r"))
    body = "".join(f"{line}\n" for line in [ORIGIN, *lines]).replace("ROOT", root)
    assert code(signed(body, key), key) == "CHECKPOINT_INVALID"


def test_an_empty_log_has_a_checkpoint(key: SigningKey) -> None:
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert verify_checkpoint(sign_checkpoint(empty, key), log_key(ORIGIN, key.verify_key)) == empty


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "a+b",
        "a+00000000+AAAA",
        NEUMANN.replace("c74f20a3", "c74f20a4"),
        NEUMANN.replace("c74f20a3", "C74F20A3"),
        NEUMANN.replace("PeterNeumann", "Peter Neumann"),
        NEUMANN.replace("PeterNeumann", "Peter"),
        NEUMANN.replace("PeterNeumann", ""),
        NEUMANN + "\n",
        NEUMANN.replace("ARpc", "AhpC"),
        "x" * 300 + NEUMANN,
    ],
)
def test_bad_log_keys(text: str) -> None:
    with pytest.raises(LogError, match="LOG_KEY_MALFORMED"):
        parse_log_key(text)


def test_a_log_signs_with_ed25519_only() -> None:
    with pytest.raises(LogError, match="LOG_KEY_MALFORMED"):
        verifier_key_text(ORIGIN, SigningKey.generate_p384().verify_key)


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_text_at_all(text: str) -> None:
    key = parse_log_key(NEUMANN)
    for note in (text, text + "\n" + NEUMANN_SIGNATURE, f"{text}\n\n\N{EM DASH} a {text}\n"):
        with pytest.raises(LogError, match="CHECKPOINT_INVALID"):
            verify_checkpoint(note, key)
    with pytest.raises(LogError, match="LOG_KEY_MALFORMED"):
        parse_log_key(text)
