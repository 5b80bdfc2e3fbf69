"""A runtime whose sealed model is a version in a registry, or in a local store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run
from regalia.core.errors import CoreCode
from regalia.store.names import StoreCode
from tests.runtime.live_deployment import PROMPT, client
from tests.runtime.test_runtime_service import expected
from tests.store import registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.live_deployment import LiveDeployment


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return tmp_path / "config.json"


def test_nobody_is_asked_for_a_key_in_vain(
    live: LiveDeployment, config: Path, tmp_path: Path
) -> None:
    error = live.refused(text='store = "oci://ann:HIDDEN@127.0.0.1:9/m"')
    assert error.code is CoreCode.BAD_CONFIG
    assert "HIDDEN" not in error.explain()
    config.write_text(json.dumps({"credHelpers": {"127.0.0.1:9": "tests"}}))
    error = live.refused(text='store = "oci://127.0.0.1:9/m"')
    assert error.code is StoreCode.CREDENTIAL_HELPER_REFUSED
    run(["push", str(live.deployment.sealed), f"dir:{tmp_path}/store:v1"])
    error = live.refused(text=f'store = "dir:{tmp_path}/store:v2"')
    assert error.code is StoreCode.VERSION_MISSING
    assert live.between.releases == 0


@pytest.mark.slow
def test_it_serves_what_was_pushed(live: LiveDeployment, tiny: Path, tmp_path: Path) -> None:
    with registry.running(tmp_path / "registry") as server:
        address = server.address("acme/tiny", ":v1")
        assert run(["push", str(live.deployment.sealed), address]) == 0
        started = live.start(text=f'store = "{address}"')
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
