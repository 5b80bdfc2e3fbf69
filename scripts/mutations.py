"""The mutants of one module: every small change that a test should notice.

A mutant leaves out a check (``if ...: raise``, a call, ``found += ...``, one operand of ``and`` or
``or``, one element of a tuple of checks), turns a comparison, a condition or a boolean around,
moves an integer by one, or returns nothing instead of something. Docstrings, annotations,
decorators, strings and ``__repr__`` stay as they are: they say what is meant, and decide nothing.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import CodeType

T = TypeVar("T")

_EXITS = (ast.Raise, ast.Return, ast.Continue, ast.Break)
_MEMBERSHIP = {"isinstance", "issubclass", "startswith", "endswith"}

# Fields of a node that say what is meant, and decide nothing.
_UNTOUCHED = {"annotation", "returns", "decorator_list", "bases"}

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}

# What a function may return instead, by the name of the type that it declares.
_NOTHING = (
    ("None", "None"),
    ("bool", "True"),
    ("bool", "False"),
    ("bytes", "b''"),
    ("dict", "{}"),
    ("frozenset", "frozenset()"),
    ("int", "0"),
    ("list", "[]"),
    ("set", "set()"),
    ("str", "''"),
    ("tuple", "()"),
)


@dataclass(frozen=True)
class Slot:
    """Where a node hangs in its tree."""

    parent: ast.AST
    field: str
    index: int | None = None

    def put(self, node: ast.AST) -> None:
        """Hang another node there."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


