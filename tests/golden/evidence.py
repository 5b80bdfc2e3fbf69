"""What the commands make of one file of evidence: appraised, inspected, pinned, explained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.golden.product import strict_document
from tests.golden.results import result_lines
from tests.golden.text import command, flat, section, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.golden.product import Json
    from tests.golden.results import Tables
    from tests.golden.text import Answer, Seen

AFFIRMED, WARNED = 0, 11
INSPECT_LIMIT = 130  # characters of a value: 64 bytes in hex, so that no signature is shown
INSPECT_MOST = 6 * 1024  # characters of a part; of longer ones the first lines and a digest
INSPECT_FEW = 24  # lines
STRICT = "strict.json"
DRAFT = "draft.json"
PINNED = "pinned.json"
OTHER_CHALLENGE = 0x07


@dataclass(frozen=True)
class Case:
    """One file of evidence and what is given with it.

    Attributes:
        evidence: path below the current folder, like all paths here.
        trust: options that name endorsements, collateral and anchors.
        now: the moment of the appraisal, RFC 3339.
        challenge: what the evidence is bound to, hex; empty if an open check is to tell it.
        machine: hex id of the machine if it is named as one's own.
        revocation: word for collateral.
    """

    evidence: str
    trust: tuple[str, ...]
    now: str
    challenge: str = ""
    machine: str = ""
    revocation: str = "any"

    def verify(self, *more: str, challenge: str = "any", policy: str = "") -> Answer:
        """``attest verify``, under the baseline or under a policy."""
        words = ["attest", "verify", self.evidence, "--challenge", challenge, "--now", self.now]
        words += ["--policy", policy or "baseline"]
        if not policy:
            words += ["--revocation", self.revocation]
            words += ["--machine", self.machine] if self.machine else []
        return command(*words, *self.trust, *more)

    def pin(self, *more: str) -> Answer:
        """``policy pin --platform-only``."""
        Path(PINNED).unlink(missing_ok=True)
        words = ["policy", "pin", "--platform-only", "--evidence", self.evidence, "--out", PINNED]
        words += ["--challenge", "any", "--now", self.now, "--revocation", self.revocation]
        words += ["--pin-chip"] if self.machine else []
        return command(*words, *self.trust, *more)


def write_strict() -> None:
    """A policy that no machine meets, so that every rule says what it sees."""
    Path(STRICT).write_bytes(strict_document())


def appraised(case: Case, tables: Tables, seen: Seen) -> Iterator[str]:
    """Everything but ``inspect``: verified, with and without freshness; judged; pinned."""
    answer = case.verify("--json")
    yield from section("baseline, no challenge", seen.new(_result(answer, tables)))
    if answer.status not in (AFFIRMED, WARNED):
        yield from section("policy pin", _result(case.pin("--json"), tables))
        return
    yield from _challenged(case, answer.body, tables)
    strict = case.verify("--json", policy=STRICT)
    yield from section("strict policy", seen.new(_strict_lines(strict)))
    yield from _pinned(case, tables, seen)


def _result(answer: Answer, tables: Tables) -> Iterator[str]:
    yield f"exit {answer.status}"
    yield from answer.err.splitlines()
    yield from result_lines(answer.body, tables)


def _strict_lines(answer: Answer) -> Iterator[str]:
    yield f"exit {answer.status} {answer.body['codes']}"
    for each in answer.body["findings"]:
        yield f"{each['code']}: {shorten(each['what'])}"


def _challenged(case: Case, before: Json, tables: Tables) -> Iterator[str]:
    """With the right challenge and with another one of its size."""
    bound = case.challenge or _bound_to(before)
    other = bytes([OTHER_CHALLENGE]) * (len(bound) // 2 or 1)
    for title, challenge in (("other challenge", other.hex()), ("right challenge", bound)):
        answer = case.verify("--json", challenge=challenge)
        lines = list(_result(answer, tables))
        known = set(result_lines(before, tables))
        new = [line for line in lines if line not in known]
        yield from section(f"baseline, {title}: lines that are new", new)


def _bound_to(body: Json) -> str:
    """What the evidence is bound to, as the check saw it that no challenge was given for."""
    seen = [each["seen"] for each in body.get("checks", ()) if each["name"] == "any/freshness"]
    return seen[-1] if seen else ""


def _pinned(case: Case, tables: Tables, seen: Seen) -> Iterator[str]:
    """The section that is pinned, in sentences, and the evidence under it."""
    answer = case.pin("--json")
    yield from section("policy pin", _result(answer, tables))
    if answer.status != AFFIRMED:
        return
    data = Path(PINNED).read_bytes()
    yield from section("pinned", seen.new(flat(json.loads(data), limit=len(data))))
    draft = json.loads(Path(STRICT).read_bytes()) | {"platform": json.loads(data)}
    Path(DRAFT).write_bytes(json.dumps(draft, sort_keys=True, separators=(",", ":")).encode())
    explained = command("policy", "explain", DRAFT, "--json").body
    rows = [
        f"{each['path']}: {each['says']}{'' if each['risk'] is None else ' RISK ' + each['risk']}"
        for each in explained["statements"]
        if each["path"].startswith("platform.")
    ]
    yield from section("explained", seen.new(rows))
    under = case.verify("--json", policy=DRAFT)
    codes = under.body.get("codes")
    yield from section("under the pinned section", [f"exit {under.status} {codes}"])


def for_people(case: Case, *more: str, challenge: str = "any") -> list[str]:
    """``attest verify`` as people read it."""
    answer = case.verify(*more, challenge=challenge)
    return [f"exit {answer.status}", *answer.out.splitlines(), *answer.err.splitlines()]


def inspected(evidence: str, tables: Tables) -> Iterator[str]:
    """``attest inspect``: every field, without the bytes of signatures."""
    answer = command("attest", "inspect", evidence, "--json")
    body = answer.body
    parts: Json = body.pop("parts", {})
    yield f"exit {answer.status}"
    yield from answer.err.splitlines()
    yield from result_lines(body, tables)
    for name, part in parts.items():
        lines = list(flat(_unsigned(part), name, limit=INSPECT_LIMIT))
        if len("\n".join(lines)) <= INSPECT_MOST:
            yield from lines
            continue
        yield from lines[:INSPECT_FEW]
        text = "\n".join(lines)
        yield f"({len(lines) - INSPECT_FEW} more lines of {name}; all: {shorten(text, 0)})"


def _unsigned(value: object) -> object:
    """The value with digests in place of signatures, without which it is no evidence."""
    if isinstance(value, dict):
        return {
            name: shorten(inner, 0)
            if isinstance(inner, str) and "signature" in name
            else _unsigned(inner)
            for name, inner in value.items()
        }
    return [_unsigned(each) for each in value] if isinstance(value, list) else value
