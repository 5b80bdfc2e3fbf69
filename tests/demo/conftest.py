"""One real model for all tests of this folder."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from regalia_demo.control_plane import broker_starts
from regalia_demo.deployment import Deployment, default_cache, make_folders
from regalia_demo.screen import Screen
from regalia_demo.tour import prepare, runtime_starts
from regalia_testing.models import smollm2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Folder with the converted SmolLM2, as the demo keeps it."""
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    smollm2(cache / "smollm2")
    return cache


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Iterator[Deployment]:
    """Store, broker and runtime, running as in the demo, each a process of its own."""
    running = Deployment(
        tmp_path_factory.mktemp("deployment") / "w", model_cache, Screen(quiet=True)
    )
    # Services inherit permission to dump core: what keeps them from it must be their own doing.
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        with running.services:
            make_folders(running)
            prepare(running)
            broker_starts(running)
            runtime_starts(running)
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
