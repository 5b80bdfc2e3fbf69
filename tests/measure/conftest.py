"""Loads the second implementation, and real firmware where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

OVMF = Path("/usr/share/ovmf/OVMF.fd")
_NAME = "measure_independent"

if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        _NAME, Path(__file__).with_name("independent.py")
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])


@pytest.fixture(scope="session")
def debian_ovmf() -> bytes:
    if not OVMF.is_file():
        pytest.skip(f"{OVMF} is absent: install the package ovmf")
    return OVMF.read_bytes()
