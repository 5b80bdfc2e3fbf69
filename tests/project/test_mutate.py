"""The mutation tester tells a check that a test guards from one that nobody would miss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mutate
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

SCRIPTS = Path(__file__).parents[2] / "scripts"

MODULE = '''
"""A docstring that says 1."""

LIMIT = 10


def checked(number: int, name: str = "7") -> int:
    if number < 0:
        raise ValueError(f"{number + 1} is negative")
    if not name:
        raise ValueError("no name")
    return number


def unused() -> bool:
    return LIMIT > 9
'''
TESTS = """
import pytest
from toy.module import checked


def test_what_is_negative_is_refused():
    with pytest.raises(ValueError, match="is negative"):
        checked(-1)
    assert checked(1) == 1
"""
TESTS_OF_NO_USE = """

def test_wrong():
    assert checked(2) == 3


import os
@pytest.mark.parametrize("name", [os.urandom(8).hex()])
def test_new(name):
    with pytest.raises(ValueError):
        checked(1, "")
"""
ENDLESS = """
def count(end: int) -> int:
    at = 0
    steps = 0
    while at != end:
        at += 1
        steps += 1
    return steps
"""
TESTS_OF_ENDLESS = """
from toy.module import count


def test_count():
    assert count(3) == 3
"""
RUN = """
import sys
from pathlib import Path

sys.path.insert(0, {scripts!r})
import mutate

