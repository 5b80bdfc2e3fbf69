"""How much code one release runs through: python scripts/trace_release.py [--spine] [--json].

Somebody who reviews the release path must open every file that a release goes through. This
script traces one healthy SEV-SNP release and counts what there is to read. The broker is the one
of the broker's tests: its real service, databases, log and development key store in a temporary
folder, a simulated platform, and a clock of the test's own.

What is traced: the first ``Broker.release`` of a new broker, from the raw body of the request to
the response. Setup, the challenge, the evidence's making and HTTP are not in it. The first release
finds empty caches, so that everything that a cache saves later on (certificate parsing, signature
checks, ``pki``) is counted. Every thread that starts meanwhile is traced too.

What is counted, of the product's own source only (the simulators and the demo are not):

files      that hold at least one function that was called.
functions  that were called, distinct by file and qualified name. Lambdas and comprehensions have
           a qualified name of their own; ``named`` leaves them out. Python 3.12 and later inline
           most comprehensions, which lowers ``functions`` and no other figure, so compare it within
           one version of Python.
lines      of the named functions, each from its ``def`` to its last line, docstring and blank
           lines included. The lines of a nested function count once. A lambda or a comprehension
           adds none: its lines are those of the function around it. ``of docstrings`` says how
           many of them are docstrings, which a reader may skip and a reviewer may not.
           ``decorators`` counts the lines of decorators, which are not in ``lines``.
changes    of file between one call and the next, of named functions. A generator that goes on
           counts as called again, as the reader returns to it. Calls of lambdas and
           comprehensions are left out: they run inside a function that is being read already.

Methods that are generated, such as a dataclass's ``__init__``, have no source and do not count,
nor does code that runs at import.

The spine is the part that decides, see SPINE. ``--spine`` prints the same figures for it alone;
changes of file are then those between one call into the spine and the next.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import os
import sys
import tempfile
import threading
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regalia

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

# The part of the path that decides about a release, in its order. Patterns of files, relative to
# the package; "*" matches across folders too. Each must match a file that the release runs
# through, so that this list cannot fall behind when files move.
SPINE = {
    "service": "broker/service.py",
    "appraise": "broker/appraise.py",
    "verifier": "verifier/verifier.py",
    "composite": "verifier/composite.py",
    "the TEE's verify": "tees/snp/evidence/verify.py",
    "the TEE's rules": "tees/snp/policy/rules.py",
    "evaluate": "policy/evaluate.py",
}

PACKAGE = Path(regalia.__file__).parent
HARNESS = Path(__file__).parents[1] / "tests" / "broker" / "harness.py"


# -- tracing a release ----------------------------------------------------------------------------


@contextmanager
def recorded_calls() -> Iterator[list[CodeType]]:
    """The code of every Python function that is called meanwhile, in order."""
    calls: list[CodeType] = []

    def record(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls.append(frame.f_code)

    threading.setprofile(record)  # for threads that start from now on
    sys.setprofile(record)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def traced_release(folder: Path) -> list[CodeType]:
    """Every call of one release.

    Args:
        folder: an empty folder for the broker's databases, log and keys.

    Raises:
        RegaliaError: the release was refused; there is nothing to measure then.
    """
    sys.path.insert(0, str(HARNESS.parent))
    harness = importlib.import_module(HARNESS.stem)
    deployment = harness.Deployment(folder, harness.Shared(folder))
    ask = harness.canonical_json({"model_id": str(deployment.model_id)})
    body = harness.canonical_json(deployment.request(deployment.broker.challenge(ask)))
    with recorded_calls() as calls:
        deployment.broker.release(body, "127.0.0.1")
    deployment.close()
    return calls


# -- from calls to source -------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """A function of the product that was called.

    Attributes:
        file: relative to the package.
        name: its qualified name.
        first: the line where it begins, with its decorators. The three are 0 for a lambda or a
            comprehension, whose lines belong to the function around it.
        start: the line of its ``def``.
        end: its last line.
    """

    file: str
    name: str
    first: int
    start: int
    end: int

    @property
    def named(self) -> bool:
        """Neither a lambda nor a comprehension."""
        return self.end > 0

    @property
    def lines(self) -> int:
        """From ``def`` to the end."""
        return self.end - self.start + 1 if self.named else 0


@cache
def definitions(file: str) -> dict[tuple[int, str], tuple[int, int]]:
    """Lines of ``def`` and end of each function in a file, by first line and name."""
    found = {}
    for node in ast.walk(ast.parse((PACKAGE / file).read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found[first, node.name] = (node.lineno, node.end_lineno or node.lineno)
    return found


@cache
def docstrings(file: str) -> dict[int, range]:
    """Lines of the docstring of each function in a file, by the line of its ``def``."""
    found = {}
    for node in ast.walk(ast.parse((PACKAGE / file).read_bytes())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = node.body[0]
        if ast.get_docstring(node, clean=False) is not None and text.end_lineno:
            found[node.lineno] = range(text.lineno, text.end_lineno + 1)
    return found


@cache
def product_function(code: CodeType) -> Function | None:
    """The function that this code is of; None if it is not one of the product."""
    path = Path(code.co_filename)
    if not code.co_flags & inspect.CO_OPTIMIZED or not path.is_relative_to(PACKAGE):
        return None  # the body of a module or of a class; or not of this package
    file = path.relative_to(PACKAGE).as_posix()
    if code.co_name.startswith("<"):
        return Function(file, code.co_qualname, 0, 0, 0)
    first = code.co_firstlineno
    return Function(file, code.co_qualname, first, *definitions(file)[first, code.co_name])


def product_calls(calls: list[CodeType]) -> list[Function]:
    """The calls of the product's own functions, in order."""
    return [function for code in calls if (function := product_function(code)) is not None]


