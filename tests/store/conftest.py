"""Gives tests of S3 credentials of their own, and none of whoever runs them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.store.s3_double import KEY, KEY_ID, SECRET, SHARD, S3Double

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing in the SDK's usual places."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))


@pytest.fixture
def credentials(no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Keys in the SDK's environment variables."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def server() -> S3Double:
    return S3Double({KEY: SHARD})
