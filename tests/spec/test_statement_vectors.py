"""Signed statements: the product agrees with every vector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from vector_files import differing

from regalia.control.findings import ReleaseFacts, findings
from regalia.control.fold import apply, begin
from regalia.control.verify import verify_statement
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import ParseError
from regalia.core.types import Digest
from regalia.wire.statement import parse_log_statement, parse_statement

if TYPE_CHECKING:
    from regalia.control.state import ControlState

FOLDER = Path(__file__).parents[1] / "vectors" / "statements"


def read(name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


DOCUMENTS, CHAIN, RELEASES = (
    read(name) for name in ("documents.json", "chain.json", "releases.json")
)


@pytest.mark.parametrize("name", DOCUMENTS["accepted"])
def test_a_document_that_is_accepted(name: str) -> None:
    row = DOCUMENTS["accepted"][name]
    payload = row["payload"].encode()
    statement = parse_statement(payload)
    assert statement.encode() == payload
    assert str(statement.digest()) == row["digest"]
    assert statement.kind == json.loads(payload)["action"]["kind"]


@pytest.mark.parametrize("name", DOCUMENTS["refused"])
def test_a_document_that_is_refused(name: str) -> None:
    row = DOCUMENTS["refused"][name]
    text = differing(DOCUMENTS["accepted"][row["of"]]["payload"], row)
    with pytest.raises(ParseError) as caught:
        parse_statement(text.encode())
    assert caught.value.code.name == row["code"]


def folded(entries: list[str], charter: Digest, state: ControlState | None = None) -> ControlState:
    for text in entries:
        entry = parse_log_statement(text.encode())
        at = parse_rfc3339(entry.time)
        owners = () if state is None else tuple(state.charter.owners)
        signed = verify_statement(entry.signed(), owners)
        state = begin(signed, charter, at) if state is None else apply(state, signed, at)
    assert state is not None
    return state


def test_the_chain() -> None:
    state = folded(CHAIN["entries"], Digest.parse(CHAIN["charter"]))
    assert (state.tenant, state.sequence) == (CHAIN["tenant"], CHAIN["sequence"])
    assert str(state.head) == CHAIN["head"]


@pytest.mark.parametrize("name", RELEASES["cases"])
def test_a_release_is_judged(name: str) -> None:
    case = RELEASES["cases"][name]
    first = parse_log_statement(RELEASES["entries"][0].encode())
    charter = verify_statement(first.signed(), ()).digest
    state = folded(RELEASES["entries"] + case["behind"], charter)
    facts = RELEASES["facts"] | case["facts"]
    facts |= {"manifest": Digest.parse(facts["manifest"]), "machines": frozenset(facts["machines"])}
    found = findings(state, ReleaseFacts(**facts), parse_rfc3339(case["now"]))
    assert [code.name for code, _ in found] == case["codes"]
    assert (case["codes"] == []) == (name in {"permitted", "another_chip_revoked"})
