"""The commands of the how-to are run as they stand there."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from regalia.policy.documents import parse_platform
from regalia.verifier.collateral import parse_roots
from regalia.wire.evidence import Tee
from regalia_testing.__main__ import main
from regalia_testing.machines import MACHINES
from regalia_testing.pages import blocks_of, run_blocks
from regalia_testing.sources import open_nitro

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/pin-reference-values.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_howto_works_as_written(tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
    assert len(blocks) == 6  # the first makes the files of the others
    done = run_blocks(tmp_path, blocks)
    assert "may be a replay" in done.stderr
    assert "Exactly 8 devices must be there" in done.stdout
    made = tmp_path / "pinning"
    ours = parse_platform((made / "platform.json").read_bytes())
    theirs = parse_platform((made / "from-quote.json").read_bytes())
    assert ours.tdx is not None
    assert theirs.tdx is not None
    assert theirs.tdx.mrtd == ours.tdx.mrtd
    assert (ours.tdx.mr_config_id == "any", theirs.tdx.mr_config_id) == (False, "any")
    edited = json.loads((made / "edited.json").read_bytes())
    assert edited["platform"]["devices"][0]["count"] == 8


def test_the_command_that_makes_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*args: object) -> int:
        monkeypatch.setattr(sys, "argv", ["regalia_testing", *map(str, args)])
        return main()

    assert run("machine", "aws-nitro", tmp_path / "m") == 0
    assert "roots.pem" in capsys.readouterr().out
    section = tomllib.loads((tmp_path / "m/evidence.toml").read_text())["evidence"]
    assert section["source"] == "simulated-nitro"
    assert open_nitro(section["options"]).simulated
    assert parse_roots((tmp_path / "m/roots.pem").read_bytes(), what="roots")
    assert run("machine", "tea", tmp_path / "n") == 2
    said = capsys.readouterr().err
    assert all(name in said for name in MACHINES)


def test_the_page_names_every_tee() -> None:
    table = PAGE[PAGE.index("| evidence of |") : PAGE.index("A field in which")]
    for word in ("SEV-SNP", "TDX", "SGX", "AWS Nitro", "Azure", "TPM", "NVIDIA"):
        assert f"| {word}" in table, word
    assert len(Tee) == 7
