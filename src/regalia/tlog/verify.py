"""Verifies offline that a record is included in a log. Spec: docs/spec/release-record.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.codec import unb64
from regalia.core.errors import LogError, ParseError
from regalia.tlog.codes import TlogCode
from regalia.tlog.merkle import HASH_SIZE, PATH_MAX, leaf_hash, root_from_inclusion
from regalia.tlog.note import parse_log_key, verify_checkpoint
from regalia.wire.release import MINT, RECORD_LIMIT, LoggedRecord, parse_record

if TYPE_CHECKING:
    from regalia.tlog.note import LogKey
    from regalia.wire.release import LogProof


def verify_proof(proof: LogProof, *, log_key: str) -> LoggedRecord:
    """Verify that a record is included in the log with the given key.

    Args:
        proof: record, inclusion path and checkpoint, untrusted.
        log_key: verifier key of the trusted log, in C2SP signed-note text.

    Raises:
        LogError: LOG_KEY_MALFORMED, CHECKPOINT_INVALID or PROOF_INVALID.
    """
    return verify_with_key(proof, parse_log_key(log_key))


def verify_with_key(proof: LogProof, key: LogKey) -> LoggedRecord:
    """Verify a proof as ``verify_proof`` does, with a parsed key.

    Args:
        proof: record, inclusion path and checkpoint, untrusted.
        key: verifier key of the log, pinned.

    Raises:
        LogError: as ``verify_proof``.
    """
    entry = verify_inclusion(proof, key)
    try:
        record = parse_record(entry)
    except ParseError as exc:
        raise LogError(TlogCode.PROOF_INVALID, exc.what) from exc
    return LoggedRecord(record, entry, proof.index, proof, MINT)


def verify_inclusion(proof: LogProof, key: LogKey) -> bytes:
    """Verify that an entry of any kind is included in a log, and return it.

    Args:
        proof: entry, inclusion path and checkpoint, untrusted.
        key: verifier key of the log, pinned.

    Raises:
        LogError: CHECKPOINT_INVALID or PROOF_INVALID.
    """
    # (1) The checkpoint is signed by the log.
    checkpoint = verify_checkpoint(proof.checkpoint, key)
    if len(proof.path) > PATH_MAX:
        raise LogError(TlogCode.PROOF_INVALID, f"a path of {len(proof.path)} hashes")
    try:
        entry = unb64(proof.record, what="proof.record", limit=RECORD_LIMIT)
        path = [unb64(item, what="proof.path", size=HASH_SIZE) for item in proof.path]
    except ParseError as exc:
        raise LogError(TlogCode.PROOF_INVALID, exc.what) from exc
    # (2) The hash of the exact bytes and the path give the checkpoint's root.
    root = root_from_inclusion(leaf_hash(entry), proof.index, checkpoint.size, path)
    if root != checkpoint.root:
        raise LogError(
            TlogCode.PROOF_INVALID,
            f"entry {proof.index} is not in the log of {checkpoint.size} entries that was signed",
        )
    return entry
