"""Keys that nobody must trust any more, ``regalia/key-denials/v1``. Spec: docs/spec/rim.md.

For vendors that answer revocation online only (OCSP): whoever is online asks, and writes down
the keys of certificates that are revoked or on hold. The operator's signed collateral carries
the list. Keys, not certificates, because an ECDSA signature has twins and a key has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import MIB, canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import KeyFingerprint

if TYPE_CHECKING:
    from datetime import datetime, timedelta

FORMAT = "regalia/key-denials/v1"
LIMIT = MIB


@dataclass(frozen=True, slots=True)
class KeyDenials:
    """Denied keys, and from when to when the list is good."""

    this_update: datetime
    next_update: datetime
    keys: tuple[KeyFingerprint, ...]  # SHA-256 of SubjectPublicKeyInfo; ascending, each once

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                this_update=rfc3339(self.this_update),
                next_update=rfc3339(self.next_update),
                keys=[str(key) for key in self.keys],
            )
        )

    def is_current(self, now: datetime) -> bool:
        """Whether ``now`` is in its dates."""
        return self.this_update <= now <= self.next_update

    def is_late(self, now: datetime, grace: timedelta) -> bool:
        """Out of date by no more than ``grace``.

        Args:
            now: the moment of the appraisal, aware.
            grace: by how much a list may be out of date.
        """
        return self.next_update < now <= self.next_update + grace


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    this_update: str
    next_update: str
    keys: list[str]


def parse_key_denials(data: bytes) -> KeyDenials:
    """Inverse of ``KeyDenials.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=LIMIT, what="key denials")
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"key denials: format {wire.format[:80]!r}")
    if sorted(set(wire.keys)) != wire.keys:
        raise ParseError(CoreCode.MALFORMED, "key denials: keys are not ascending, each once")
    try:
        this_update, next_update = parse_rfc3339(wire.this_update), parse_rfc3339(wire.next_update)
    except ValueError as exc:
        raise ParseError(CoreCode.MALFORMED, "key denials: bad date") from exc
    if next_update <= this_update:
        raise ParseError(CoreCode.MALFORMED, "key denials: the dates are not in order")
    return KeyDenials(this_update, next_update, tuple(map(KeyFingerprint.parse, wire.keys)))
