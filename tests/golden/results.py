"""What ``attest verify --json`` says, without what it says twice."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.golden.text import LONG, flat, joined, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.golden.product import Json


_BASELINE = re.compile("(regalia:baseline/v1:[0-9a-f]{8})[0-9a-f]{56}")
_SHORT_LIST = 8  # entries that are shown where they stand


@dataclass
class Tables:
    """What checks and codes mean, each said once for all results.

    Attributes:
        checks: title, meaning and source by name.
        codes: why a refusal matters and what would fix it, as it was said first.
        lists: lists of open rules by name: those of the baseline are long, and all alike.
    """

    checks: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)

    def text(self, limit: int = LONG) -> str:
        """The tables as a file.

        Args:
            limit: characters of an entry; a longer one is shown as a digest.
        """
        lines = ["== checks"]
        for name, said in sorted(self.checks.items()):
            lines += [f"{name} | {shorten(' | '.join(each), limit)}" for each in sorted(said)]
        lines += ["", "== codes"]
        for code, words in sorted(self.codes.items()):
            lines.append(f"{code} | {shorten(' | '.join(words), limit)}")
        for title, paths in self.lists.items():
            lines += ["", f"== {title}", *paths]
        return joined(lines)

    def named(self, paths: list[str]) -> str:
        """The name of a list of open rules; a new one gets the next number."""
        for name, known in self.lists.items():
            if known == paths:
                return name
        if len(paths) < _SHORT_LIST:
            return json.dumps(paths)
        name = f"open rules, list {len(self.lists) + 1}"
        self.lists[name] = paths
        return name

    def refusal(self, found: Json) -> str:
        """One line for a code and what it is about; why and fix if the table says otherwise."""
        code, what = found["code"], shorten(found["what"])
        said = (found["why"], found["fix"])
        known = self.codes.setdefault(code, said)
        return f"{code}: {what}{'' if known == said else f' | {said[0]} | {said[1]}'}"


def result_lines(body: Json, tables: Tables) -> Iterator[str]:
    """All of a result. Whatever is left out here is said elsewhere in the result or the tables.

    Of the baseline's id, which is in every result several times, the first digits are shown.
    """
    return (_BASELINE.sub(r"\1", line) for line in _result_lines(body, tables))


def _result_lines(body: Json, tables: Tables) -> Iterator[str]:
    rest = dict(body)
    for name in ("error", "refusal"):
        if rest.get(name):
            yield f"{name} {tables.refusal(rest.pop(name))}"
    if "checks" not in rest:  # an error: nothing was appraised
        yield from flat(rest)
        return
    checks, findings = rest.pop("checks"), rest.pop("findings")
    warnings, wildcards, ear = rest.pop("warnings"), rest.pop("wildcards"), rest.pop("ear")
    yield from flat(rest)
    yield f"wildcards = {tables.named(wildcards)}"
    for each in checks:
        yield _check(dict(each), tables)
    yield from (f"finding {tables.refusal(each)}" for each in findings)
    yield from (f"warning {tables.refusal(each)}" for each in warnings)
    codes = [each["code"] for each in findings]
    warned = [each["code"] for each in warnings]
    yield from _ear(ear, checks, codes or body["codes"], warned, wildcards)


def _check(check: Json, tables: Tables) -> str:
    name, outcome = check.pop("name"), check.pop("outcome")
    meaning = (check.pop("title"), check.pop("meaning"), check.pop("source"))
    tables.checks.setdefault(name, set()).add(meaning)
    seen, wanted, code = check.pop("seen"), check.pop("wanted"), check.pop("code")
    device = check.pop("device", None)  # its identity is in the submods too
    if check.pop("passed") is not (outcome == "pass") or check:
        raise ValueError(f"{name}: {outcome} and passed do not fit, or members are new")
    line = f"{outcome} {name}{f' {code}' if code else ''}"
    if device is not None:
        line += f" [device {device['index']}]"
    if seen or wanted:
        line += f": {shorten(seen)}"
    return line + (f" | wanted {shorten(wanted)}" if wanted else "")


def _ear(
    ear: Json, checks: list[Json], codes: list[str], warnings: list[str], wildcards: list[str]
) -> Iterator[str]:
    """Parts that repeat the result are compared with it, not printed."""
    rest = dict(ear)
    submods = rest.pop("submods")
    yield from flat(rest, "ear")
    short = [
        {name: value for name, value in each.items() if name not in {"title", "meaning", "device"}}
        for each in checks
    ]
    warned = list(dict.fromkeys(warnings))
    said = {"checks": short, "findings": codes, "warnings": warned, "wildcards": wildcards}
    for name, body in submods.items():
        claims = {
            key: value
            for key, value in body["ear_verifier_claims"].items()
            if said.get(key) != value
        }
        same = [key for key in body["ear_verifier_claims"] if key not in claims]
        lines = submod_lines({**body, "ear_verifier_claims": claims})
        yield f"ear.{name}: {same} as in the result"
        yield from (f"ear.{name}.{line}" for line in lines)


def submod_lines(body: Json) -> Iterator[str]:
    """One part of an attestation result, a line for each claim."""
    rest = dict(body)
    vector, claims = rest.pop("ear_trustworthiness_vector"), rest.pop("ear_attester_claims")
    shown = {name: value for name, value in vector.items() if value}
    yield f"vector of {len(vector)} claims = {json.dumps(shown)}"
    yield from flat(rest)
    for name, claim in claims.items():
        yield from _claim(name, claim)


def _claim(name: str, claim: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(claim, dict) and set(claim) == {"source", "value"}:
        for line in flat(claim["value"], name):
            yield f"claim {line} ({claim['source']})"
    else:
        yield from flat(claim, f"claim {name}")
