"""The commands of the how-to are run as they stand there."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from regalia_testing.pages import blocks_of, run_blocks
from regalia_testing.tees.snp.simulator import SnpSimulator

ROOT = Path(__file__).parents[2]


def test_the_howto_works_as_written(tmp_path: Path) -> None:
    text = (ROOT / "docs/howto/air-gapped-collateral.md").read_text(encoding="utf-8")
    blocks = blocks_of(text)
    assert len(blocks) == 7
    platform = SnpSimulator.create(tmp_path / "platform")
    shutil.copytree(platform.collateral_directory, tmp_path / "collateral")
    evidence = platform.evidence(
        b"r" * 64, measurement=hashlib.sha384(b"x").digest(), runtime_config=b"c"
    )
    (tmp_path / "evidence.json").write_bytes(evidence.encode())
    done = run_blocks(tmp_path, blocks)
    assert "COLLATERAL_ROLLBACK" in done.stderr
    assert "nothing is missing" in done.stdout
    assert (tmp_path / "site/collateral.bundle").read_bytes() == (
        tmp_path / "bundle-2"
    ).read_bytes()
