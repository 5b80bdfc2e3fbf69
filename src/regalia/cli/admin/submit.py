"""Gives statements to a broker, or adds them to a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.cli.admin.chains import now, read_chain
from regalia.cli.admin.peer import AdminPeer
from regalia.cli.output import report
from regalia.control.fold import apply, begin
from regalia.control.verify import verify_statement
from regalia.core.errors import CoreCode, UsageError
from regalia.core.types import Digest
from regalia.host.localfs import os_errors, read_file, write_new
from regalia.host.numbered import numbered
from regalia.wire.statement import ENVELOPE_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.cli.admin.options import ChainOptions


def submit_file(file: Path, where: ChainOptions, *, as_json: bool) -> None:
    """Submit a signed statement.

    Args:
        file: the statement.
        where: a broker, or a folder.
        as_json: print for programs.

    Raises:
        RegaliaError: it is refused.
        UsageError: BAD_USAGE, neither or both are given.
    """
    data = read_file(file, limit=ENVELOPE_LIMIT)
    if (where.chain is None) == (where.url is None):
        raise UsageError(CoreCode.BAD_USAGE, "give either --url or --chain")
    if where.url is not None:
        report("submitted", _to_broker(data, where.url), as_json=as_json)
    elif where.chain is not None:
        report("added", _to_folder(data, where, where.chain), as_json=as_json)


def _to_broker(data: bytes, url: str) -> dict[str, object]:
    with AdminPeer(url) as peer:
        status = peer.propose(data)
    return {
        "tenant": status.tenant,
        "sequence": status.sequence,
        "kind": status.kind,
        "digest": status.digest,
        "accepted": status.accepted,
        "index": status.index,
        "signed": status.signed,
        "missing": [] if status.accepted else status.missing,
        "lacking": status.lacking,
        "expires": status.expires,
    }


def _to_folder(data: bytes, where: ChainOptions, folder: Path) -> dict[str, object]:
    """Add a statement that is complete: it is verified with all that stand there before it."""
    chain = read_chain(where)
    owners = () if chain.state is None else tuple(chain.state.charter.owners)
    signed = verify_statement(data, owners)
    if chain.state is None:
        known = signed.digest if where.charter is None else Digest.parse(where.charter)
        begin(signed, known, now())
    else:
        apply(chain.state, signed, now())
    with os_errors(folder):
        folder.mkdir(exist_ok=True)
    statement = signed.statement
    path = numbered(folder, statement.sequence)
    write_new(path, data)
    return {
        "tenant": statement.tenant,
        "sequence": statement.sequence,
        "kind": statement.kind,
        "digest": str(signed.digest),
        "file": str(path),
    }