args = mutate.parse(["--json", "outcomes.json", *sys.argv[1:]])
table = [("src/toy/*.py", "tests/test_*.py tests/other")]
sys.exit(mutate.run(table, Path.cwd(), Path("explained.toml"), args))
"""


class Toy:
    """A project of one module and one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "src" / "toy").mkdir(parents=True)
        (folder / "tests").mkdir()
        (folder / "pytest.ini").write_text(
            "[pytest]\naddopts = --import-mode=importlib --strict-markers\n"
            "filterwarnings = error\nmarkers = slow: of no use here\n"
        )
        self.write(MODULE, TESTS)
        self.explain()

    def write(self, module: str, tests: str) -> None:
        (self.folder / "src" / "toy" / "module.py").write_text(module)
        (self.folder / "tests" / "test_module.py").write_text(tests)

    def explain(self, *rows: dict[str, str]) -> None:
        lines = [[f"{name} = {json.dumps(row[name])}" for name in row] for row in rows]
        text = "\n".join(f"[[mutant]]\n{chr(10).join(each)}\n" for each in lines)
        (self.folder / "explained.toml").write_text(text)

    def run(self, *args: str, status: int) -> str:
        before = self.files()
        done = subprocess.run(
            [sys.executable, "-c", RUN.format(scripts=str(SCRIPTS)), *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert self.files() == before  # nothing is written into the sources
        return done.stdout + done.stderr

    def files(self) -> dict[Path, bytes]:
        found = [path for name in ("src", "tests") for path in (self.folder / name).rglob("*")]
        return {path: path.read_bytes() if path.is_file() else b"" for path in found}

    def outcome(self) -> dict[str, Any]:
        (outcome,) = json.loads((self.folder / "outcomes.json").read_text())
        return dict(outcome)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What a run over the toy says, and its outcome."""
    toy = Toy(tmp_path_factory.mktemp("toy"))
    return toy.run(status=1), toy.outcome()


def survivors(outcome: dict[str, Any]) -> dict[str, str]:
    return {row["change"]: row["status"] for row in outcome["survivors"]}


def test_what_survives_is_what_no_test_would_miss(first: tuple[str, dict[str, Any]]) -> None:
    text, outcome = first
    left = survivors(outcome)
    assert left["delete if not name:"] == "survived"
    assert left["LIMIT > 9 → LIMIT >= 9"] == "unreached"
    for noticed in ("delete if number < 0:", "not name → name", "return number → return 0"):
        assert noticed not in left
    assert outcome["mutants"] == outcome["killed"] + len(left)
    assert "survived: src/toy/module.py:10 (checked): delete if not name:" in text


def test_what_says_something_and_decides_nothing_is_left_alone(toy: Toy) -> None:
    text = toy.run("--list", status=0)
    assert "number + 1" not in text
    assert "'7'" not in text
    assert "docstring" not in text
    assert "10 → 11" in text
    assert not (toy.folder / "outcomes.json").exists()


def test_explained_survivors_are_no_fault_but_a_stale_explanation_is(
    toy: Toy, first: tuple[str, dict[str, Any]]
) -> None:
    names = ("module", "function", "line", "change")
    rows = [
        {name: row[name] for name in names} | {"reason": "a toy"} for row in first[1]["survivors"]
    ]
    toy.explain(*rows)
    toy.run(status=0)
    assert toy.outcome()["explained"] == len(rows) > 0
    toy.write(MODULE, TESTS + "    with pytest.raises(ValueError):\n        checked(1, '')\n")
    toy.explain(*rows, rows[0] | {"module": "toy.gone"})
    text = toy.run(status=1)
    for stale in ("toy.module | checked | if not name: | delete if not name:", "toy.gone | "):
        assert f"explained, but no survivor: {stale}" in text
    toy.explain(*[row | {"reason": ""} for row in rows])
    assert "without its reason" in toy.run("--list", status=1)


def test_an_endless_loop_is_noticed(toy: Toy) -> None:
    toy.write(ENDLESS, TESTS_OF_ENDLESS)
    toy.run(status=0)
    assert toy.outcome()["killed"] == toy.outcome()["mutants"] == 12


def test_without_time_nothing_is_said_to_be_killed(toy: Toy) -> None:
    toy.run("--seconds", "0", status=0)
    outcome = toy.outcome()
    assert (outcome["killed"], outcome["explained"], outcome["survivors"]) == (0, 0, [])
    assert outcome["mutants"] > 0


def test_a_test_that_fails_by_itself_or_cannot_be_chosen_kills_nothing(toy: Toy) -> None:
    toy.write(MODULE, TESTS + TESTS_OF_NO_USE)
    text = toy.run(status=1)
    assert "left out, as it fails without a mutant: tests/test_module.py::test_wrong" in text
    assert "left out, as its name is another in each run: tests/test_module.py::test_new[" in text
    assert "delete if not name:" in survivors(toy.outcome())


def test_tests_may_have_a_conftest_of_their_own(toy: Toy) -> None:
    """Pytest then tells its plug-ins apart, ours included, by folder."""
    other = toy.folder / "tests" / "other"
    other.mkdir()
    (other / "conftest.py").write_text("")
    (other / "test_other.py").write_text(
        "import pytest\nfrom toy.module import checked\n\n\n"
        "def test_name():\n    with pytest.raises(ValueError):\n        checked(1, '')\n"
    )
    toy.run(status=1)
    for noticed in ("delete if not name:", "delete if number < 0:"):  # one by each folder
        assert noticed not in survivors(toy.outcome())


def test_tests_that_cannot_be_collected_end_the_run(toy: Toy) -> None:
    toy.write(MODULE, "import absent\n")
    assert "No module named 'absent'" in toy.run(status=1)
    assert not (toy.folder / "outcomes.json").exists()


def test_rsa_keys_are_made_in_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is given away once; whoever needs more, or another kind, makes it."""
    made = []

    def make(public_exponent: int, key_size: int) -> tuple[int, int, int]:
        made.append((public_exponent, key_size, len(made)))
        return made[-1]

    monkeypatch.setattr(rsa, "generate_private_key", make)
    mutate.ready_rsa_keys({2048: 2})
    assert len(made) == 2
    taken = [rsa.generate_private_key(65537, key_size=2048) for _ in range(3)]
    assert taken == made
    assert rsa.generate_private_key(3, 2048)[:2] == (3, 2048)
    assert rsa.generate_private_key(65537, 4096)[:2] == (65537, 4096)


def test_no_module_and_no_tests(toy: Toy) -> None:
    assert "no module is named like" in toy.run("--only", "absent", status=1)
    (toy.folder / "tests" / "test_module.py").unlink()
    assert "there are no tests of src/toy/module.py" in toy.run(status=1)
