"""Texts that can be compared: JSON in lines, placeholders for what is random, captured commands."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.golden.product import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WIDTH = 150  # characters of a list in one line
_HEX_THAT_COULD_BE_DECIMAL = 40  # digits; of longer hex none ever is without a letter
DIGEST = 16  # hex digits of a digest that only compares
LONG = 420  # characters of a text that is shown in full: two values of 64 bytes and some words
# What may be random: UUIDs, hex digits, and the ids of enclaves.
_TOKEN = re.compile(
    r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|(?<![0-9A-Za-z])[0-9A-Fa-f]{12,}(?![0-9A-Za-z])"
    r"|(?<=-enc)[0-9a-f]{16}(?![0-9A-Za-z])"
)
# Sizes and digests of texts that hold random values of any length.
_SIZE = re.compile(r"\b[0-9]{4,} bytes|\bbyte [0-9]{4,}|<[0-9]+ characters, [0-9a-f]{16}>")


@dataclass(frozen=True)
class Answer:
    """What a command printed."""

    status: int
    out: str
    err: str

    @property
    def body(self) -> Any:  # noqa: ANN401 - JSON
        """Standard output as JSON."""
        return json.loads(self.out)


def command(*words: str) -> Answer:
    """Run a command of the product in this process. Its paths are relative to the folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(list(words))
    return Answer(status, out.getvalue(), err.getvalue())


def flat(value: object, path: str = "", *, limit: int = LONG) -> Iterator[str]:
    """One line for each leaf of a JSON value, in the order of the document."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{path}.{name}" if path else name, limit=limit)
        return
    text = _scalar(value, limit)
    if isinstance(value, list) and (_nested(value) or len(text) > WIDTH):
        for index, inner in enumerate(value):
            yield from flat(inner, f"{path}[{index}]", limit=limit)
        return
    yield f"{path} = {text}"


def _nested(values: list[object]) -> bool:
    return any(isinstance(each, dict | list) for each in values)


def _scalar(value: object, limit: int) -> str:
    if isinstance(value, str):
        return shorten(json.dumps(value), limit)
    if isinstance(value, list):
        return f"[{', '.join(_scalar(each, limit) for each in value)}]"
    return json.dumps(value)


def shorten(text: str, limit: int = LONG) -> str:
    """The text, or if it is long its size and the digest: no golden file holds whole evidence."""
    if len(text) <= limit:
        return text
    return f"<{len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()[:DIGEST]}>"


def document(data: bytes) -> Iterator[str]:
    """A canonical document: its digest, and every leaf in full."""
    yield f"SHA-256 {hashlib.sha256(data).hexdigest()}"
    yield from flat(json.loads(data), limit=len(data))


def section(title: str, lines: Iterable[str]) -> list[str]:
    """Lines below a heading."""
    return [f"== {title}", *lines, ""]


@dataclass
class Seen:
    """Leaves out lines that stand further up already; a digest of all of them stays."""

    lines: set[str] = field(default_factory=set)

    def new(self, lines: Iterable[str]) -> list[str]:
        """Those that are new, and a last line about the others."""
        given = list(lines)
        fresh = [line for line in given if line not in self.lines]
        self.lines.update(given)
        old = len(given) - len(fresh)
        if not old:
            return fresh
        digest = hashlib.sha256("\n".join(given).encode()).hexdigest()[:DIGEST]
        return [*fresh, f"({old} more as above; all: {digest})"]


class Whole(Seen):
    """Leaves nothing out: where lines are random, their digest says nothing."""

    def new(self, lines: Iterable[str]) -> list[str]:
        """All of them."""
        return list(lines)


def joined(lines: Iterable[str]) -> str:
    """A file. Nothing that a command printed may hide in trailing blanks."""
    return "".join(f"{line.rstrip()}\n" for line in lines)


def without_sizes(line: str) -> str:
    """The line without what the length of a signature or certificate changes."""
    return _SIZE.sub("<some size>", line)


def tokens(text: str) -> frozenset[str]:
    """Everything in a text that might be random."""
    return frozenset(_TOKEN.findall(text))


def settled(text: str, known: frozenset[str]) -> str:
    """The text with placeholders for every token that is not known, numbered as they appear."""
    numbers: dict[str, int] = {}

    def replacement(match: re.Match[str]) -> str:
        token = match.group()
        if token in known:
            return token
        number = numbers.setdefault(token, len(numbers) + 1)
        # A device's serial number is decimal; how long it is, is random too.
        decimal = token.isdecimal() and len(token) > _HEX_THAT_COULD_BE_DECIMAL
        return f"<random {number}>" if decimal else f"<{len(token)} random digits, {number}>"

    return _TOKEN.sub(replacement, text)
