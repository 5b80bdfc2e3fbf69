"""One real model for all tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.demo.world import default_cache
from regalia.testing.models import smollm2

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Folder with the converted SmolLM2, as the demo keeps it."""
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    smollm2(cache / "smollm2")
    return cache
