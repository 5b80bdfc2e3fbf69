"""``regalia log``: read, verify and prove from the transparency log of releases."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.cli.options import file_option, flag, json_option, number_option, option, together
from regalia.cli.output import NARROW, say, show_document, show_json, show_record
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file, replace_file, write_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Engine

    from regalia.tlog.audit import Audit
    from regalia.tlog.note import LogKey
    from regalia.tlog.source import LogSource
    from regalia.wire.release import LogEntry, LogProof, ReleaseRecord

EXIT_UNEXPLAINED = 10
_PROOF_LIMIT = 256 * 1024  # bytes
_KEY_LIMIT = 4096  # bytes
_COLUMNS = ("#", "time", "decision", "hardware", "model")
_PIPE_WIDTH = 200  # columns
_SHORT = 12  # characters of a digest that a person compares

_log_key = option(
    "--log-key VKEY",
    "The log's verifier key, or the .vkey file that `regalia keygen log` wrote.",
    into="log_key",
    required=True,
)
_which_log = together(
    option("--url URL", "Address of the broker that publishes the log."),
    option("--database URL", "The log's own database, for example sqlite:///log.db."),
    _log_key,
)


@click.group()
def log() -> None:
    """Read and verify the transparency log.

    Every command verifies what it shows under the log key that you give: nothing that a log
    says about itself is believed.
    """


@log.command("show")
@_which_log
@number_option("--last", "How many.", 1, 100_000, default=50)
@json_option
def show(*, url: str | None, database: str | None, log_key: str, last: int, as_json: bool) -> None:
    """Verify the whole log, then show its latest decisions."""
    from collections import deque

    seen: deque[tuple[int, LogEntry]] = deque(maxlen=last)
    audit = _audit(url, database, log_key, None, lambda index, record: seen.append((index, record)))
    if as_json:
        body = _summary(audit)
        body["entries"] = [_entry(index, record) for index, record in seen]
        show_json(body)
        return
    _print_table(list(seen))
    _print_summary(audit)


@log.command("verify")
@_which_log
@file_option(
    "--remember FILE",
    "Checkpoint of your last verification: checked to be a prefix, then replaced.",
)
@flag("--first", "With --remember: there is no checkpoint yet, begin with this one.")
@file_option("--proof FILE", "Verify this one proof offline, and nothing else.")
@json_option
def verify(
    *,
    url: str | None,
    database: str | None,
    log_key: str,
    remember: Path | None,
    first: bool,
    proof: Path | None,
    as_json: bool,
) -> None:
    """Verify the whole log: signature, every entry, every hash; and name every release.

    Releases that the newest statement of their model's tenant does not explain are named, too, and
    the exit status is then 10, although the log is whole.
    """
    if proof is not None:
        if url or database or remember:
            raise UsageError(CoreCode.BAD_USAGE, "--proof stands alone with --log-key")
        _verify_proof_file(proof, log_key, as_json=as_json)
        return
    _check_remembered(remember, first=first)
    from regalia.wire.release import ReleaseRecord

    releases: list[tuple[int, ReleaseRecord]] = []

    def visit(index: int, record: LogEntry) -> None:
        if isinstance(record, ReleaseRecord) and record.decision == "release":
            releases.append((index, record))

    audit = _audit(url, database, log_key, remember, visit)
    if remember is not None:
        replace_file(remember, audit.note.encode())
    if as_json:
        body = _summary(audit)
        body["released"] = [_entry(index, record) for index, record in releases]
        show_json(body)
        if audit.unexplained:
            raise click.exceptions.Exit(EXIT_UNEXPLAINED)
        return
    for index, record in releases:
        say(
            _printable(
                f"release {index}: {record.time}  {record.model_id} v{record.model_version}  to "
                f"{record.recipient}  ({_machine(record)}, {record.lease_id})"
            )
        )
    _print_summary(audit)
    _require_explained(audit)


def _require_explained(audit: Audit) -> None:
    """End with a refusal that names every release which its tenant's statements do not explain."""
    from regalia.core.errors import LogError
    from regalia.tlog.codes import TlogCode

    if audit.unexplained:
        named = "; ".join(f"release {each.index} {each.why}" for each in audit.unexplained)
        raise LogError(TlogCode.RELEASE_UNEXPLAINED, named)