def spine_calls(calls: list[Function]) -> list[Function]:
    """The calls of the spine's functions, in order. Exits if a part of it was not called."""
    for part, pattern in SPINE.items():
        if not any(fnmatchcase(call.file, pattern) for call in calls):
            raise SystemExit(f"SPINE: no function of {part} was called: {pattern} has moved?")
    return [call for call in calls if any(fnmatchcase(call.file, it) for it in SPINE.values())]


# -- counting -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """One file that the release runs through, its functions in the order of their first calls."""

    name: str
    functions: list[Function]

    @property
    def named(self) -> list[Function]:
        """Its functions but for lambdas and comprehensions."""
        return [function for function in self.functions if function.named]

    @property
    def lines(self) -> int:
        """Lines of its named functions; those of nested ones once."""
        spans = [range(function.start, function.end + 1) for function in self.named]
        return len({line for span in spans for line in span})

    @property
    def told(self) -> int:
        """Those of the lines that are docstrings of the functions."""
        texts = docstrings(self.name)
        spans = [texts[function.start] for function in self.named if function.start in texts]
        return len({line for span in spans for line in span})

    @property
    def decorators(self) -> int:
        """Lines of decorators of its named functions."""
        return sum(function.start - function.first for function in self.named)

    @property
    def all_lines(self) -> int:
        """Lines of the whole file."""
        return len((PACKAGE / self.name).read_bytes().splitlines())

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "file": self.name,
            "functions": [{"name": each.name, "lines": each.lines} for each in self.functions],
            "lines": self.lines,
            "lines_of_file": self.all_lines,
        }


@dataclass(frozen=True)
class Walk:
    """What a reader does who follows some calls, in order."""

    calls: list[Function]

    def files(self) -> list[File]:
        """In the order of their first calls."""
        files: dict[str, dict[Function, None]] = {}
        for call in self.calls:
            files.setdefault(call.file, {})[call] = None
        return [File(name, list(functions)) for name, functions in files.items()]

    def stretches(self) -> list[tuple[str, list[str]]]:
        """Consecutive calls in one file: the file, and what is called there, each name once."""
        named = (call for call in self.calls if call.named)
        return [
            (file, list(dict.fromkeys(call.name for call in calls)))
            for file, calls in groupby(named, key=lambda call: call.file)
        ]

    def totals(self) -> dict[str, int]:
        """The figures, by their names in this script's docstring."""
        files = self.files()
        return {
            "files": len(files),
            "functions": sum(len(file.functions) for file in files),
            "named": sum(len(file.named) for file in files),
            "lines": sum(file.lines for file in files),
            "of_docstrings": sum(file.told for file in files),
            "decorators": sum(file.decorators for file in files),
            "lines_of_files": sum(file.all_lines for file in files),
            "changes": max(len(self.stretches()) - 1, 0),
        }

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "totals": self.totals(),
            "files": [file.as_dict() for file in self.files()],
            "walk": [{"file": file, "functions": names} for file, names in self.stretches()],
        }


# -- printing -------------------------------------------------------------------------------------


def show(walk: Walk) -> None:
    """The files with their functions, then the walk."""
    print(f"{'file, functions':60} {'functions':>9} {'lines':>6} {'of file':>8}")
    for file in walk.files():
        print(f"{file.name:60} {len(file.functions):9} {file.lines:6} {file.all_lines:8}")
        for function in file.functions:
            print(f"    {function.name:66} {function.lines or '-':>6}")
    print("\nThe walk, a line for each change of file:")
    for number, (name, functions) in enumerate(walk.stretches()):
        print(f"{number:4} {name}: {', '.join(functions)}")


def show_totals(walks: dict[str, Walk]) -> None:
    """A row for each walk."""
    rows = {name: walk.totals() for name, walk in walks.items()}
    headings = next(iter(rows.values()))
    print(f"\n{'':8}" + "".join(f"{name.replace('_', ' '):>15}" for name in headings))
    for name, totals in rows.items():
        print(f"{name:8}" + "".join(f"{number:15,}" for number in totals.values()))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--spine", action="store_true", help="only the part that decides")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as null,
        redirect_stderr(null),  # the broker's events
    ):
        calls = product_calls(traced_release(Path(folder)))
    walks = {"release": Walk(calls), "spine": Walk(spine_calls(calls))}
    if options.spine:
        del walks["release"]
    if options.json:
        print(json.dumps({name: walk.as_dict() for name, walk in walks.items()}, indent=2))
        return
    show(next(iter(walks.values())))
    show_totals(walks)


if __name__ == "__main__":
    main()
