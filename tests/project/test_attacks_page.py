"""Every attack has a test named after it, or a line about what evidence cannot show."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import make_error_list
import msgspec
import pytest

from regalia.policy.documents import ReleasePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "spec" / "attacks.md").read_text(encoding="utf-8")
LIMITATIONS = (ROOT / "docs" / "limitations.md").read_text(encoding="utf-8")
FOLDER = ROOT / "tests" / "attacks"
COLUMNS = 5
# The attacks of the review that this page answers, by words of their rows.
REVIEWED = (
    "debug bit",
    "stale TCB",
    "collateral rollback",
    "BadRAM",
    "Battering RAM, WireTap, TEE.fail",
    "Milan seed extraction",
    "firmware bugs fixed by live update",
    "nonce",
    "attested-TLS relay",
    "diversion",
    "symmetric reflection",
    "TOCTOU",
    "self-asserted AK",
    "GPU relay",
    "GPU outside confidential mode",
    "event-log text spoof",
    "VMPL confusion",
    "trailing bytes",
    "duplicate CBOR keys",
    "ECDSA malleability",
    "malicious ACPI",
    "nothing expected",
    "side channels",
)


@dataclass(frozen=True)
class Attack:
    name: str
    codes: tuple[str, ...]
    tests: tuple[str, ...]
    beyond: tuple[str, ...]
    words: tuple[str, ...]


def attacks() -> Iterator[Attack]:
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| **") or len(cells) != COLUMNS:
            continue
        yield Attack(
            name=cells[0],
            codes=tuple(re.findall(r"\b[A-Z][A-Z0-9_]{5,}\b", cells[1])),
            tests=tuple(re.findall(r"`([^`]+)`", cells[2])),
            beyond=tuple(re.findall(r"limitations\.md#([a-z-]+)\)", cells[3])),
            words=tuple(re.findall(r"`([^`]+)`", cells[4])),
        )


ATTACKS = tuple(attacks())


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        f"{path.name}::{node.name}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def policy_words(kind: type[msgspec.Struct] = ReleasePolicy) -> set[str]:
    found = set()
    for field in msgspec.structs.fields(kind):
        found.add(field.name)
        stack = [field.type]
        while stack:
            each = stack.pop()
            stack += get_args(each)
            if isinstance(each, type) and issubclass(each, msgspec.Struct):
                found |= policy_words(each)
    return found


def test_the_table_is_read() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| **")]
    assert len(rows) == len(ATTACKS) > 25


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.name[:40])
def test_every_attack_has_a_test_or_a_limitation(attack: Attack) -> None:
    assert attack.tests or attack.beyond
    if not attack.tests:
        assert attack.words, "evidence cannot show it, and no word of a policy helps"


def test_every_reviewed_attack_is_there() -> None:
    for words in REVIEWED:
        assert any(words in attack.name for attack in ATTACKS), words


def test_tests_exist_and_every_test_belongs_to_an_attack() -> None:
    exist = {name for path in FOLDER.glob("test_*.py") for name in names_in(path)}
    named = {name for attack in ATTACKS for name in attack.tests}
    assert named - exist == set(), "named on the page, and not there"
    assert exist - named == set(), "there, and not named on the page"


def test_limitations_exist_and_end_with_a_word_of_a_policy() -> None:
    words = policy_words()
    entries = dict(re.findall(r'<a id="([a-z-]+)"></a>\n(.+?)(?=\n\n)', LIMITATIONS, re.DOTALL))
    for attack in ATTACKS:
        for anchor in attack.beyond:
            assert anchor in entries, anchor
    for anchor, text in entries.items():
        _, _, helps = re.sub(r"\s+", " ", text).partition("*What helps:*")
        assert set(re.findall(r"`([a-z_0-9]+)`", helps)) & words, anchor


def test_no_limitation_of_evidence_is_without_an_attack() -> None:
    section = LIMITATIONS[LIMITATIONS.index("## 2. ") : LIMITATIONS.index("## 3. ")]
    anchors = set(re.findall(r'<a id="([a-z-]+)"></a>', section))
    assert anchors == {anchor for attack in ATTACKS for anchor in attack.beyond}


def test_words_are_words_of_policies() -> None:
    words = policy_words()
    for attack in ATTACKS:
        assert set(attack.words) <= words, attack.name


def test_codes_exist() -> None:
    known = {code.name for kind in make_error_list.all_codes() for code in kind}
    for attack in ATTACKS:
        assert set(attack.codes) <= known, set(attack.codes) - known
