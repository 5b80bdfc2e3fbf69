"""Every test can fail: mistakes that a program can see are found here, and none is excepted.

The rules read the source of the tests. Each has an example below that it must find, and a neighbor
that it must let pass, so that the rules can fail as well. An expectation that the product cannot
miss is beyond them: that is for the reader and for ``scripts/mutate.py``.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CHECKS = {"raises", "warns", "fail"}
EVERYTHING = {"Exception", "BaseException", "AssertionError"}
# Bases that give a class no truth value of its own.
PLAIN_BASES = {"Struct", "Doc", "Protocol", "object"}
LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Known:
    """What is known of the functions that one file calls, by their bare names.

    Attributes:
        checking: fail by themselves, if need be through others; also those of the product whose
            only answer is a refusal: they raise, or return nothing.
        always_true: have results that are never false: of classes without a truth value, or what
            a checking function has to tell once its checks have passed.
    """

    checking: frozenset[str]
    always_true: frozenset[str]


Rule = Callable[[ast.Module, Known], "Iterator[ast.AST]"]


def last_name(node: ast.AST | None) -> str:
    """``raises`` of ``pytest.raises`` and of ``raises``; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def called(node: ast.AST) -> str:
    return last_name(node.func) if isinstance(node, ast.Call) else ""


def is_check(node: ast.AST, checking: frozenset[str]) -> bool:
    """Whether this node alone can fail a test."""
    if isinstance(node, ast.keyword):  # subprocess.run(..., check=True)
        return node.arg == "check" and ast.unparse(node.value) == "True"
    if isinstance(node, ast.Raise):
        return called(node.exc or node) == "AssertionError"
    return isinstance(node, ast.Assert) or called(node) in CHECKS or called(node) in checking


def plain_classes(trees: list[ast.Module]) -> frozenset[str]:
    """Classes whose instances are always true."""
    kinds = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = frozenset(PLAIN_BASES)
    for _ in kinds:
        more = found | {
            kind.name
            for kind in kinds
            if all(last_name(base) in found for base in kind.bases)
            and not {"__bool__", "__len__"} & {getattr(node, "name", "") for node in kind.body}
        }
        if more == found:
            break
        found = more
    return found - PLAIN_BASES


class Library:
    """All functions of the tests and of the product, and which of them can fail a test."""

    def __init__(self, tests: dict[str, ast.Module], product: dict[str, ast.Module]) -> None:
        """Trees by the names of their modules."""
        self._modules = tests | product
        self._bearers: dict[str, list[Function]] = {}
        for tree in self._modules.values():
            for function in helpers_in(tree):
                self._bearers.setdefault(function.name, []).append(function)
        self._plain = plain_classes([*self._modules.values()])
        self._checking = {
            function
            for tree in product.values()
            for function in helpers_in(tree)
            if returns(function) == "None"
            and any(isinstance(n, ast.Raise) for n in ast.walk(function))
        }
        self._follow(list(tests.values()))

    def _follow(self, tests: list[ast.Module]) -> None:
        """Find who checks, and who checks through others, until nobody is added."""
        calls: dict[Function, list[Function]] = {}
        for tree in tests:
            bearers = self._visible(tree)
            for function in helpers_in(tree):
                nodes = list(ast.walk(function))
                if any(is_check(node, frozenset()) for node in nodes):
                    self._checking.add(function)
                calls[function] = [each for node in nodes for each in bearers.get(called(node), ())]
        while more := {
            function
            for function, whom in calls.items()
            if function not in self._checking and not self._checking.isdisjoint(whom)
        }:
            self._checking |= more

    def of(self, tree: ast.Module) -> Known:
        """What the file's calls do."""
        names = {called(node) for node in ast.walk(tree)}
        bearers = {name: each for name, each in self._visible(tree).items() if name in names}
        return Known(
            frozenset(name for name, each in bearers.items() if self._checking.issuperset(each)),
            frozenset(name for name, each in bearers.items() if all(map(self._tells, each))),
        )

    def _visible(self, tree: ast.Module) -> dict[str, list[Function]]:
        """A name means what the file defines or imports; else anybody who bears it."""
        own: dict[str, list[Function]] = {}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module in self._modules:
                names = {alias.name for alias in node.names}
                for function in helpers_in(self._modules[node.module]):
                    if function.name in names:
                        own.setdefault(function.name, []).append(function)
        for function in helpers_in(tree):
            own.setdefault(function.name, []).append(function)
        return self._bearers | own

    def _tells(self, function: Function) -> bool:
        return returns(function) in self._plain or (
            function in self._checking and returns(function) not in {"", "bool", "None", "Any"}
        )


