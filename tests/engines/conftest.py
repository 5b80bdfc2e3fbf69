"""Tiny models for the engines' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia_testing.models import tiny_llama

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama, tied embeddings, one file."""
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama, untied, three files and an index."""
    return tiny_llama(tmp_path_factory.mktemp("models") / "sharded", tied=False, shards=3)
