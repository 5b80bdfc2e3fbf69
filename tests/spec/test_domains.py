"""Domain names: none begins another, so what stands behind one cannot turn it into another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"regalia/[a-z0-9-]+(?:/[a-z0-9-]+)*/v[0-9]+(?:/[a-z-]+)?")
# Names of formats, which stand in documents and in front of nothing.
STORE = "regalia/development-key-store/v1"


def literals(path: Path) -> set[str]:
    """Texts and byte strings of a module that begin like a domain name, docstrings left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if text.startswith("regalia/") and " " not in text:
                found.add(text)
    return found


def domains() -> set[str]:
    found: set[str] = set()
    for folder in ("src", "testing"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= literals(path)
    # Written in the code as f"{FORMAT}/…".
    return found | {f"{STORE}/{use}" for use in ("commitment", "mac", "seal", "kek")}


def test_no_domain_name_begins_another() -> None:
    names = sorted(domains())
    assert len(names) > 35
    clashes = {(a, b) for a in names for b in names if a != b and b.startswith(a)}
    # The format's own name stands in a document only; its four uses are what keys are derived with.
    assert {short for short, _ in clashes} <= {STORE}


def test_every_domain_name_ends_in_a_version() -> None:
    # A role of configurations that release nothing; no bytes are hashed behind it.
    words = {"regalia/evidence-only"}
    assert {name for name in domains() if not NAME.fullmatch(name)} == words


def test_the_uses_of_the_key_store_are_those_of_its_module() -> None:
    text = (ROOT / "src/regalia/keys/devfile_format.py").read_text(encoding="utf-8")
    assert set(re.findall(r"\{FORMAT\}/([a-z]+)", text)) == {"commitment", "mac", "seal", "kek"}


def test_the_wrapping_context_is_one_domain_in_two_packages() -> None:
    sealed = literals(ROOT / "src/regalia/seal/format/sealed.py")
    keys = literals(ROOT / "src/regalia/keys/logged.py")
    assert sealed & keys == {"regalia/wrapped-model-key/v1"}