def returns(function: Function) -> str:
    return "" if function.returns is None else ast.unparse(function.returns)


@cache
def helpers_in(tree: ast.Module) -> tuple[Function, ...]:
    return tuple(
        node
        for node in ast.walk(tree)
        if isinstance(node, Function) and not node.name.startswith("test_")
    )


@cache
def parsed(folder: str) -> dict[Path, ast.Module]:
    found = sorted((ROOT / folder).rglob("*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in found}


@cache
def library() -> Library:
    def named(folder: str, root: Path) -> dict[str, ast.Module]:
        return {
            ".".join(path.relative_to(root).with_suffix("").parts): tree
            for path, tree in parsed(folder).items()
        }

    tests = named("tests", ROOT) | named("testing", ROOT / "testing")
    return Library(tests, named("src", ROOT / "src"))


@cache
def known_of(tree: ast.Module) -> Known:
    return library().of(tree)


def all_tests(tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.name.startswith("test_"):
            yield node


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything below, without what stands in nested functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.Lambda):
            yield child
            yield from own_nodes(child)


def asserts(tree: ast.Module) -> Iterator[ast.Assert]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Assert))


# -- the rules ------------------------------------------------------------------------------------


def nothing_is_checked(tree: ast.Module, known: Known) -> Iterator[ast.AST]:
    for test in all_tests(tree):
        if not any(is_check(node, known.checking) for step in test.body for node in ast.walk(step)):
            yield test


def checked_under_a_condition_only(tree: ast.Module, known: Known) -> Iterator[ast.AST]:
    """All checks stand in an ``if`` without an ``else``: where it is never met, all is well."""

    def checks(node: ast.AST) -> bool:
        if isinstance(node, ast.If):
            return bool(node.orelse) and all(map(any_checks, (node.body, node.orelse)))
        if isinstance(node, Function | ast.Lambda):
            return False
        return is_check(node, known.checking) or any(map(checks, ast.iter_child_nodes(node)))

    def any_checks(nodes: list[ast.stmt]) -> bool:
        return any(map(checks, nodes))

    for test in all_tests(tree):
        nodes = (node for step in test.body for node in ast.walk(step))
        if not any_checks(test.body) and any(is_check(node, known.checking) for node in nodes):
            yield test


def leaves_before_any_check(tree: ast.Module, known: Known) -> Iterator[ast.AST]:
    """``if ...: return`` with nothing checked: for that case nothing is. A skip would show."""

    def checks(step: ast.stmt) -> bool:
        return any(is_check(node, known.checking) for node in ast.walk(step))

    for test in all_tests(tree):
        for step in test.body:
            if checks(step):
                break
            if isinstance(step, ast.If) and any(isinstance(n, ast.Return) for n in own_nodes(step)):
                yield step


