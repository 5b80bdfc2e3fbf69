"""The comparison of two checkouts, with cases that only count: no evidence, and known answers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPTS = (
    *("attest_cost.py", "attest_against.py", "attest_worker.py", "attest_signatures.py"),
    "harness.py",
)
# A row takes as long as its loop is; ``Case`` has what a worker needs, and no more.
CASES = """
from types import SimpleNamespace

import regalia

def case(loops):
    def make(folder):
        if loops is None:
            return None
        return SimpleNamespace(verify=lambda: sum(range(loops)), rest=lambda: None)
    return make

CASES = {name: case(loops) for name, loops in REGALIA_LOOPS.items()}
"""


def checkout(root: Path, loops: dict[str, int | None], *, cases: str = CASES) -> Path:
    """A project with these rows, and nothing but them."""
    (root / "bench").mkdir(parents=True)
    (root / "src/regalia").mkdir(parents=True)
    (root / "src/regalia/__init__.py").touch()
    text = cases.replace("REGALIA_LOOPS", repr(loops))
    (root / "bench/attest_cases.py").write_text(text, encoding="utf-8")
    return root


def compared(before: Path, after: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """``attest_cost --against before`` of ``after``, which gets this checkout's scripts."""
    for name in SCRIPTS:
        shutil.copy(BENCH / name, after / "bench")
    return subprocess.run(
        [
            *(sys.executable, str(after / "bench/attest_cost.py"), "--against", str(before)),
            *("--sittings", "1", "--rounds", "4", "--count", "40", "--json", *flags),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(done.stdout)["rows"]}


def test_slower_row_fails_and_faster_row_does_not(tmp_path: Path) -> None:
    before = checkout(tmp_path / "before", {"steady": 40_000, "changed": 20_000})
    after = checkout(tmp_path / "after", {"changed": 40_000, "steady": 20_000})
    done = compared(before, after, "--sittings", "2")
    assert done.returncode == 1, done.stderr
    found = rows(done)
    assert found["changed"]["slower"]
    assert found["changed"]["change_percent"] > 50
    assert not found["steady"]["slower"]
    assert found["steady"]["change_percent"] < -25


def test_only_faster_rows_pass(tmp_path: Path) -> None:
    before = checkout(tmp_path / "before", {"row": 40_000, "absent": None})
    after = checkout(tmp_path / "after", {"row": 20_000, "absent": None, "another": 10})
    done = compared(before, after)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert list(rows(done)) == ["row"]
    assert (answer["gone"], answer["new"], answer["absent"]) == ([], ["another"], ["absent"])


def test_row_that_is_gone_fails(tmp_path: Path) -> None:
    before = checkout(tmp_path / "before", {"row": 40_000, "gone": 10})
    after = checkout(tmp_path / "after", {"row": 20_000})
    done = compared(before, after)
    assert done.returncode == 1
    assert json.loads(done.stdout)["gone"] == ["gone"]
    assert compared(before, after, "--only", "row").returncode == 0


def test_nothing_compared_fails(tmp_path: Path) -> None:
    before, after = (checkout(tmp_path / name, {"row": 10}) for name in ("before", "after"))
    done = compared(before, after, "--only", "no such row")
    assert done.returncode == 1
    assert json.loads(done.stdout)["rows"] == []


@pytest.mark.parametrize(
    ("cases", "why"),
    [
        pytest.param("raise OSError('the cases are broken')", "are broken", id="raises"),
        pytest.param(
            f"import sys; sys.path.insert(0, {str(BENCH.parent / 'src')!r})\n{CASES}",
            "regalia was imported from",
            id="code of another checkout",
        ),
    ],
)
def test_checkout_that_cannot_be_measured_is_refused(tmp_path: Path, cases: str, why: str) -> None:
    before = checkout(tmp_path / "before", {"row": 40_000}, cases=cases)
    after = checkout(tmp_path / "after", {"row": 20_000})
    done = compared(before, after)
    assert done.returncode == 1
    assert why in done.stderr
    assert "its worker ended in start" in done.stderr
    assert not done.stdout


def test_other_checkout_is_left_as_it_is(tmp_path: Path) -> None:
    before = checkout(tmp_path / "before", {"row": 40_000})
    after = checkout(tmp_path / "after", {"row": 20_000})
    files = sorted(before.rglob("*"))
    assert compared(before, after).returncode == 0
    assert sorted(before.rglob("*")) == files
