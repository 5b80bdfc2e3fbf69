"""Where randomness comes from: an argument, so that test vectors can be made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from regalia.core.secret import SecretBytes
from regalia.host.localfs import os_errors

# Fills the whole buffer with bytes that nobody can predict.
RandomSource = Callable[[memoryview], None]

_DEVICE = Path("/dev/urandom")


def system_random(buffer: memoryview) -> None:
    """Fill the buffer from the kernel, without an intermediate copy that could not be wiped."""
    with os_errors(_DEVICE), _DEVICE.open("rb", buffering=0) as source:
        done = 0
        while done < buffer.nbytes:
            done += source.readinto(buffer[done:]) or 0


def random_bytes(random: RandomSource, size: int) -> bytes:
    """Public random bytes: salts and ids.

    Args:
        random: where they come from.
        size: bytes.
    """
    buffer = bytearray(size)
    random(memoryview(buffer))
    return bytes(buffer)


def random_secret(random: RandomSource, size: int) -> SecretBytes:
    """A fresh key.

    Args:
        random: where it comes from.
        size: bytes.
    """
    buffer = bytearray(size)
    random(memoryview(buffer))
    return SecretBytes(buffer)
