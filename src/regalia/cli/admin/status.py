"""Says who has signed what, and where a chain stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.cli.admin.chains import now, read_chain
from regalia.cli.admin.peer import AdminPeer
from regalia.cli.new_files import must_be_new
from regalia.cli.output import report, say, show_facts, show_json
from regalia.control.fold import settled
from regalia.control.quorum import quorums
from regalia.control.verify import read_unverified, verify_statement
from regalia.core.codec import unb64
from regalia.core.errors import CoreCode, RegaliaError, UsageError
from regalia.host.localfs import read_file, write_new
from regalia.wire.statement import ENVELOPE_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.cli.admin.options import ChainOptions
    from regalia.wire.administration import ProposalStatus


def show_file_status(file: Path, where: ChainOptions, *, as_json: bool) -> None:
    """Show who has signed a proposal.

    Args:
        file: the proposal, untrusted.
        where: its tenant's chain, whose owners count.
        as_json: print for programs.

    Raises:
        RegaliaError: a file cannot be read, or is not what it should be.
        UsageError: BAD_USAGE, no chain is given for a later statement.
    """
    data = read_file(file, limit=ENVELOPE_LIMIT)
    envelope, statement = read_unverified(data)
    chain = read_chain(where)
    if chain.state is None and statement.sequence != 1:
        raise UsageError(CoreCode.BAD_USAGE, "give --chain or --url: its charter names the owners")
    state = None if chain.state is None else settled(chain.state, now())
    charter = None if state is None else state.charter
    owners = () if charter is None else tuple(charter.owners)
    signers = verify_statement(data, owners).signers if envelope.signatures else frozenset()
    needed = quorums(statement, charter, signers)
    facts: dict[str, object] = {
        "tenant": statement.tenant,
        "sequence": statement.sequence,
        "kind": statement.kind,
        "digest": str(statement.digest()),
        "signed": sorted({name for each in needed for name in each.signed}),
        "missing": sorted({name for each in needed for name in each.missing}),
        "complete": all(each.reached for each in needed),
        "signatures": [str(each) for each in needed],
        "expires": statement.expires,
        "stale": state is not None and statement.sequence <= state.sequence,
    }
    report(str(file), facts, as_json=as_json)


def show_chain_status(where: ChainOptions, out: Path | None, *, as_json: bool) -> None:
    """Show where a chain stands, and what gathers signatures at its broker.

    Args:
        where: the chain.
        out: folder for what gathers signatures; None to write nothing.
        as_json: print for programs.

    Raises:
        RegaliaError: the chain cannot be read.
        UsageError: BAD_USAGE, nothing is given that could be looked at.
    """
    if where.chain is None and where.url is None:
        raise UsageError(CoreCode.BAD_USAGE, "give FILE, --chain or --url")
    chain = read_chain(where)
    state = None if chain.state is None else settled(chain.state, now())
    facts: dict[str, object] = {
        "tenant": where.tenant if state is None else state.tenant,
        "sequence": 0 if state is None else state.sequence,
        "statement": "none" if state is None else str(state.head),
        "owners": [] if state is None else [each.name for each in state.charter.owners],
        "threshold": 0 if state is None else state.charter.threshold,
        "stopped": [] if state is None else [name or "everything" for name in state.stops],
        "waiting": [] if state is None else [each.sequence for each in state.scheduled],
    }
    pending = _pending(where)
    saved = _save(pending, out)
    if as_json:
        show_json({"ok": True, **facts, "pending": [_facts(each) for each in pending]})
        return
    show_facts("chain", list(facts.items()))
    for each in pending:
        show_facts(f"proposal {each.sequence}: {each.kind}", list(_facts(each).items()))
    for path in saved:
        say(f"saved: {path}")


def _pending(where: ChainOptions) -> list[ProposalStatus]:
    if where.url is None or where.tenant is None:
        return []
    with AdminPeer(where.url) as peer:
        return peer.status(where.tenant).pending


def _facts(status: ProposalStatus) -> dict[str, object]:
    return {
        "kind": status.kind,
        "digest": status.digest,
        "signed": status.signed,
        "missing": status.missing,
        "lacking": status.lacking,
        "expires": status.expires,
    }


def _save(pending: list[ProposalStatus], folder: Path | None) -> list[Path]:
    """Write proposals under their own digests, whatever the broker calls them."""
    if folder is None:
        return []
    saved = []
    for each in pending:
        data = unb64(each.envelope, what="proposal", limit=ENVELOPE_LIMIT)
        try:
            _, statement = read_unverified(data)
        except RegaliaError:
            continue  # not for signing
        path = folder / f"{statement.digest().raw.hex()[:16]}.json"
        must_be_new(path)
        write_new(path, data)
        saved.append(path)
    return saved
