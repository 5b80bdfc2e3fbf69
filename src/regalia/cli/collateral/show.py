"""``regalia collateral show`` and ``check``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from regalia.cli.collateral.input import installed_bundle
from regalia.cli.key_files import read_public_keys
from regalia.cli.output import show_error, show_facts, show_json, show_table, warn
from regalia.core.clock import rfc3339
from regalia.core.errors import EXIT_OK, AttestationError, CoreCode, UsageError
from regalia.host.clock import system_clock
from regalia.host.localfs import os_errors, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from regalia.verifier.collateral import Dates, Item, Need, PeekedBundle
    from regalia.verifier.collateral.collection import CollateralSet

SOONEST = 5  # entries that `check` lists


def show_bundle(
    *, bundle: Path, signers: tuple[Path, ...], threshold: int, now: datetime | None, as_json: bool
) -> None:
    """Show a bundle, stale or not; its signatures are checked if signers are named.

    Args:
        bundle: its path.
        signers: public keys; without any, signatures are not checked.
        threshold: how many of them must have signed.
        now: to show dates against; None for the system's clock.
        as_json: print for programs.

    Raises:
        ParseError, IntegrityError, AttestationError, LocalError.
    """
    from regalia.appraisal.collateral_rule import NO_GRACE
    from regalia.core.clock import parse_rfc3339
    from regalia.crypto.dsse import LIMIT
    from regalia.verifier.collateral import NO_FLOOR, peek_bundle, verify_bundle

    moment = now or system_clock()
    path = installed_bundle(bundle)
    data = read_file(path, limit=LIMIT)
    found = peek_bundle(data)
    document = found.document
    if signers:
        verify_bundle(
            data,
            name=document.name,
            signers=read_public_keys(signers),
            threshold=threshold,
            floor=NO_FLOOR,
            now=parse_rfc3339(document.issued),  # what it says now is shown, not judged
            grace=NO_GRACE,
        )
    if as_json:
        show_json({"ok": True, **bundle_json(found, moment), "checked": bool(signers)})
        return
    names = ", ".join(found.signers) or "nobody"
    show_facts(
        str(path),
        [
            ("name", document.name),
            ("serial", str(document.serial)),
            ("issued", document.issued),
            ("next update", document.next_update),
            ("tcbEvaluationDataNumber", f"at least {document.floors.tcb_evaluation_data_number}"),
            ("digest", str(found.digest)),
            ("signed by", names if signers else f"NOT CHECKED (give --signer): {names}"),
        ],
    )
    show_items(found.items, moment)
    if moment > parse_rfc3339(document.next_update):
        warn(f"This bundle was to be replaced by {document.next_update}.")


def bundle_json(found: PeekedBundle, now: datetime) -> dict[str, object]:
    """What a bundle says, for programs.

    Args:
        found: the bundle, whose signatures may be unchecked.
        now: to show dates against, aware.
    """
    document = found.document
    return {
        "name": document.name,
        "serial": document.serial,
        "issued": document.issued,
        "next_update": document.next_update,
        "floors": {"tcb_evaluation_data_number": document.floors.tcb_evaluation_data_number},
        "digest": str(found.digest),
        "signed_by": list(found.signers),
        "entries": [item_json(item, now) for item in found.items],
    }


def item_json(item: Item, now: datetime) -> dict[str, object]:
    """One entry, for programs.

    Args:
        item: the entry.
        now: to show dates against, aware.
    """
    from regalia.core.types import Digest
    from regalia.verifier.collateral import dates_of

    return {
        "kind": item.kind.value,
        "name": item.name,
        "dates": dates_of(item, now).value,
        "valid_from": None if item.valid_from is None else rfc3339(item.valid_from),
        "valid_until": None if item.valid_until is None else rfc3339(item.valid_until),
        "size": len(item.content),
        "digest": str(Digest.of(item.content)),
        "source": item.source,
    }


def show_items(items: Sequence[Item], now: datetime) -> None:
    """A table, with dates that are over in red and those that are soon in yellow.

    Args:
        items: entries.
        now: to show dates against, aware.
    """
    from regalia.verifier.collateral import dates_of

    rows = []
    for item in items:
        dates = dates_of(item, now)
        until = "" if item.valid_until is None else rfc3339(item.valid_until)
        rows.append(
            (
                item.kind.value,
                item.name,
                until,
                (_left(item, dates, now), _style(dates)),
                str(len(item.content)),
                item.source,
            )
        )
    show_table(("kind", "name", "valid until", "", "bytes", "source"), rows)


def _left(item: Item, dates: Dates, now: datetime) -> str:
    if item.valid_until is None:
        return dates.value
    days = (item.valid_until - now).days
    return f"{dates.value}, {days} days" if days >= 0 else f"{dates.value}, {-days} days ago"


def _style(dates: Dates) -> str:
    from regalia.verifier.collateral import Dates

    if dates.is_stale:
        return "bold red"
    return {Dates.SOON: "yellow", Dates.IN_DATE: "green"}.get(dates, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """The command's options."""

    path: Path
    signers: tuple[Path, ...]
    threshold: int
    name: str | None
    state: Path | None
    now: datetime | None
    evidence: tuple[Path, ...]
    as_json: bool


