"""Real firmware, where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

OVMF = Path("/usr/share/ovmf/OVMF.fd")


@pytest.fixture(scope="session")
def debian_ovmf() -> bytes:
    if not OVMF.is_file():
        pytest.skip(f"{OVMF} is absent: install the package ovmf")
    return OVMF.read_bytes()
