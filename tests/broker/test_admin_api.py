"""The addresses for owners: who is missing, limits, and what is not kept."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa

from regalia.broker import administration
from regalia.broker.config import LimitsSection
from regalia.broker.state import PROPOSALS, SIGNATURES
from regalia.cli.admin import peer
from regalia.cli.main import run
from regalia.core.clock import rfc3339
from regalia.core.codec import b64, unb64
from regalia.core.errors import RegaliaError
from regalia.wire.administration import ProposalStatus, StatementPage
from regalia.wire.statement import ENVELOPE_LIMIT, Revoke, Rotate
from regalia_testing.statements import charter_of, envelope
from tests.broker.owners import STOP, Owners, payload_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.broker.harness import Deployment

TENANT = "/v1/admin/statements/acme"
ROTATE = Rotate(new="b", old="a")


@pytest.fixture
def owners(deployment: Deployment) -> Owners:
    made = Owners(deployment)
    made.found()
    return made


def rows(deployment: Deployment) -> tuple[int, int]:
    """How many proposals and signatures the broker keeps."""
    with deployment.state_engine.connect() as connection:
        counts = [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (PROPOSALS, SIGNATURES)
        ]
    return counts[0], counts[1]


def test_signatures_are_gathered_one_after_another(owners: Owners) -> None:
    statement = owners.tenant.statement(ROTATE)
    first = owners.submitted(envelope(statement, ("ann",)))
    assert (first.accepted, first.signed, first.missing) == (False, ["ann"], ["ben", "cyd"])
    assert first.lacking == ["1 of 2 of the owners; not ben, cyd"]
    status = owners.status()
    assert (status.sequence, [each.digest for each in status.pending]) == (1, [first.digest])
    # The broker hands out what it has, so the next owner needs nothing else.
    data = unb64(status.pending[0].envelope, what="proposal")
    assert payload_digest(data) == statement.digest()
    last = msgspec.json.decode(
        owners.post(envelope(statement, ("cyd",)), "signatures").content,
        type=ProposalStatus,
    )
    assert (last.accepted, last.index, last.signed) == (True, 1, ["ann", "cyd"])
    status = owners.status()
    assert (status.sequence, status.pending) == (2, [])
    assert rows(owners.deployment) == (0, 0)


def test_a_charter_is_gathered_before_there_is_an_owner(deployment: Deployment) -> None:
    owners = Owners(deployment)
    for name in ("ann", "ben"):
        assert not owners.submitted(envelope(owners.first, (name,))).accepted
    assert owners.submitted(envelope(owners.first, ("cyd",))).accepted


def test_another_charter_is_not_kept(deployment: Deployment) -> None:
    """Anybody can write one, so nothing of it may take a place."""
    owners = Owners(deployment)
    other = owners.tenant.statement(charter_of(("eve",), 1))
    assert owners.refused(envelope(other, ("eve",))) == (403, "CHARTER_UNTRUSTED")
    assert rows(deployment) == (0, 0)


def test_a_stop_overtakes_what_gathers_signatures(owners: Owners) -> None:
    pending = owners.tenant.statement(ROTATE)
    owners.submitted(envelope(pending, ("ann",)))
    owners.act(STOP, "cyd")
    assert owners.status().pending == []
    assert owners.refused(envelope(pending, ("ben",))) == (409, "STATEMENT_STALE")
    assert owners.refused(envelope(pending, ("ben",)), "signatures") == (404, "PROPOSAL_UNKNOWN")
    assert rows(owners.deployment) == (0, 0)


def test_a_stranger_leaves_nothing(owners: Owners) -> None:
    for by in (("eve",), ("ann", "eve")):
        assert owners.refused(owners.proposal(ROTATE, *by)) == (403, "SIGNER_UNKNOWN")
    assert owners.refused(owners.proposal(ROTATE)) == (403, "UNSIGNED")
    assert rows(owners.deployment) == (0, 0)


def test_a_stranger_cannot_spoil_what_gathers_signatures(owners: Owners) -> None:
    statement = owners.tenant.statement(ROTATE)
    owners.submitted(envelope(statement, ("ann",)))
    wrong = json.loads(envelope(statement, ("ben",)))
    wrong["signatures"][0]["sig"] = b64(bytes(64))
    data = json.dumps(wrong, separators=(",", ":"), sort_keys=True).encode()
    assert owners.refused(data, "signatures") == (403, "SIGNATURE_INVALID")
    assert owners.status().pending[0].signed == ["ann"]
    assert owners.submitted(envelope(statement, ("ben",))).accepted


def test_what_could_never_be_accepted_is_refused_with_its_first_signature(owners: Owners) -> None:
    owners.act(ROTATE)
    assert owners.refused(owners.proposal(ROTATE, "ann")) == (403, "STATEMENT_NOT_IN_THIS_STATE")
    owners.tenant.now = owners.deployment.now
    ahead = owners.tenant.copy()
    ahead.act(STOP, "cyd")
    assert owners.refused(envelope(ahead.statement(STOP), ("ann",))) == (409, "STATEMENT_GAP")


def test_proposals_expire(owners: Owners) -> None:
    owners.submitted(owners.proposal(ROTATE, "ann"))
    owners.deployment.pass_time(4 * 86400)
    assert owners.status().pending == []
    owners.submitted(owners.proposal(Rotate(new="c", old="a"), "ann"))
    assert rows(owners.deployment) == (1, 1)


def test_places_for_proposals_are_bounded(owners: Owners) -> None:
    def kept(name: str, number: int) -> bytes:
        return owners.proposal(Rotate(new=f"new-{number}", old=f"old-{name}"), name)

    for number in range(3):
        owners.submitted(kept("ann", number))
    assert owners.refused(kept("ann", 3)) == (403, "PROPOSALS_EXHAUSTED")
    for name, count in (("ben", 3), ("cyd", 2)):
        for number in range(count):
            owners.submitted(kept(name, number))
    assert owners.refused(kept("cyd", 2)) == (403, "PROPOSALS_EXHAUSTED")
    assert rows(owners.deployment) == (8, 8)
    # What is complete needs no place.
    owners.act(STOP, "ann")
    assert rows(owners.deployment) == (0, 0)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"", (400, "MALFORMED")),
        (b"{}", (400, "MALFORMED")),
        (b"\xff" * 100, (400, "MALFORMED")),
        (bytes(ENVELOPE_LIMIT + 1), (413, "TOO_LARGE")),
    ],
    ids=["empty", "object", "no text", "large"],
)
@pytest.mark.parametrize("path", ["proposals", "signatures"])
def test_bodies_that_are_none(
    owners: Owners, path: str, body: bytes, answer: tuple[int, str]
) -> None:
    assert owners.refused(body, path) == answer


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/admin/statements/other", (404, "TENANT_UNKNOWN")),
        ("/v1/admin/statements/other/status", (404, "TENANT_UNKNOWN")),
        ("/v1/admin/statements/Acme", (400, "MALFORMED")),
        ("/v1/admin/statements/acme%0A/status", (400, "MALFORMED")),
        (f"{TENANT}?first=0x1", (400, "MALFORMED")),
        (f"{TENANT}?first=-1", (400, "MALFORMED")),
        (f"{TENANT}?first={'9' * 5000}", (400, "MALFORMED")),
        ("/v1/admin/proposals", (405, "METHOD_NOT_ALLOWED")),
    ],
)
def test_addresses_that_are_none(owners: Owners, path: str, answer: tuple[int, str]) -> None:
    got = owners.deployment.http("GET", path)
    assert (got.status_code, owners.deployment.refused(got).code) == answer


def test_a_statement_of_another_tenant(owners: Owners) -> None:
    data = msgspec.structs.replace(owners.tenant.statement(STOP), tenant="other")
    assert owners.refused(envelope(data, ("ann",))) == (404, "TENANT_UNKNOWN")


def test_refusals_are_charged_to_their_peer(
    make_deployment: Callable[..., Deployment],
) -> None:
    deployment = make_deployment(limits=LimitsSection(peer_refusals=3, denials_logged=1000))
    owners = Owners(deployment)
    owners.found()
    for _ in range(3):
        assert owners.refused(b"{}") == (400, "MALFORMED")
    assert owners.refused(owners.proposal(STOP, "ann")) == (429, "PEER_LIMITED")
    deployment.peer = "192.0.2.7"
    owners.act(STOP, "ann")


def test_statements_come_in_pages(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        owners.act(Revoke(subject="chip", value=f"sev-snp:0{number}"), "ann")
    monkeypatch.setattr(administration, "_PAGE", 2)

    def page(first: int) -> StatementPage:
        answer = owners.deployment.http("GET", f"{TENANT}?first={first}")
        return msgspec.json.decode(answer.content, type=StatementPage)

    assert [page(first).following for first in (1, 3, 5, 9)] == [3, 5, None, None]
    assert [len(page(first).statements) for first in (1, 3, 5, 9)] == [2, 2, 1, 0]
    monkeypatch.setattr(administration, "PAGE_BYTES", 1)
    assert [len(page(first).statements) for first in (1, 5)] == [1, 1]


# -- the command line, which asks over HTTP --------------------------------------------------------


@pytest.fixture
def over_http(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> Owners:
    """The owners' broker at http://broker, for ``regalia admin``."""

    def relay(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        answer = owners.deployment.http(request.method, path, content=request.read())
        return httpx.Response(answer.status_code, stream=httpx.ByteStream(answer.content))

    monkeypatch.setattr(
        peer, "open_client", lambda: httpx.Client(transport=httpx.MockTransport(relay))
    )
    return owners


def said(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    status = run([*map(str, words), "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document | {"status": status}


def where(owners: Owners) -> tuple[str, ...]:
    return (
        *("--url", "http://broker", "--tenant", "acme"),
        *("--charter", str(owners.first.digest())),
    )


def test_the_command_line_asks_a_broker(
    over_http: Owners, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rotate.json"
    path.write_bytes(over_http.proposal(ROTATE, "ann"))
    done = said(capsys, "admin", "submit", path, "--url", "http://broker")
    assert (done["status"], done["accepted"], done["missing"]) == (0, False, ["ben", "cyd"])
    chain = said(capsys, "admin", "status", *where(over_http), "--out", tmp_path)
    assert (chain["sequence"], [each["signed"] for each in chain["pending"]]) == (1, [["ann"]])
    saved = tmp_path / f"{str(done['digest']).removeprefix('sha256:')[:16]}.json"
    assert payload_digest(saved.read_bytes()) == payload_digest(path.read_bytes())
    file = said(capsys, "admin", "status", saved, *where(over_http))
    assert (file["complete"], file["stale"], file["signed"]) == (False, False, ["ann"])
    out = tmp_path / "stop.json"
    proposed = said(capsys, "admin", "propose", "stop", *where(over_http), "--out", out)
    assert (proposed["status"], proposed["sequence"]) == (0, 2)
    over_http.act(STOP, "cyd")
    shown = said(capsys, "admin", "show", *where(over_http))
    assert (shown["sequence"], shown["stopped"]) == (2, ["everything"])
    assert [each["signed_by"] for each in shown["statements"]] == [["ann", "ben", "cyd"], ["cyd"]]
    late = said(capsys, "admin", "submit", saved, "--url", "http://broker")
    assert (late["status"], late["error"]["code"]) == (6, "STATEMENT_STALE")
    assert said(capsys, "admin", "status", saved, *where(over_http))["stale"]


def test_a_broker_that_shows_another_chain(
    over_http: Owners, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--url", "http://broker", "--tenant", "acme", "--charter", f"sha256:{'1' * 64}")
    shown = said(capsys, "admin", "show", *words)
    assert (shown["status"], shown["error"]["code"]) == (4, "CHARTER_UNTRUSTED")
    assert over_http.status().sequence == 1


def test_a_broker_whose_pages_have_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    page = StatementPage(following=1, statements=[], tenant="acme")

    def endless(_: httpx.Request) -> httpx.Response:
        body = msgspec.json.encode(page, order="sorted")
        return httpx.Response(200, stream=httpx.ByteStream(body))

    client = httpx.Client(transport=httpx.MockTransport(endless))
    with (
        peer.AdminPeer("http://broker", client) as asked,
        pytest.raises(RegaliaError, match="no end"),
    ):
        asked.entries("acme")
    monkeypatch.setattr(peer, "ANSWER_LIMIT", 10)
    client = httpx.Client(transport=httpx.MockTransport(endless))
    with (
        peer.AdminPeer("http://broker", client) as asked,
        pytest.raises(RegaliaError, match="TOO_LARGE"),
    ):
        asked.entries("acme")


def test_an_earlier_clock_of_an_owner(owners: Owners) -> None:
    """What a proposer says about the time decides nothing."""
    past = rfc3339(owners.deployment.now - timedelta(days=1))
    statement = msgspec.structs.replace(owners.tenant.statement(ROTATE), time=past)
    assert owners.submitted(envelope(statement, ("ann", "ben"))).accepted
