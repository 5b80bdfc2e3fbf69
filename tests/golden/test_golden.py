"""Everything that people and programs read is what it was, byte for byte.

``python scripts/make_golden.py`` writes the files anew; what it changes shows in the diff, and
belongs into the commit that changes the product.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.golden import produce

_SHOWN = 60  # lines of a difference


def _equal(part: str, evidence: Path) -> None:
    changed = {
        name: pair for name, pair in produce.compared(part, evidence).items() if pair[0] != pair[1]
    }
    lines = [
        line
        for name, (old, new) in changed.items()
        for line in difflib.unified_diff(
            old.splitlines(), new.splitlines(), f"committed {name}", f"now {name}", "", "", 1, ""
        )
    ]
    more = [f"... {len(lines) - _SHOWN} more lines"] if len(lines) > _SHOWN else []
    said = "\n".join([*lines[:_SHOWN], *more])
    assert not changed, f"{said}\nMeant so? python scripts/make_golden.py {part}"


@pytest.mark.parametrize("part", [part for part in produce.PARTS if part != "vectors"])
def test_nothing_has_changed(part: str) -> None:
    _equal(part, Path())


def test_nothing_has_changed_for_real_evidence(vectors: Path) -> None:
    _equal("vectors", vectors)


def test_the_files_are_all_of_a_part_and_small() -> None:
    folders = sorted(path.name for path in produce.FOLDER.iterdir())
    assert folders == sorted(produce.PARTS)
    files = [path for path in produce.FOLDER.rglob("*") if path.is_file()]
    assert all(path.suffix == ".txt" for path in files)
    assert sum(path.stat().st_size for path in files) < 1_800_000