def _check_remembered(remember: Path | None, *, first: bool) -> None:
    """A file that was lost must not pass for one that was never there: history could go with it."""
    if first and remember is None:
        raise UsageError(CoreCode.BAD_USAGE, "--first goes with --remember FILE")
    if remember is None or first != remember.exists():
        return
    what = "exists: leave out --first" if first else "is missing: give --first if it never was"
    raise UsageError(CoreCode.BAD_USAGE, f"--remember {remember} {what}")


@log.command("prove")
@click.argument("index", type=click.IntRange(min=0))
@option("--database URL", "The log's own database.", required=True)
@_log_key
@file_option("--out FILE", "Write the proof there, as one JSON line.")
def prove(*, index: int, database: str, log_key: str, out: Path | None) -> None:
    """Write the proof that entry INDEX is in the log; `log verify --proof` checks it offline."""
    from regalia.core.codec import canonical_json
    from regalia.tlog.log import LogReader
    from regalia.tlog.verify import verify_with_key

    key = read_log_key(log_key)
    engine = _open_database(database)
    try:
        proof = LogReader(engine).prove(index)
    finally:
        engine.dispose()
    verify_with_key(proof, key)
    data = canonical_json(proof)
    if out is None:
        show_document(data.decode())
        return
    write_new(out, data)
    say(f"proof of entry {index}: {out}")


def _audit(
    url: str | None,
    database: str | None,
    log_key: str,
    remember: Path | None,
    visit: Callable[[int, LogEntry], None],
) -> Audit:
    from regalia.tlog.audit import audit_log
    from regalia.tlog.note import NOTE_LIMIT

    key = read_log_key(log_key)
    remembered = None
    if remember is not None and remember.exists():
        remembered = read_file(remember, limit=NOTE_LIMIT).decode("utf-8", "replace")
    with log_source(url, database) as source:
        return audit_log(source, key, remembered=remembered, visit=visit)


def _open_database(url: str) -> Engine:
    from regalia.tlog.database import has_password, open_existing

    if has_password(url):
        raise UsageError(
            CoreCode.BAD_USAGE,
            "--database has a password, which everybody on this machine can read there; put it "
            "into ~/.pgpass, or into a file that …/DATABASE?passfile=FILE names",
        )
    return open_existing(url)


@contextmanager
def log_source(url: str | None, database: str | None) -> Iterator[LogSource]:
    """Open a log at a broker or in a database.

    Args:
        url: of the broker; None if ``database`` is given.
        database: of the log; None if ``url`` is given.

    Raises:
        UsageError: BAD_USAGE, neither or both are given.
    """
    from regalia.host.fetch import open_client
    from regalia.tlog.log import LogReader
    from regalia.tlog.source import DatabaseSource, HttpSource

    if (url is None) == (database is None):
        raise UsageError(CoreCode.BAD_USAGE, "give either --url or --database")
    if url is not None:
        http = HttpSource(url, open_client())
        try:
            yield http
        finally:
            http.close()
        return
    engine = _open_database(str(database))
    try:
        yield DatabaseSource(LogReader(engine))
    finally:
        engine.dispose()


def read_log_key(text: str) -> LogKey:
    """Read a log's verifier key, given as its text or the name of its file. Raises LogError."""
    from regalia.tlog.note import parse_log_key

    if "+" not in text:
        data = read_file(Path(text), limit=_KEY_LIMIT)
        text = data.decode("utf-8", "replace").removesuffix("\n")
    return parse_log_key(text)


def _verify_proof_file(path: Path, log_key: str, *, as_json: bool) -> None:
    from regalia.core.codec import parse_json
    from regalia.tlog.verify import verify_with_key
    from regalia.wire.release import LogProof

    data = read_file(path, limit=_PROOF_LIMIT).removesuffix(b"\n")
    proof: LogProof = parse_json(data, LogProof, limit=_PROOF_LIMIT, what=str(path))
    logged = verify_with_key(proof, read_log_key(log_key))
    if as_json:
        show_json({"ok": True, **_entry(logged.index, logged.record)})
        return
    _print_table([(logged.index, logged.record)])
    say(f"entry {logged.index} is in the log")


