"""The fuzzer runs over every parser within its budget, and finds what there is to find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from regalia.core.errors import CoreCode, ParseError

PROJECT = Path(__file__).parents[2]
SCRIPTS = PROJECT / "scripts"
BUDGET_S = 45  # for all parsers together, beside starting up
RUNS_MIN = 200  # of each parser, on a busy machine

# A parser with a fault that four bytes lead to: the fuzzer must find them by coverage.
BROKEN = """
import sys
sys.path.insert(0, {scripts!r})
import fuzz

def broken(data):
    if data[:1] == b"f" and data[1:2] == b"a" and data[2:3] == b"i" and data[3:4] == b"l":
        raise ValueError("a foreign error")

import atheris
fuzz.LOADED = {{"SNP report": atheris.instrument_func(broken)}}
(found,) = fuzz.run(20, "SNP report", None, 1)
print(found.finding)
sys.exit(7 if "a foreign error" in found.finding and b"fail".hex() in found.finding else 1)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_parser_gives_way_within_the_budget(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="no atheris for this Python or machine")
    outcomes = tmp_path / "outcomes.json"
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPTS / "fuzz.py"),
            "--seconds",
            str(BUDGET_S),
            "--json",
            str(outcomes),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads(outcomes.read_text())
    assert len(table) > 20
    assert all(row["executions"] >= RUNS_MIN and row["edges"] > 0 for row in table), table


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_fuzzer_finds_a_fault() -> None:
    pytest.importorskip("atheris", reason="no atheris for this Python or machine")
    done = subprocess.run(
        [sys.executable, "-c", BROKEN.format(scripts=str(SCRIPTS))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stdout + done.stderr


def test_only_refusals_and_equal_bytes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a target lets through, without the fuzzer."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    targets = pytest.importorskip("fuzz_targets")

    class Parsed:
        def __init__(self, data: bytes) -> None:
            if not data:
                raise ParseError(CoreCode.MALFORMED, "empty")
            if data == b"crash":
                raise ValueError(data)
            self.data = data

        def encode(self) -> bytes:
            return self.data.lower()

    monkeypatch.setattr(targets, "parser_for_tests", Parsed, raising=False)
    once = targets.Target(
        "test", "fuzz_targets:parser_for_tests", targets.nothing, again="encode"
    ).load()
    once(b"")
    once(b"abc")
    with pytest.raises(ValueError, match="crash"):
        once(b"crash")
    with pytest.raises(AssertionError, match="other bytes"):
        once(b"ABC")
    absent = targets.Target("absent", "regalia.no_such.module:parse", targets.nothing)
    assert not absent.is_here()
