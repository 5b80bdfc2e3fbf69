"""The commands of the how-to are run as they stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

from regalia_testing.pages import blocks_of, run_blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/seal-a-downloaded-model.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_howto_works_as_written(tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "models--acme--tiny"
    snapshot = cache / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
        (cache / "blobs" / name.upper()).write_bytes(name.encode() * 1000)
        (snapshot / name).symlink_to(f"../../blobs/{name.upper()}")
    blocks = blocks_of(PAGE)
    assert len(blocks) == 3
    done = run_blocks(tmp_path, blocks)
    assert "left out, as not part of a model: pytorch_model.bin" in done.stderr
    assert "a key that you named" in done.stdout
    assert {path.name for path in (tmp_path / "sealed-again").iterdir()} == {
        "index.seal",
        "manifest.json",
        "shard-00000.seal",
    }
