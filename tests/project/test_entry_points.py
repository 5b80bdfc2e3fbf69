"""Every plug-in that a distribution announces can be loaded, whatever is installed just now."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from regalia.engines.hosted import HostedEngine
from regalia.keys.base import Kit

ROOT = Path(__file__).parents[2]
NEEDS = {"regalia.tees.tpm.source": "tpm2_pytss", "regalia.keys.pkcs11.plugin": "pkcs11"}


def announced() -> list[EntryPoint]:
    found: list[EntryPoint] = []
    for folder in (ROOT, ROOT / "testing", ROOT / "demo"):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        for group, points in project.get("entry-points", {}).items():
            found += [EntryPoint(name, value, group) for name, value in points.items()]
    return found


@pytest.mark.parametrize("point", announced(), ids=lambda point: f"{point.group}:{point.name}")
def test_a_plug_in_loads(point: EntryPoint) -> None:
    if point.module in NEEDS:
        pytest.importorskip(NEEDS[point.module], reason="the extra is absent")
    plugin = point.load()
    # An engine in processes of its own has several methods, and nothing to call.
    assert callable(plugin) or isinstance(plugin, HostedEngine | Kit)


def test_every_group_is_announced() -> None:
    groups = {point.group for point in announced()}
    assert groups >= {
        "regalia.evidence_sources",
        "regalia.device_sources",
        "regalia.key_stores",
        "regalia.simulated_anchors",
        "regalia.engines",
    }
