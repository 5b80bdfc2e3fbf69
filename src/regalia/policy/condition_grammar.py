"""Conditions are a small, typed part of CEL. Spec: docs/spec/policy.md, "Conditions".

Every accepted text is a CEL expression and means what CEL says; the CEL library evaluates it.
The part is small and checked beforehand so that three things hold which CEL alone does not give:

* A name that does not exist, or a comparison of two types, is refused. CEL lets
  ``unknown || true`` be true, and ``claims.vmpl != '0'`` as well.
* Evaluation ends soon: one loop at most, over one list, and one regular expression at most.
  Six nested loops over ten elements already take ten seconds.
* The text means to this reader what it means to the CEL parser: no escapes, no raw or
  triple-quoted texts, no comments, no white space but the space.

    or      = and *("||" and)
    and     = rel *("&&" rel)
    rel     = unary [("==" / "!=" / "<" / "<=" / ">" / ">=" / "in") unary]
    unary   = "!" unary / member
    member  = primary *("." method "(" args ")")
    primary = "true" / "false" / number / text / field / variable
            / "timestamp" "(" text ")" / "(" or ")" / "[" or *("," or) "]"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.errors import ParseError
from regalia.policy.documents import EXPRESSION_MAX

if TYPE_CHECKING:
    from regalia.appraisal.condition_types import Fields, Kind

TOKENS_MAX = 256
DEPTH_MAX = 12  # parentheses, brackets, calls and negations inside one another
LOOPS_MAX = 1
PATTERNS_MAX = 1
PATTERN_LENGTH_MAX = 128  # characters
NUMBER_MAX = 2**63 - 1  # CEL int

LOOPS = ("all", "exists")
TEXT_METHODS = ("startsWith", "endsWith", "contains", "matches")

_VARIABLE = re.compile("[a-z]")
_ORDERED: tuple[Kind, ...] = ("int", "time")
_TOKEN = re.compile(
    r" *(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>0|[1-9][0-9]{0,18})(?![0-9A-Za-z_.])"
    r"|(?P<text>'[ -!#-&(-\[\]-~]*'|\"[ -!#-&(-\[\]-~]*\")(?!['\"])"
    r"|(?P<mark>==|!=|<=|>=|&&|\|\||[<>!.,()\[\]]))"
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # name, number, text, mark, end
    text: str
    at: int  # offset, for messages


def check_condition(source: str, fields: Fields) -> tuple[str, ...]:
    """Return if the expression can be decided for every case.

    Args:
        source: the expression, untrusted.
        fields: that it may speak of, with their types.

    Returns:
        The regular expressions in it, quoted as they stand. Whether they are well-formed only
        the CEL library can tell.

    Raises:
        ParseError: CONDITION_ERROR, with the place and what is wrong.
    """
    reader = _Reader(_tokens(source), fields)
    reader.whole()
    return tuple(reader.patterns)


def tokens_of(source: str) -> list[str]:
    """The words of an expression that ``check_condition`` accepts. Raises ParseError."""
    return [token.text for token in _tokens(source) if token.kind != "end"]


def _refuse(at: int, why: str) -> NoReturn:
    raise ParseError(PolicyCode.CONDITION_ERROR, f"at character {at + 1}: {why}")


def _tokens(source: str) -> tuple[_Token, ...]:
    if not 0 < len(source) <= EXPRESSION_MAX:
        _refuse(0, f"want 1 to {EXPRESSION_MAX} characters, got {len(source)}")
    tokens: list[_Token] = []
    at = 0
    end = len(source.rstrip(" "))
    while at < end:
        match = _TOKEN.match(source, at)
        if match is None or match.lastgroup is None:
            _refuse(at, f"{source[at : at + 12]!a} is not part of the condition language")
        kind = match.lastgroup
        if kind == "text" and match.start(kind) and source[match.start(kind) - 1].isalnum():
            _refuse(match.start(kind), "a text must not touch a word; raw texts are not accepted")
        tokens.append(_Token(kind, match[kind], match.start(kind)))
        at = match.end()
    if len(tokens) > TOKENS_MAX:
        _refuse(tokens[TOKENS_MAX].at, f"more than {TOKENS_MAX} tokens")
    return (*tokens, _Token("end", "", end))


def _is_time(text: str) -> bool:
    try:
        return rfc3339(parse_rfc3339(text)) == text
    except ValueError:
        return False


class _Reader:
    """Recursive descent; each method reads one part and returns its kind."""

    def __init__(self, tokens: tuple[_Token, ...], fields: Fields) -> None:
        self._tokens = tokens
        self._next = 0
        self._fields = fields
        self._variables: dict[str, Kind] = {}
        self._depth = 0
        self._loops = 0
        self.patterns: list[str] = []

    def whole(self) -> None:
        kind = self._or()
        if self._peek.kind != "end":
            _refuse(self._peek.at, f"{self._peek.text!r} does not fit here")
        self._want(kind, "bool", 0)

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek
        if token.kind != "end":
            self._next += 1
        return token

    def _mark(self, *texts: str) -> _Token | None:
        token = self._peek
        return self._take() if token.kind == "mark" and token.text in texts else None

    def _expect(self, text: str) -> _Token:
        token = self._take()
        if token.kind != "mark" or token.text != text:
            _refuse(token.at, f"want {text!r}, got {token.text or 'the end'!r}")
        return token

    def _want(self, have: Kind, want: Kind, at: int) -> None:
        if have != want:
            _refuse(at, f"want {want}, got {have}")

    def _enter(self, at: int) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            _refuse(at, f"nested more than {DEPTH_MAX} deep")

    def _or(self) -> Kind:
        return self._chain("||")

    def _chain(self, operator: str) -> Kind:
        at = self._peek.at
        kind = self._chain("&&") if operator == "||" else self._relation()
        while self._mark(operator) is not None:
            self._want(kind, "bool", at)
            at = self._peek.at
            kind = self._chain("&&") if operator == "||" else self._relation()
            self._want(kind, "bool", at)
        return kind

    def _relation(self) -> Kind:
        left = self._unary()
        token = self._peek
        if token.kind == "name" and token.text == "in":
            self._take()
            right = self._unary()
            if right != f"list of {left}":
                _refuse(token.at, f"{left} cannot be in {right}")
            return "bool"
        if self._mark("==", "!=", "<", "<=", ">", ">=") is None:
            return left
        right = self._unary()
        if left != right:
            _refuse(token.at, f"{left} and {right} cannot be compared")
        if token.text not in ("==", "!=") and left not in _ORDERED:
            _refuse(token.at, f"{left} has no order")
        return "bool"

    def _unary(self) -> Kind:
        token = self._mark("!")
        if token is None:
            return self._member()
        self._enter(token.at)
        self._want(self._unary(), "bool", token.at)
        self._depth -= 1
        return "bool"

    def _member(self) -> Kind:
        kind = self._primary()
        while self._mark(".") is not None:
            kind = self._method(kind)
        return kind

    def _method(self, receiver: Kind) -> Kind:
        name = self._take()
        self._enter(self._expect("(").at)
        kind: Kind = "bool"
        if receiver == "text" and name.text in TEXT_METHODS:
            self._text_argument(name)
        elif receiver.startswith("list of ") and name.text in LOOPS:
            self._loop(name, "int" if receiver == "list of int" else "text")
        elif receiver.startswith("list of ") and name.text == "size":
            kind = "int"
        else:
            _refuse(name.at, f"{receiver} has no method {name.text!r}")
        self._expect(")")
        self._depth -= 1
        return kind

    def _text_argument(self, method: _Token) -> None:
        token = self._peek
        self._want(self._or(), "text", token.at)
        if method.text != "matches":
            return
        self.patterns.append(token.text)
        if len(self.patterns) > PATTERNS_MAX or self._loops:
            _refuse(method.at, f"at most {PATTERNS_MAX} matches() in a condition, and no loop")
        if token.kind != "text" or len(token.text) > PATTERN_LENGTH_MAX + 2:
            _refuse(token.at, f"want a quoted pattern of at most {PATTERN_LENGTH_MAX} characters")
        if "{" in token.text:  # a few characters could ask for an automaton of megabytes
            _refuse(token.at, "a pattern counts nothing in braces")

    def _loop(self, method: _Token, element: Kind) -> None:
        self._loops += 1
        if self._loops > LOOPS_MAX or self.patterns:
            _refuse(method.at, f"at most {LOOPS_MAX} all() or exists() in a condition")
        variable = self._take()
        if variable.kind != "name" or not _VARIABLE.fullmatch(variable.text):
            _refuse(variable.at, "want one lower-case letter as the element's name")
        self._expect(",")
        self._variables = {variable.text: element}
        at = self._peek.at
        self._want(self._or(), "bool", at)
        self._variables = {}

    def _primary(self) -> Kind:
        token = self._take()
        if token.kind == "number":
            if int(token.text) > NUMBER_MAX:
                _refuse(token.at, f"numbers end at {NUMBER_MAX}")
            return "int"
        if token.kind == "text":
            return "text"
        if token.kind == "name":
            return self._name(token)
        if token.kind == "mark" and token.text in ("(", "["):
            self._enter(token.at)
            kind = self._or() if token.text == "(" else self._list()
            self._expect(")" if token.text == "(" else "]")
            self._depth -= 1
            return kind
        _refuse(token.at, f"{token.text or 'the end'!r} does not fit here")

    def _list(self) -> Kind:
        at = self._peek.at
        first = self._or()
        if first not in ("int", "text"):
            _refuse(at, "lists hold numbers or texts")
        while self._mark(",") is not None:
            at = self._peek.at
            self._want(self._or(), first, at)
        return "list of int" if first == "int" else "list of text"

    def _name(self, token: _Token) -> Kind:
        if token.text in ("true", "false"):
            return "bool"
        if token.text in self._variables:
            return self._variables[token.text]
        if token.text == "timestamp":
            return self._timestamp()
        return self._field(token)

    def _timestamp(self) -> Kind:
        self._expect("(")
        token = self._take()
        if token.kind != "text" or not _is_time(token.text[1:-1]):
            _refuse(token.at, "want a time such as '2027-01-31T00:00:00Z'")
        self._expect(")")
        return "time"

    def _field(self, token: _Token) -> Kind:
        path = token.text
        value = self._fields.get(token.text)
        while isinstance(value, Mapping):
            if self._mark(".") is None:
                _refuse(token.at, f"{path} is a group of fields, not a field")
            member = self._take()
            if member.kind != "name":
                _refuse(member.at, f"want a field of {path}")
            path = f"{path}.{member.text}"
            value = value.get(member.text)
        if value is None:
            _refuse(token.at, f"there is no field {path}")
        return value
