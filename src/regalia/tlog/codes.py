"""Reason codes of the transparency log."""

from __future__ import annotations

from regalia.core.errors import Code


class TlogCode(Code):
    """Refusals around the log. None of them is ever ignored: no entry, no key."""

    LOG_UNWRITABLE = (
        "What is not in the log is not done: nothing was released.",
        "Make the log's database writable again (disk space, permissions, server), and retry.",
    )
    LOG_UNREADABLE = (
        "Without the log's contents nothing can be proved from it.",
        "Check the address or path of the log, and its state.",
    )
    LOG_KEY_MALFORMED = (
        "The log's key says whose checkpoints are believed.",
        "Give the text in the .vkey file that `regalia keygen log` wrote.",
    )
    LOG_DATABASE_MISMATCH = (
        "This database belongs to a log of another name or key; mixing them would break both.",
        "Use the key and origin that the database was made with, or start a new database.",
    )
    CHECKPOINT_INVALID = (
        "A checkpoint that the log's key did not sign may show an invented history.",
        "Get the checkpoint from the log again, and check that the log key is the right one.",
    )
    PROOF_INVALID = (
        "The record is not shown to be in the log, so the release may be a secret one.",
        "Ask the broker again; if it repeats, it does not log what it does.",
    )
    LOG_INCONSISTENT = (
        "Entries, tiles and checkpoint contradict each other: the log was changed afterwards.",
        "Keep both copies as evidence, stop releases, and ask the log's operator.",
    )
    LOG_FORKED = (
        "The log no longer contains what it showed before: history was rewritten.",
        "Keep both checkpoints: together they prove it. Stop releases.",
    )
    RECORD_TOO_LARGE = (
        "An entry bundle gives each entry a 2-byte length.",
        "This is a mistake in the calling service; report it.",
    )
    STATEMENT_INTERVENED = (
        "A statement of the tenant's owners was accepted meanwhile, and may forbid the release.",
        "Ask again: the request is then judged under the newest statement.",
    )
    STATEMENT_CHAIN_BROKEN = (
        "A statement of owners is missing, doubled or reordered, and may be a revocation.",
        "Keep the log as evidence, stop releases, and ask the log's operator.",
    )
    RELEASE_UNEXPLAINED = (
        "It was not decided under what the owners had said by then.",
        "Ask the broker's operator for each release that is named, and revoke what got the key.",
    )
    NO_SUCH_ENTRY = ("The log has no entry of this index.", "Ask for an index below its size.")
