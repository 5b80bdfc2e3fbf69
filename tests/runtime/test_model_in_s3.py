"""A runtime whose sealed model lies in S3."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode
from regalia.store.names import StoreCode
from tests.runtime.live_deployment import PROMPT, client
from tests.runtime.test_runtime_service import expected
from tests.store.seaweedfs import BUCKET, READER, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.live_deployment import LiveDeployment


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))


def test_nobody_is_asked_for_a_key_in_vain(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = live.refused(text='store = "s3://models/m"')
    assert error.code is StoreCode.STORE_CREDENTIALS_MISSING
    error = live.refused(text='store = "s3://AKID:HIDDEN@models/m"')
    assert error.code is CoreCode.BAD_CONFIG
    assert "HIDDEN" not in error.explain()
    for name in ("s3", "s3_access"):
        monkeypatch.delitem(sys.modules, f"regalia.store.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "botocore", None)
    error = live.refused(text='store = "s3://models/m"')
    assert error.code is CoreCode.EXTRA_MISSING
    assert "regalia[s3]" in error.what
    assert live.between.releases == 0


@pytest.mark.slow
def test_it_serves_what_lies_in_a_bucket(
    live: LiveDeployment, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with running(tmp_path / "seaweedfs") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
        server.upload(live.deployment.sealed, "m/tiny/")
        started = live.start(text=f'store = "s3://{BUCKET}/m/tiny"')
        assert started.error is None
        with client(live, started.url) as chat:
            answer = chat.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": PROMPT}],
                temperature=0,
                max_tokens=20,
            )
        assert answer.choices[0].message.content == expected(tiny, 20)
        started.stop()
    assert READER[1] not in "".join(started.shown)
