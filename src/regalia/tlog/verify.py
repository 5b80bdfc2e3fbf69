"""Offline verification of one record's place in the log. Spec: docs/spec/release-record.md."""

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
    """Verify that a record stands in the log whose key is given. Needs nothing else.

    Args:
        proof: untrusted.
        log_key: signed-note verifier key of the log that is trusted, C2SP text.

    Raises:
        LogError: LOG_KEY_MALFORMED, CHECKPOINT_INVALID or PROOF_INVALID.
    """
    return verify_with_key(proof, parse_log_key(log_key))


def verify_with_key(proof: LogProof, key: LogKey) -> LoggedRecord:
    """Like ``verify_proof``, with a parsed key.

    Args:
        proof: raw, untrusted.
        key: the log's, pinned.

    Raises:
        LogError: as ``verify_proof``.
    """
    # (1) The checkpoint is the log's.
    checkpoint = verify_checkpoint(proof.checkpoint, key)
    if len(proof.path) > PATH_MAX:
        raise LogError(TlogCode.PROOF_INVALID, f"a path of {len(proof.path)} hashes")
    try:
        entry = unb64(proof.record, what="proof.record", limit=RECORD_LIMIT)
        path = [unb64(item, what="proof.path", size=HASH_SIZE) for item in proof.path]
        record = parse_record(entry)
    except ParseError as exc:
        raise LogError(TlogCode.PROOF_INVALID, exc.what) from exc
    # (2) The entry's hash and its path give the checkpoint's root.
    root = root_from_inclusion(leaf_hash(entry), proof.index, checkpoint.size, path)
    if root != checkpoint.root:
        raise LogError(
            TlogCode.PROOF_INVALID,
            f"entry {proof.index} is not in the log of {checkpoint.size} entries that was signed",
        )
    return LoggedRecord(record, entry, proof.index, proof, MINT)
