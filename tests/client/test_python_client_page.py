"""The code on the page about the Python client runs as it stands there, but for names and paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import regalia.client

if TYPE_CHECKING:
    from regalia.client.trust import ClientTrust

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "python-client.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(code: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - the project's own page
    names["http"].close()


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_code_runs(
    number: int,
    *,
    address: str,
    trust: ClientTrust,
    relay: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[object] = []

    def load(policy: str, *, collateral: str) -> ClientTrust:
        asked.append((policy, collateral))
        return trust

    monkeypatch.setitem(vars(regalia.client), "load_trust", load)
    code = BLOCKS[number].replace("http://runtime.example:8443", address)
    assert address in code
    run(code)
    assert asked == [("client-policy.json", "collateral")]
    assert capsys.readouterr().out.splitlines()[0] in ("Gold and jewels.", "crown")
    relay.runtime.measurement = b"\x66" * 48
    run(code)
    assert "MEASUREMENT_UNKNOWN" in capsys.readouterr().out


def test_every_public_name_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = {"ClientCode", "ClientTrust"}  # what others have in them
    assert [name for name in regalia.client.__all__ if name not in page and name not in told] == []
