"""The fuzzer runs over every parser within its budget, and finds what there is to find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import fuzz_seeds
import fuzz_targets as targets
import pytest
from fuzz_json import mutated

from regalia.core.codec import canonical_json
from regalia.core.errors import CoreCode, ParseError
from regalia_testing.accepted_evidence import ACCEPTED_EVIDENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def test_every_parser_starts_from_something_that_it_accepts(tmp_path: Path) -> None:
    """Otherwise its gate is all that is fuzzed. Where real ones are absent, simulated seeds do."""
    accepted_evidence = {
        name: make(tmp_path / str(at)) for at, (name, make) in enumerate(ACCEPTED_EVIDENCE.items())
    }
    material = fuzz_seeds.Material(accepted_evidence, None, PROJECT / "tests" / "vectors")
    assert len({target.name for target in targets.TARGETS}) == len(targets.TARGETS) > 40
    for target in targets.TARGETS:
        found = [seed for seed in target.seeds(material) if len(seed) <= target.max_size]
        assert any(map(target.accepts, found)), target.name


DOCUMENT = {"flag": True, "hex": "00ff", "list": [1, None], "base64": "AAE=", "text": "not either"}


def mutations(data: bytes, seeds: int) -> Iterator[bytes]:
    """Of a byte mutator that only appends, so that one can see what it was given."""
    for seed in range(seeds):
        found = mutated(data, 4096, seed, lambda inner, _: inner + b"!")
        assert found == mutated(data, 4096, seed, lambda inner, _: inner + b"!")
        yield found


def test_documents_are_changed_into_canonical_documents() -> None:
    encoded = canonical_json(DOCUMENT)
    found = set(mutations(encoded, 2000)) - {encoded + b"!"}  # mutated as bytes
    others = [json.loads(each) for each in found]
    assert {canonical_json(other) for other in others} == found
    texts = {"hex": "00ff21", "base64": "AAEh", "text": "not either!"}
    for name, value in {"flag": False, **texts}.items():
        assert {**DOCUMENT, name: value} in others, name  # one value, the rest as it was
        assert {key: DOCUMENT[key] for key in DOCUMENT if key != name} in others, name
    for items in ([None], [1], [2**64 - 1, None], [1, None, 1, None]):
        assert {**DOCUMENT, "list": items} in others, items


@pytest.mark.parametrize("data", [b"", b"\x00bytes", b"{not json", b"[" * 2000])
def test_what_is_no_document_is_left_to_the_byte_mutator(data: bytes) -> None:
    assert set(mutations(data, 20)) == {data + b"!"}


def test_only_refusals_and_equal_bytes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a target lets through, without the fuzzer."""

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
    target = targets.Target("test", "fuzz_targets:parser_for_tests", lambda _: (), again="encode")
    assert target.accepts(b"abc")
    assert not target.accepts(b"")
    once = target.load()
    once(b"")
    once(b"abc")
    with pytest.raises(ValueError, match="crash"):
        once(b"crash")
    with pytest.raises(AssertionError, match="other bytes"):
        once(b"ABC")
    absent = targets.Target("absent", "regalia.no_such.module:parse", lambda _: ())
    assert not absent.is_here()
