"""The commands of the how-to are run as they stand there, and its broker's setting is accepted."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from regalia.keys.pkcs11.codes import Pkcs11Code
from regalia.keys.pkcs11.uri import parse_uri
from regalia_testing.pages import blocks_of, run_blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/keys-in-an-hsm.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_howto_works_as_written(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes(b"{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(1000))
    blocks = blocks_of(PAGE)
    assert len(blocks) == 4
    done = run_blocks(tmp_path, blocks)
    assert (
        "Lacking: keeps wrapping keys inside, rewraps with OAEP-SHA-256, is hardware" in done.stdout
    )
    assert "sealed  rotated" in done.stdout
    assert "SOFTWARE TOKEN" in done.stderr
    assert (tmp_path / "recovered-again" / "config.json").read_bytes() == b"{}"


def test_the_setting_of_the_broker_names_a_token() -> None:
    (block,) = PAGE.partition("```toml\n")[2].split("```")[:1]
    scheme, _, location = tomllib.loads(block)["keys"]["store"].partition(":")
    assert scheme == "pkcs11"
    assert parse_uri(location).label == "regalia"


def test_the_codes_on_the_page_exist() -> None:
    rows = PAGE.partition("| code |")[2]
    named = {word for line in rows.splitlines() for word in line.split("|")[1:2]}
    codes = {code.strip() for each in named for code in each.split(",")}
    known = {code.name for code in Pkcs11Code} | {"KEY_UNWRAP_FAILED", "KEK_MISMATCH"}
    assert {code for code in codes if code.isupper()} <= known
    assert len(codes) > 5