@dataclass(frozen=True)
class Mutant:
    """One change of one module. Module, function, text and change identify it."""

    module: str
    path: Path
    place: str  # file and line, as one writes them
    function: str  # qualified name; empty at the top of the module
    text: str  # the source line
    change: str
    header: range  # lines of its statement; a test that runs none of them cannot notice
    slot: Slot
    node: ast.AST
    tree: ast.Module

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What an explanation names."""
        return self.module, self.function, self.text, self.change

    def __str__(self) -> str:
        return f"{self.place} ({self.function or 'module'}): {self.change}"

    def compiled(self) -> CodeType:
        """The code of the whole module with this change. Call it once: it changes the tree."""
        self.slot.put(self.node)
        code: CodeType = compile(ast.fix_missing_locations(self.tree), str(self.path), "exec")
        return code


@dataclass(frozen=True)
class _Scope:
    function: str = ""
    returns: str = ""
    header: range = range(0)


class Finder:
    """Walks over one module."""

    def __init__(self, module: str, path: Path, root: Path) -> None:
        source = path.read_text(encoding="utf-8")
        self._lines = source.splitlines()
        self._tree = ast.parse(source, str(path))
        self._module = module
        self._path = path
        self._shown = path.relative_to(root)
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def mutants(self) -> list[Mutant]:
        """In the order of the source."""
        return list(self._within(self._tree, _Scope()))

    def _within(self, node: ast.AST, scope: _Scope) -> Iterator[Mutant]:
        for name, value in ast.iter_fields(node):
            if name in _UNTOUCHED or (isinstance(node, ast.ClassDef) and name == "keywords"):
                continue
            if isinstance(value, ast.AST):
                yield from self._visit(value, Slot(node, name), scope)
            elif isinstance(value, list):
                for index, child in enumerate(value):
                    if isinstance(child, ast.AST):
                        yield from self._visit(child, Slot(node, name, index), scope)

    def _visit(self, node: ast.AST, slot: Slot, scope: _Scope) -> Iterator[Mutant]:
        if _is_untouched(node):
            return
        if isinstance(node, ast.stmt):
            scope = replace(scope, header=_header(node))
        for new in _replacements(node, slot, scope.returns):
            yield self._mutant(node, ast.copy_location(new, node), slot, scope)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            declared = getattr(node, "returns", None)
            name = f"{scope.function}.{node.name}".lstrip(".")
            returns = ast.unparse(declared) if declared else ""
            scope = replace(scope, function=name, returns=returns)
        yield from self._within(node, scope)

    def _mutant(self, node: ast.AST, new: ast.AST, slot: Slot, scope: _Scope) -> Mutant:
        line = getattr(node, "lineno", scope.header.start)
        text, change = self._lines[line - 1].strip(), _change(node, new, slot)
        self._seen[scope.function, text, change] += 1
        number = self._seen[scope.function, text, change]
        return Mutant(
            module=self._module,
            path=self._path,
            place=f"{self._shown}:{line}",
            function=scope.function,
            text=text,
            change=change if number == 1 else f"{change} (number {number})",
            header=scope.header,
            slot=slot,
            node=new,
            tree=self._tree,
        )


def _is_untouched(node: ast.AST) -> bool:
    match node:
        case (
            ast.JoinedStr()
            | ast.FunctionDef(name="__repr__")
            | ast.If(test=ast.Name(id="TYPE_CHECKING"))
            | ast.Assign(targets=[ast.Name(id="__all__")])
        ):
            return True
        case _:
            return False


def _header(node: ast.stmt) -> range:
    """Lines of a statement without those of the statements in it."""
    body = getattr(node, "body", None)
    end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
    return range(node.lineno, max(end, node.lineno + 1))


def _change(node: ast.AST, new: ast.AST, slot: Slot) -> str:
    if isinstance(new, ast.Pass | ast.If):
        return f"delete {ast.unparse(node).splitlines()[0]}"
    left = [*_parts(new), new]
    if missing := [part for part in _parts(node) if part not in left]:
        return f"leave out {', '.join(map(ast.unparse, missing))}"
    # A constant says little without what it stands in.
    wide = isinstance(node, ast.Constant) and isinstance(slot.parent, ast.expr | ast.keyword)
    before = ast.unparse(slot.parent if wide else node)
    slot.put(new)
    after = ast.unparse(slot.parent if wide else new)
    slot.put(node)
    return f"{before} → {after}"


def _parts(node: ast.AST) -> Sequence[ast.AST]:
    match node:
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            return parts
        case ast.Set(elts=parts):
            return parts
        case ast.Dict(keys=keys, values=values):
            return [key or value for key, value in zip(keys, values, strict=True)]
        case _:
            return []


def _replacements(node: ast.AST, slot: Slot, returns: str) -> Iterator[ast.AST]:
    if isinstance(node, ast.stmt):
        yield from _of_statement(node, slot, returns)
    elif isinstance(node, ast.expr):
        yield from _of_expression(node, slot)


def _of_statement(node: ast.stmt, slot: Slot, returns: str) -> Iterator[ast.AST]:
    match node:
        case ast.If(orelse=[], body=[*_, last]) if isinstance(last, _EXITS):
            yield ast.Pass()
        case ast.Raise() if not _is_whole_guard(slot.parent):
            yield ast.Pass()
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign():
            yield ast.Pass()
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):  # the function stays a generator
            yield ast.If(ast.Constant(value=False), [node], [])
        case ast.Return(value=ast.expr() as value):
            kinds = {part.partition("[")[0] for part in returns.split(" | ")}
            for kind, text in _NOTHING:
                if kind in kinds and text != ast.unparse(value):
                    yield ast.Return(ast.parse(text, mode="eval").body)


def _of_expression(node: ast.expr, slot: Slot) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=ops):
            for at, op in enumerate(ops):
                other = [*ops[:at], _COMPARISONS[type(op)](), *ops[at + 1 :]]
                yield ast.Compare(node.left, other, node.comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for rest in _without_one(values):
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(value=not value)
        case ast.Constant(value=int() as value):
            yield from (ast.Constant(value=value + 1), ast.Constant(value=value - 1))
        case _:
            yield from _shorter(node, slot)


def _shorter(node: ast.expr, slot: Slot) -> Iterator[ast.AST]:
    """Without one of its elements."""
    match node:
        case ast.Dict(keys=keys, values=values):
            yield from map(ast.Dict, _without_one(keys), _without_one(values))
        case ast.Tuple(elts=[_, _, *_], ctx=ast.Load()) if _is_listing(node, slot):
            yield from (ast.Tuple(rest, ast.Load()) for rest in _without_one(node.elts))
        case ast.List(elts=[_, _, *_], ctx=ast.Load()):
            yield from (ast.List(rest, ast.Load()) for rest in _without_one(node.elts))
        case ast.Set(elts=[_, _, *_]):
            yield from map(ast.Set, _without_one(node.elts))


def _is_whole_guard(node: ast.AST) -> bool:
    """Leaving out the only statement of a guard is leaving out the guard."""
    return isinstance(node, ast.If) and not node.orelse and len(node.body) == 1


def _without_one(items: list[T]) -> Iterator[list[T]]:
    return (items[:at] + items[at + 1 :] for at in range(len(items)))


def _is_listing(node: ast.Tuple, slot: Slot) -> bool:
    """A tuple of alternatives or checks, not one of coordinates, which has a fixed length."""
    match slot.parent:
        case ast.ExceptHandler() | ast.For(iter=_) | ast.comprehension():
            return slot.field in {"type", "iter"}
        case ast.Compare(ops=[ast.In() | ast.NotIn()]):
            return True
        case ast.Assign(targets=[ast.Name()]) | ast.AnnAssign():
            return not all(isinstance(each, ast.Constant) for each in node.elts)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _MEMBERSHIP
        case _:
            return False