def _summary(audit: Audit) -> dict[str, object]:
    return {
        "ok": not audit.unexplained,
        "origin": audit.checkpoint.origin,
        "size": audit.checkpoint.size,
        "root": audit.checkpoint.root.hex(),
        "releases": audit.releases,
        "denials": audit.denials,
        "notices": audit.notices,
        "remembered_size": audit.remembered,
        "tenants": {
            name: {
                "charter": str(audit.charters[name]),
                "sequence": head.sequence,
                "statement": str(head.digest),
            }
            for name, head in audit.heads.items()
        },
        "unexplained": [{"index": each.index, "why": each.why} for each in audit.unexplained],
    }


def _entry(index: int, record: LogEntry) -> dict[str, object]:
    import msgspec

    from regalia.tlog.statements import statement_in
    from regalia.wire.statement import LogStatement

    found: dict[str, object] = {"index": index, "record": msgspec.to_builtins(record)}
    if isinstance(record, LogStatement):
        found["statement"] = msgspec.to_builtins(statement_in(record))
    return found


def _print_summary(audit: Audit) -> None:
    checkpoint = audit.checkpoint
    notices = f", {audit.notices} notices" if audit.notices else ""
    say(
        f"verified: {checkpoint.origin}, {checkpoint.size} entries "
        f"({audit.releases} releases, {audit.denials} denials{notices}), "
        f"root {checkpoint.root.hex()}"
    )
    for name, head in audit.heads.items():
        say(
            f"tenant {name}: {head.sequence} statements, the newest {head.digest}, "
            f"charter {audit.charters[name]}"
        )
    if audit.remembered is not None:
        say(f"the first {audit.remembered} entries are those of the last verification")


def _print_table(entries: Sequence[tuple[int, LogEntry]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    # A pipe has no width; keep each row on one line for grep.
    console = console if console.is_terminal else Console(width=_PIPE_WIDTH)
    if console.width < NARROW:
        for index, record in entries:
            show_record((*_COLUMNS, "why"), [_printable(cell) for cell in _row(index, record)])
        return
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, no_wrap=True)
    table.add_column("why", overflow="fold")
    for index, record in entries:
        # Text, not str, so that nothing in a record is read as markup.
        cells = (Text(_printable(cell)) for cell in _row(index, record))
        table.add_row(*cells, style=None if _is_release(record) else "red")
    console.print(table)


def _is_release(record: LogEntry) -> bool:
    return getattr(record, "decision", "") == "release"


def _row(index: int, record: LogEntry) -> tuple[str, ...]:
    """The columns of one entry."""
    from regalia.tlog.statements import statement_in
    from regalia.wire.release import LogNotice
    from regalia.wire.statement import LogStatement

    if isinstance(record, LogStatement):
        statement = statement_in(record)
        what = f"{statement.tenant} {statement.sequence}: {statement.kind}"
        return (str(index), record.time, "statement", "", "", what)
    if isinstance(record, LogNotice):
        what = f"{record.count} since {record.since}: {record.what}"
        return (str(index), record.time, record.kind, "", "", what)
    released = _is_release(record)
    why = ", ".join(reason.code for reason in record.reasons)
    return (
        str(index),
        record.time,
        record.decision,
        _machine(record),
        f"{_short(record.model_id)} v{record.model_version}",
        f"until {record.lease_until}" if released else why,
    )


def _machine(record: ReleaseRecord) -> str:
    """Describe the hardware, e.g. "genuine Genoa, 8 devices"."""
    cpu = f"{record.hardware} {record.product}".strip()
    return f"{cpu}, {len(record.devices)} devices" if record.devices else cpu


def _short(name: str) -> str:
    return name.rpartition(":")[2][:_SHORT]


def _printable(text: str) -> str:
    """Replace unprintable characters: a record must not be able to control the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
