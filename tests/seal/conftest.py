"""Sealed models that several tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.crypto.sign import SigningKey
from regalia_testing.sealed import PAYLOAD, KeptMemory, pattern, seal_testbed, write_model
from tests.seal.interrupted import Bench

if TYPE_CHECKING:
    from pathlib import Path

    from regalia_testing.sealed import OwnedModel


@pytest.fixture(scope="session")
def owner() -> SigningKey:
    return SigningKey.generate_ed25519()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, owner: SigningKey) -> OwnedModel:
    """Five chunks in three shards. Do not change it: take ``sealed``."""
    folder = tmp_path_factory.mktemp("pristine")
    files = {
        "config.json": b'{"hidden":1}',
        "empty": b"",
        "weights.bin": pattern(4 * PAYLOAD + 100),
        "sub/tokenizer.json": b"[]",
    }
    return seal_testbed(write_model(folder / "model", files), folder / "sealed", owner)


@pytest.fixture
def sealed(pristine: OwnedModel, tmp_path: Path) -> OwnedModel:
    """A copy of one's own to damage."""
    return pristine.copy(tmp_path / "sealed")


@pytest.fixture(scope="session")
def twin(pristine: OwnedModel, tmp_path_factory: pytest.TempPathFactory) -> OwnedModel:
    """The same model, sealed a second time."""
    folder = tmp_path_factory.mktemp("twin")
    return seal_testbed(pristine.model, folder / "sealed", pristine.owner)


@pytest.fixture
def bench(tmp_path: Path, owner: SigningKey) -> Bench:
    """A model whose sealing ends early."""
    return Bench(tmp_path, owner)


@pytest.fixture
def memory() -> KeptMemory:
    return KeptMemory()
