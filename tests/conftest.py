"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT_VECTORS = Path(__file__).parents[2] / "shared" / "vectors"


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Folder with real hardware evidence; it lies beside the project, not in it."""
    folder = Path(os.environ.get("REGALIA_VECTORS", _DEFAULT_VECTORS))
    if not (folder / "README.md").exists():
        pytest.skip("real hardware evidence is absent: set REGALIA_VECTORS to its folder")
    return folder