def check_collateral(options: CheckOptions) -> int:
    """Check dates and completeness; returns the exit status after showing what is wrong.

    Raises:
        UsageError: a bundle without signers or a name.
        RegaliaError: the bundle does not verify.
    """
    now = options.now or system_clock()
    items, collateral = _load(options, now)
    needs = {str(path): _needs(path, collateral) for path in options.evidence}
    wrong = _wrong(items, needs, now)
    soonest = sorted(
        (item for item in items if item.valid_until is not None),
        key=lambda item: (item.valid_until is None, item.valid_until, item.name),
    )[:SOONEST]
    if options.as_json:
        body: dict[str, Any] = {
            "ok": wrong is None,
            "now": rfc3339(now),
            "entries": len(items),
            "soonest": [item_json(item, now) for item in soonest],
            "needs": {path: [_need_json(need) for need in each] for path, each in needs.items()},
        }
        show_json(body if wrong is None else {**body, "error": wrong.as_dict()})
        return EXIT_OK if wrong is None else wrong.exit_status
    click.secho(f"{len(items)} entries at {rfc3339(now)}; the first to end:", bold=True)
    show_items(soonest, now)
    for path, each in needs.items():
        click.secho(f"Needed for {path}", bold=True)
        rows = [(n.kind.value, n.what, (n.where or "MISSING", _found_style(n))) for n in each]
        show_table(("kind", "what", "where"), rows)
    if wrong is not None:
        show_error(wrong, as_json=False)
        return wrong.exit_status
    click.secho(
        "Everything is in date" + (", and nothing is missing." if needs else "."), fg="green"
    )
    return EXIT_OK


def _found_style(need: Need) -> str:
    return "green" if need.where else "bold red"


def _need_json(need: Need) -> dict[str, object]:
    return {"kind": need.kind.value, "what": need.what, "where": need.where or None}


def _needs(path: Path, collateral: CollateralSet) -> tuple[Need, ...]:
    from regalia.cli.collateral.input import read_evidence_file
    from regalia.verifier.collateral import needs_of

    return needs_of(read_evidence_file(path), collateral)


def _load(options: CheckOptions, now: datetime) -> tuple[tuple[Item, ...], CollateralSet]:
    """Entries of a verified bundle, or of a folder of loose files."""
    from regalia.appraisal.collateral_rule import NO_GRACE
    from regalia.cli.collateral.input import read_items
    from regalia.client.collateral import FloorFile
    from regalia.crypto.dsse import LIMIT
    from regalia.verifier.collateral import NO_FLOOR, collect, verify_bundle

    path = installed_bundle(options.path)
    with os_errors(path):
        folder = path.is_dir()
    if folder:
        if options.signers:
            raise UsageError(CoreCode.BAD_USAGE, f"{path} is a folder of files that nobody signed")
        items = read_items(path, now=now)
        return items, collect(items)
    data = read_file(path, limit=LIMIT)
    if not options.signers or options.name is None:
        raise UsageError(
            CoreCode.BAD_USAGE, "a bundle is checked against --signer and --name: give both"
        )
    floor = NO_FLOOR
    if options.state is not None:
        with FloorFile.locked(options.state) as floors:
            floor = floors.read(options.name)
    bundle = verify_bundle(
        data,
        name=options.name,
        signers=read_public_keys(options.signers),
        threshold=options.threshold,
        floor=floor,
        now=now,
        grace=NO_GRACE,
    )
    return bundle.items, bundle.collateral


def _wrong(
    items: Sequence[Item], needs: dict[str, tuple[Need, ...]], now: datetime
) -> AttestationError | None:
    """The first thing that a verifier would refuse."""
    from regalia.appraisal.codes import AttestCode
    from regalia.verifier.collateral import dates_of

    stale = [item for item in items if dates_of(item, now).is_stale]
    if stale:
        names = ", ".join(f"{item.kind} {item.name}" for item in stale)
        return AttestationError(
            AttestCode.COLLATERAL_STALE, f"out of date at {rfc3339(now)}: {names}"
        )
    missing = [
        f"{n.what} (for {path})" for path, each in needs.items() for n in each if not n.where
    ]
    if missing:
        return AttestationError(AttestCode.COLLATERAL_MISSING, f"missing: {', '.join(missing)}")
    return None
