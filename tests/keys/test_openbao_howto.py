"""The page on OpenBao: its commands are run as they stand there, against a real server."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.host import plugins
from regalia.keys.openbao.address import parse_address
from regalia_testing.pages import blocks_of, run_blocks
from regalia_testing.sealed import pattern, write_model
from tests.keys.openbao_server import binary, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.keys.openbao_server import OpenBao

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/openbao.md").read_text(encoding="utf-8")
RULES = re.findall(r"^```hcl\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(TOML,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_brokers_setting_can_be_read() -> None:
    scheme, _, location = tomllib.loads(TOML)["keys"]["store"].partition(":")
    assert scheme == "openbao"
    assert str(parse_address(location, ROOT)) == "https://bao.example:8200/regalia"


def test_codes_of_the_page_exist() -> None:
    codes = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGE))
    assert len(named) == 7
    assert all(f"| `{name}` |" in codes for name in named)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenBao]:
    path = os.pathsep.join((str(binary().parent), os.environ["PATH"]))
    with running(tmp_path / "server", mount=None) as bao:
        monkeypatch.setenv("PATH", path)
        monkeypatch.setenv("BAO_ADDR", bao.address)
        monkeypatch.setenv("BAO_CACERT", str(bao.folder / "ca.pem"))
        monkeypatch.setenv("BAO_TOKEN", bao.root_token)
        yield bao


@pytest.mark.slow
def test_the_howto_works_as_written(server: OpenBao, tmp_path: Path) -> None:
    if not plugins.announced(plugins.KEY_STORES).select(name="openbao"):
        pytest.skip("this installation is older than the plug-in: install the project again")
    folder = tmp_path / "owner"
    write_model(folder / "model", {"a.bin": pattern(300_000)})
    for name, rules in zip(("broker.hcl", "owner.hcl"), RULES, strict=True):
        (folder / name).write_text(rules)
    (folder / "ca.pem").write_bytes((server.folder / "ca.pem").read_bytes())
    (folder / "passphrase").write_text("correct horse")
    (folder / "passphrase").chmod(0o600)
    begin = "regalia keygen sign --out owner --passphrase-file passphrase\n"
    blocks = blocks_of(PAGE)
    assert len(blocks) == 4
    end = (
        "regalia open sealed --out opened --signer owner.pub --yes --key "
        '"openbao:$BAO_ADDR/regalia?token-file=owner.token&ca=ca.pem#smollm2"\n'
        "bao write -f regalia/keys/smollm2/rotate\n"
    )
    assert "bao write -f regalia/keys/smollm2/rotate" in PAGE
    run_blocks(folder, [begin, *blocks, end])
    assert (folder / "opened/a.bin").read_bytes() == pattern(300_000)
    assert oct((folder / "broker.token").stat().st_mode)[-3:] == "600"
