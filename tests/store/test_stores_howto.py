"""The pages on registries and on moving models: each command is run, each setting read."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.runtime.config import ServeConfig
from regalia.store.cached import CachedBlobs
from regalia.store.locate import open_cached
from regalia.store.oci_address import OciAddress
from regalia.store.oci_login import Login, find_login
from regalia.store.piece_cache import PieceCache
from regalia_testing.pages import blocks_of, run_blocks
from tests.store import registry
from tests.store.owned import sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.store.owned import Sent

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / f"docs/howto/{name}.md").read_text(encoding="utf-8")
    for name in ("models-in-registries", "move-sealed-models")
}
REGISTRIES, MOVING = PAGES.values()
BLOCKS = re.compile(r"^```(json|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def settings(page: str) -> list[str]:
    blocks = [tomllib.loads(text) for kind, text in BLOCKS.findall(page) if kind == "toml"]
    return [block["store"] for block in blocks if "store" in block]


def documents(page: str) -> list[object]:
    return [json.loads(text) for kind, text in BLOCKS.findall(page) if kind == "json"]


@pytest.mark.parametrize("name", PAGES)
def test_codes_of_the_pages_exist(name: str) -> None:
    codes = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGES[name]))
    named = {each for each in named if not each.startswith("SSL_")}
    assert named
    assert [each for each in named if f"| `{each}` |" not in codes] == []


def test_the_settings_of_registries() -> None:
    first, second = map(OciAddress.parse, settings(REGISTRIES))
    assert first.describe() == second.describe() == "oci://registry.example/acme/smollm2:v3"
    egress = documents(REGISTRIES)[1]
    assert isinstance(egress, dict)
    hosts = {second.host, second.auth, *second.blobs}
    assert {entry.removesuffix(":443") for entry in egress["egress"]} == hosts


def test_the_credentials_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    (tmp_path / "config.json").write_text(json.dumps(documents(REGISTRIES)[0]))
    assert find_login("registry.example", "acme/smollm2", helpers=False) == Login("ann", "hunter2")
    assert base64.b64encode(b"ann:hunter2").decode() in REGISTRIES


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[str], list[str]]:
    """A sealed model and its owner's key where the pages have them."""
    sent: Sent = sealed(tmp_path / "owned")
    sent.folder.rename(tmp_path / "sealed")
    sent.signer.rename(tmp_path / "owner.pub")

    def blocks(page: str) -> list[str]:
        return [block.replace("/srv/", f"{tmp_path}/srv/") for block in blocks_of(page)]

    return blocks


def test_moving_works_as_written(prepared: Callable[[str], list[str]], tmp_path: Path) -> None:
    *blocks, serving = prepared(MOVING)
    shown = run_blocks(tmp_path, blocks).stdout
    assert "signature, all bytes" in shown
    assert (tmp_path / "fetched/manifest.json").exists()
    assert (tmp_path / "srv/usb/models/versions/v3").exists()
    assert not (tmp_path / "srv/models/versions/v3").exists()
    assert "store serve" in serving


def test_a_cache_is_served_as_written(prepared: Callable[[str], list[str]], tmp_path: Path) -> None:
    """The command would not end, so only its words are taken from the page."""
    command = prepared(MOVING)[-1].split()[1:]
    PieceCache(tmp_path / "srv/cache", 1 << 30)
    words = ["127.0.0.1:0" if word.startswith("127.0.0.1:") else word for word in command]
    process = subprocess.Popen(
        [sys.executable, "-m", "regalia", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    process.kill()
    process.communicate()
    assert facts["serving"]["folder"] == f"{tmp_path}/srv/cache"


def test_the_settings_of_a_cache(tmp_path: Path) -> None:
    (page,) = [text for kind, text in BLOCKS.findall(MOVING) if kind == "toml"]
    settings = tomllib.loads(page)
    assert settings.keys() <= set(ServeConfig.__struct_fields__)
    settings["store"] = "http://127.0.0.1:9/"
    settings["cache"] = str(tmp_path / "cache")
    store = settings.pop("store")
    with open_cached(store, tmp_path, **settings) as blobs:
        assert isinstance(blobs, CachedBlobs)


@pytest.mark.slow
def test_registries_work_as_written(prepared: Callable[[str], list[str]], tmp_path: Path) -> None:
    with registry.running(tmp_path / "registry") as started:
        blocks = [block.replace("127.0.0.1:5000", started.host) for block in prepared(REGISTRIES)]
        shown = run_blocks(tmp_path, blocks).stdout
    assert f"oci://{started.host}/acme/smollm2@sha256:" in shown
    assert "v3" in shown
