"""Docstrings say what a caller must know: every parameter of several, and every refusal.

A public function with two or more parameters has ``Args`` that name each of them. One that raises
says so, in a section ``Raises`` or in a sentence, by the name of the class.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCES = ("src/regalia",)
PACKAGES = sorted(
    path.parent.relative_to(ROOT).as_posix()
    for source in SOURCES
    for path in (ROOT / source).glob("*/__init__.py")
)
SEVERAL = 2
_ARGS = re.compile(r"^Args:\n((?:[ ]{4,}.*\n|\n)*)", re.MULTILINE)
_REFERENCE = re.compile(r"\bas ``[\w.]+``", re.IGNORECASE)  # "Raises as ``verify``", "Args as ..."


@dataclass(frozen=True)
class Function:
    """A public function or method with its docstring."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    doc: str

    @property
    def parameters(self) -> list[str]:
        arguments = self.node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        return [each.arg for each in every if each.arg not in {"self", "cls"}]

    @property
    def raised(self) -> set[str]:
        """Classes that the function itself raises by name; those of nested functions are theirs."""
        return {name for node in own_nodes(self.node) if (name := raised_by(node))}

    def undocumented(self) -> Iterator[str]:
        if len(self.parameters) >= SEVERAL and not _REFERENCE.search(self.doc):
            section = _ARGS.search(self.doc + "\n")
            said = set(re.findall(r"[\w*]+", section[1])) if section else set()
            missing = [name for name in self.parameters if name not in said]
            if missing:
                yield f"{self.name}: Args does not name {', '.join(missing)}"
        if not _REFERENCE.search(self.doc):
            unsaid = sorted(name for name in self.raised if not re.search(rf"\b{name}\b", self.doc))
            if unsaid:
                yield f"{self.name}: does not say that it raises {', '.join(unsaid)}"


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        yield child
        yield from own_nodes(child)


def raised_by(node: ast.AST) -> str:
    """The class that a ``raise`` statement names; a helper that makes the error names none."""
    if not isinstance(node, ast.Raise) or node.exc is None:
        return ""
    made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    name = made.attr if isinstance(made, ast.Attribute) else getattr(made, "id", "")
    return name if name[:1].isupper() else ""


def public_functions(path: Path) -> Iterator[Function]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from _within(tree, path.relative_to(ROOT).as_posix() + ":")


def _within(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Function]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _within(node, f"{prefix}{node.name}.")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node)
            decorated = any("command" in ast.dump(each) for each in node.decorator_list)
            if doc is not None and not node.name.startswith("_") and not decorated:
                yield Function(prefix + node.name, node, doc)


def undocumented_in(folder: Path) -> list[str]:
    functions = [each for path in sorted(folder.rglob("*.py")) for each in public_functions(path)]
    assert functions, f"{folder} has no public function"
    return [line for function in functions for line in function.undocumented()]


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_say_what_a_caller_must_know(package: str) -> None:
    assert undocumented_in(ROOT / package) == []


DEFECTS = {
    "no Args": '''
def seal(data, key):
    """Seal."""
''',
    "a parameter left out": '''
def seal(data, key):
    """Seal.

    Args:
        data: plaintext.
    """
''',
    "a silent refusal": '''
def seal(data):
    """Seal."""
    if not data:
        raise ParseError
''',
    "a silent refusal of a method": '''
class Sealer:
    def seal(self, data):
        """Seal."""
        raise errors.ParseError("no data")
''',
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_docstring_that_keeps_something_back_is_found(name: str) -> None:
    found = [
        line
        for function in _within(ast.parse(DEFECTS[name]), "")
        for line in function.undocumented()
    ]
    assert len(found) == 1
