"""The commands of the how-to are run as they stand there."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from regalia.broker.config import ModelSection
from regalia.policy.documents import parse_client_policy
from regalia_testing.adapters import tiny_adapter
from regalia_testing.models import tiny_llama
from regalia_testing.pages import blocks_of, run_blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/adapters.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_howto_works_as_written(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "base")
    tiny_adapter(tmp_path / "tuned")
    blocks = blocks_of(PAGE)
    assert len(blocks) == 5
    done = run_blocks(tmp_path, blocks)
    measured = json.loads((tmp_path / "measured.json").read_bytes())
    assert f"adapter of {measured['model_id']}" in " ".join(done.stdout.split())
    assert "ADAPTER_WITHOUT_BASE" in done.stderr
    assert f"Only these adapters may be merged into the model: {measured['adapter']}" in done.stdout
    client = parse_client_policy((tmp_path / "client-policy.json").read_bytes())
    assert client.runtime.adapters == [measured["adapter"]]
    assert not (tmp_path / "sealed-alone").exists()


def test_the_brokers_settings_are_settings() -> None:
    (block,) = (part.partition("```")[0] for part in PAGE.split("```toml\n")[1:])
    for entry in tomllib.loads(block)["models"]:
        assert set(entry) <= set(ModelSection.__struct_fields__)
