"""Sources of randomness. They are arguments, so that test vectors can be reproduced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from regalia.core.secret import SecretBytes
from regalia.host.localfs import os_errors

# Fills the whole buffer with unpredictable bytes.
RandomSource = Callable[[memoryview], None]

_DEVICE = Path("/dev/urandom")


def system_random(buffer: memoryview) -> None:
    """Fill the buffer from the kernel.

    ``os.urandom`` would return a ``bytes`` object, a copy of the key that cannot be wiped.
    """
    with os_errors(_DEVICE), _DEVICE.open("rb", buffering=0) as source:
        done = 0
        while done < buffer.nbytes:
            done += source.readinto(buffer[done:]) or 0


def random_bytes(random: RandomSource, size: int) -> bytes:
    """Draw random bytes that may be public, such as salts and identifiers.

    Args:
        random: source of randomness.
        size: number of bytes to draw.
    """
    buffer = bytearray(size)
    random(memoryview(buffer))
    return bytes(buffer)


def random_secret(random: RandomSource, size: int) -> SecretBytes:
    """Draw a fresh key, in memory that can be wiped.

    Args:
        random: source of randomness.
        size: number of bytes to draw.
    """
    buffer = bytearray(size)
    random(memoryview(buffer))
    return SecretBytes(buffer)
