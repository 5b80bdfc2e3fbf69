"""One piece of simulated evidence of each kind, for what recognizes it in wrappers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from regalia.tees.boot.evidence.log import Algorithm
from regalia_testing.tees.boot.eventlog import CCEL_PADDING, LogBuilder

if TYPE_CHECKING:
    from regalia.wire.evidence import DeviceEvidence, Evidence

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TOKEN = "eyJhbGciOiJFUzM4NCJ9.eyJub25jZSI6IiJ9.c2lnbmF0dXJl" * 2


@dataclass(frozen=True)
class Machines:
    """One piece of evidence of each kind."""

    snp: Evidence
    turin: Evidence
    tdx: Evidence
    nitro: Evidence
    tpm: Evidence
    azure_snp: Evidence
    azure_tdx: Evidence
    devices: tuple[DeviceEvidence, ...]
    ccel: bytes
    old_log: bytes


def ccel() -> bytes:
    builder = LogBuilder((Algorithm.SHA384,), ccel=True)
    builder.measure(1, 0x8000_0001, b"variable")
    return builder.build().encode() + CCEL_PADDING


def old_log(spec_id: bytes = b"") -> bytes:
    """A log of the older layout: SHA-1 digests, and a Spec ID only if the firmware wrote one."""

    def event(register: int, kind: int, data: bytes) -> bytes:
        digest = hashlib.sha1(data, usedforsecurity=False).digest()
        head = register.to_bytes(4, "little") + kind.to_bytes(4, "little")
        return head + digest + len(data).to_bytes(4, "little") + data

    first = bytes(4) + b"\x03\0\0\0" + bytes(20) + len(spec_id).to_bytes(4, "little") + spec_id
    events = event(0, 8, b"1.0") + event(7, 0x8000_0001, b"x" * 40) + event(0, 4, bytes(4))
    return (first if spec_id else b"") + events
