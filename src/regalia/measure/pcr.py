"""Platform configuration registers: what is extended, and the values that come of it.

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
    """The hash algorithm of a bank of registers."""

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
    """One extension of one register."""

    pcr: int
    digest: bytes  # of the bank
    what: str  # what was hashed, for people


def replay(events: Iterable[PcrEvent], bank: Bank) -> dict[int, bytes]:
    """The registers that these events touch, from their reset value of zeros.

    Args:
        events: in the order of their measurement.
        bank: whose hash is used.
    """
    registers: dict[int, bytes] = {}
    for event in events:
        before = registers.get(event.pcr) or bytes(len(bank.digest()))
        registers[event.pcr] = bank.digest(before, event.digest)
    return registers
