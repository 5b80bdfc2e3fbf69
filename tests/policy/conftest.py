"""The scene that every test here breaks in one place."""

from __future__ import annotations

import pytest

from regalia.testing.policy_scene import Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()
