"""Computes the values of platform configuration registers (PCRs) from measured events.

Spec: TPM 2.0 Library, part 1, section 17 (PCR operations); TCG PC Client Platform Firmware Profile,
section 2.3.4 (PCR usage) and 10.4 (event types).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Bank(StrEnum):
    """A bank of registers, named by its hash algorithm."""

    SHA256 = "sha256"
    SHA384 = "sha384"

    def digest(self, *parts: bytes | memoryview) -> bytes:
        """Hash the concatenation of the parts."""
        state = hashlib.new(self.value)
        for part in parts:
            state.update(part)
        return state.digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrEvent:
    """One extension of a register."""

    pcr: int
    digest: bytes  # in the bank's hash algorithm
    what: str  # description of the hashed data, for display


def replay(events: Iterable[PcrEvent], bank: Bank) -> dict[int, bytes]:
    """Compute the registers that the events extend, starting from the reset value of zeros.

    Args:
        events: events in the order of their measurement.
        bank: bank whose registers are computed.
    """
    registers: dict[int, bytes] = {}
    for event in events:
        before = registers.get(event.pcr) or bytes(len(bank.digest()))
        registers[event.pcr] = bank.digest(before, event.digest)
    return registers
