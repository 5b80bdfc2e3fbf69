"""Event logs: replay against signed registers, and what of the text was measured.

Spec: docs/spec/event-logs.md. ``require_pcrs`` and ``require_rtmrs`` turn a parsed log into a
``VerifiedLog``, or refuse it.
"""

from regalia.tees.boot.evidence.digests import Standing
from regalia.tees.boot.evidence.facts import read_facts
from regalia.tees.boot.evidence.replay import (
    VerifiedEvent,
    VerifiedLog,
    replay_pcrs,
    replay_rtmrs,
    require_known,
    require_pcrs,
    require_rtmrs,
)

__all__ = [
    "Standing",
    "VerifiedEvent",
    "VerifiedLog",
    "read_facts",
    "replay_pcrs",
    "replay_rtmrs",
    "require_known",
    "require_pcrs",
    "require_rtmrs",
]