def asserts_what_is_always_true(tree: ast.Module, known: Known) -> Iterator[ast.AST]:
    """``assert refused(...)`` where ``refused`` raises by itself, also through a variable."""
    for function in (node for node in ast.walk(tree) if isinstance(node, Function)):
        stored = [
            node.id
            for node in own_nodes(function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
        sources = {
            last_name(node.targets[0]): called(node.value)
            for node in own_nodes(function)
            if isinstance(node, ast.Assign) and stored.count(last_name(node.targets[0])) == 1
        }
        for node in own_nodes(function):
            if isinstance(node, ast.Assert):
                variable = node.test.id if isinstance(node.test, ast.Name) else ""
                if {called(node.test), sources.get(variable, "")} & known.always_true:
                    yield node


def asserts_a_constant(tree: ast.Module, _: Known) -> Iterator[ast.AST]:
    """Also as an operand of ``or``."""

    def constant(node: ast.AST) -> bool:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            return any(map(constant, node.values))
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return bool(node.elts)
        return isinstance(
            node, ast.Constant | ast.Dict | ast.Lambda | ast.GeneratorExp | ast.JoinedStr
        )

    return (node for node in asserts(tree) if constant(node.test))


def compares_with_itself(tree: ast.Module, _: Known) -> Iterator[ast.AST]:
    """Two calls are two: they show that a result is stable."""
    for node in asserts(tree):
        for each in ast.walk(node):
            if not isinstance(each, ast.Compare) or any(called(n) for n in ast.walk(each)):
                continue
            sides = [ast.dump(side) for side in (each.left, *each.comparators)]
            if len(set(sides)) < len(sides):
                yield node


def compares_a_size_with_less_than_any(tree: ast.Module, _: Known) -> Iterator[ast.AST]:
    for node in asserts(tree):
        text = ast.unparse(node.test)
        if re.fullmatch(r"len\([^()]*\) (>= 0|> -1)|0 <= len\([^()]*\)", text):
            yield node


def expects_any_error(tree: ast.Module, _: Known) -> Iterator[ast.AST]:
    """``pytest.raises`` with a class that everything has, or a pattern that everything fits."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or called(node) not in {"raises", "warns"}:
            continue
        match = [key.value for key in node.keywords if key.arg == "match"]
        if node.args and last_name(node.args[0]) in EVERYTHING and not match:
            yield node
        for pattern in match:
            if isinstance(pattern, ast.Constant) and re.search(str(pattern.value), "\N{SNOWMAN}"):
                yield node


def swallows_its_failure(tree: ast.Module, known: Known) -> Iterator[ast.AST]:
    """A failed assertion is an exception like others: whoever catches all catches it as well."""

    def wide(kind: ast.AST | None) -> bool:
        return kind is None or any(last_name(each) in EVERYTHING for each in ast.walk(kind))

    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            caught = any(
                wide(handler.type) and not any(isinstance(n, ast.Raise) for n in ast.walk(handler))
                for handler in node.handlers
            )
        elif isinstance(node, ast.With):
            caught = any(
                called(item.context_expr) == "suppress" and wide(item.context_expr)
                for item in node.items
            )
        else:
            continue
        if caught and any(
            is_check(n, known.checking) for stmt in node.body for n in ast.walk(stmt)
        ):
            yield node


def is_never_reached(tree: ast.Module, _: Known) -> Iterator[ast.AST]:
    """Behind a return, or behind what raises in a ``with pytest.raises``."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                for before, after in itertools.pairwise(block):
                    if isinstance(before, LEAVING):
                        yield after
        if isinstance(node, ast.With) and any(
            called(i.context_expr) == "raises" for i in node.items
        ):
            yield from (each for each in node.body[1:] if isinstance(each, ast.Assert))


def is_never_collected(tree: ast.Module, _: Known) -> Iterator[ast.AST]:
    """A test within a function is nobody's."""
    for function in (node for node in ast.walk(tree) if isinstance(node, Function)):
        for node in ast.walk(function):
            if (
                node is not function
                and isinstance(node, Function)
                and node.name.startswith("test_")
            ):
                yield node


RULES: tuple[Rule, ...] = (
    nothing_is_checked,
    checked_under_a_condition_only,
    leaves_before_any_check,
    asserts_what_is_always_true,
    asserts_a_constant,
    compares_with_itself,
    compares_a_size_with_less_than_any,
    expects_any_error,
    swallows_its_failure,
    is_never_reached,
    is_never_collected,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_test_breaks_the_rule(rule: Rule) -> None:
    assert len(parsed("tests")) > 150
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in parsed("tests").items()
        for node in rule(tree, known_of(tree))
    ]
    assert found == []


def test_tests_stand_where_pytest_looks() -> None:
    elsewhere = [
        str(path)
        for path, tree in parsed("tests").items()
        if not path.name.startswith("test_") and any(all_tests(tree))
    ]
    assert elsewhere == []


HELPERS = """
class Claims: pass
def verify() -> Claims: return Claims()
def refused(call) -> str:
    with pytest.raises(ValueError) as caught: call()
    return str(caught.value)
def codes() -> list[str]: return []
"""
# For each rule: what it must find, and its neighbor that can fail.
EXAMPLES = {
    nothing_is_checked: [
        ("def test_it(): codes()", "def test_it(): refused(codes)"),
        ("def test_it(): run(['x'], check=False)", "def test_it(): run(['x'], check=True)"),
    ],
    checked_under_a_condition_only: [
        ("def test_it():\n if a: assert b", "def test_it():\n if a: assert b\n else: assert c"),
        (
            "def test_it():\n for a in b:\n  if a: assert b",
            "def test_it():\n if a: assert b\n refused(c)",
        ),
    ],
    leaves_before_any_check: [
        (
            "def test_it():\n if a: return\n assert b",
            "def test_it():\n if a:\n  assert c\n  return\n assert b",
        ),
    ],
    asserts_what_is_always_true: [
        ("def test_it(): assert refused(a)", "def test_it(): assert refused(a) == 'b'"),
        ("def test_it(): assert verify()", "def test_it(): assert codes()"),
        ("def test_it():\n a = refused(b)\n assert a", "def test_it():\n a = codes()\n assert a"),
    ],
    asserts_a_constant: [
        ("assert a or 'b'", "assert a or b"),
        ("assert (a, 'b')", "assert a, 'b'"),
        ("assert (a for a in b)", "assert [a for a in b]"),
    ],
    compares_with_itself: [("assert a.b == a.b", "assert a.b() == a.b()")],
    compares_a_size_with_less_than_any: [("assert len(a) >= 0", "assert len(a) >= 1")],
    expects_any_error: [
        ("pytest.raises(Exception)", "pytest.raises(ValueError)"),
        ("pytest.raises(ValueError, match='.')", "pytest.raises(ValueError, match='a.')"),
    ],
    swallows_its_failure: [
        ("try: assert a\nexcept Exception: pass", "try: assert a\nexcept ValueError: pass"),
        ("with suppress(Exception): assert a", "with suppress(ValueError): assert a"),
    ],
    is_never_reached: [
        ("def f():\n return a\n assert b", "def f():\n assert b\n return a"),
        (
            "with pytest.raises(ValueError):\n f()\n assert a",
            "with pytest.raises(ValueError):\n f()\nassert a",
        ),
    ],
    is_never_collected: [
        ("def f():\n def test_it(): assert a", "class A:\n def test_it(): assert a")
    ],
}


def test_every_rule_has_examples() -> None:
    assert set(EXAMPLES) == set(RULES)


@pytest.mark.parametrize(
    ("rule", "wrong", "right"),
    [(rule, *pair) for rule, pairs in EXAMPLES.items() for pair in pairs],
    ids=lambda value: getattr(value, "__name__", " "),
)
def test_a_rule_finds_its_example_and_not_the_neighbor(rule: Rule, wrong: str, right: str) -> None:
    known = Library({"helpers": ast.parse(HELPERS)}, {})
    trees = ast.parse(wrong), ast.parse(right)
    assert [len(list(rule(tree, known.of(tree)))) for tree in trees] == [1, 0]
