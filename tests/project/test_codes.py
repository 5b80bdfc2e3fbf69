"""The list of codes is complete, unique and current."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import make_error_list

ROOT = Path(__file__).parents[2]


def test_codes_are_unique() -> None:
    names = Counter(code.name for kind in make_error_list.all_codes() for code in kind)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) > 100


def test_no_two_members_of_one_enumeration_are_aliases() -> None:
    for kind in make_error_list.all_codes():
        assert len(kind) == len(kind.__members__), kind


def test_every_code_says_why_and_what_to_do() -> None:
    for kind in make_error_list.all_codes():
        for code in kind:
            assert code.why.endswith("."), code
            assert code.fix.endswith("."), code


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == make_error_list.render(), "run: python scripts/make_error_list.py docs/errors.md"
