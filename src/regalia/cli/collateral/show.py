"""``regalia collateral show`` and ``check``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.appraisal.codes import AttestCode
from regalia.cli.collateral.input import Signers, installed_bundle, read_evidence_file, read_items
from regalia.cli.key_files import read_public_keys
from regalia.cli.output import Styled, say, show_error, show_facts, show_json, show_table, warn
from regalia.client.collateral import FloorFile
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.errors import EXIT_OK, AttestationError, CoreCode, UsageError
from regalia.core.types import Digest
from regalia.crypto.dsse import LIMIT
from regalia.host.clock import system_clock
from regalia.host.localfs import os_errors, read_file
from regalia.verifier.collateral import (
    NO_FLOOR,
    Dates,
    collect,
    dates_of,
    needs_of,
    peek_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from regalia.verifier.collateral import Item, Need, PeekedBundle
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
    moment = now or system_clock()
    path = installed_bundle(bundle)
    data = read_file(path, limit=LIMIT)
    found = peek_bundle(data)
    document = found.document
    if signers:
        # An expired bundle is shown too, so only its signatures are checked.
        Signers(read_public_keys(signers), threshold).verify_as_issued(data)
    if as_json:
        show_json({"ok": True, **_bundle_json(found, moment), "checked": bool(signers)})
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
    _show_items(found.items, moment)
    if moment > parse_rfc3339(document.next_update):
        warn(f"This bundle was to be replaced by {document.next_update}.")


def _bundle_json(found: PeekedBundle, now: datetime) -> dict[str, object]:
    """The content of a bundle, for programs."""
    document = found.document
    return {
        "name": document.name,
        "serial": document.serial,
        "issued": document.issued,
        "next_update": document.next_update,
        "floors": {"tcb_evaluation_data_number": document.floors.tcb_evaluation_data_number},
        "digest": str(found.digest),
        "signed_by": list(found.signers),
        "entries": [_item_json(item, now) for item in found.items],
    }


def _item_json(item: Item, now: datetime) -> dict[str, object]:
    """One entry, for programs."""
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


def _show_items(items: Sequence[Item], now: datetime) -> None:
    """Print a table; items that have expired are red, those that soon will are yellow."""
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
    needs = {str(path): needs_of(read_evidence_file(path), collateral) for path in options.evidence}
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
            "soonest": [_item_json(item, now) for item in soonest],
            "needs": {
                path: [
                    {"kind": n.kind.value, "what": n.what, "where": n.where or None} for n in each
                ]
                for path, each in needs.items()
            },
        }
        show_json(body if wrong is None else {**body, "error": wrong.as_dict()})
        return EXIT_OK if wrong is None else wrong.exit_status
    say(Styled(f"{len(items)} entries at {rfc3339(now)}; the first to end:", bold=True))
    _show_items(soonest, now)
    for path, each in needs.items():
        say(Styled(f"Needed for {path}", bold=True))
        where = [(n.where, "green") if n.where else ("MISSING", "bold red") for n in each]
        rows = [(n.kind.value, n.what, found) for n, found in zip(each, where, strict=True)]
        show_table(("kind", "what", "where"), rows)
    if wrong is not None:
        show_error(wrong, as_json=False)
        return wrong.exit_status
    say(Styled("Everything is in date" + (", and nothing is missing." if needs else "."), "green"))
    return EXIT_OK


def _load(options: CheckOptions, now: datetime) -> tuple[tuple[Item, ...], CollateralSet]:
    """Entries of a verified bundle, or of a folder of loose files."""
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
            CoreCode.BAD_USAGE,
            f"{path} is a file: want a folder of loose files, or a bundle, which is checked against"
            " --signer and --name: give both",
        )
    floor = NO_FLOOR
    if options.state is not None:
        with FloorFile.locked(options.state) as floors:
            floor = floors.read(options.name)
    signers = Signers(read_public_keys(options.signers), options.threshold)
    bundle = signers.verify(data, site=options.name, floor=floor, now=now)
    return bundle.items, bundle.collateral


def _wrong(
    items: Sequence[Item], needs: dict[str, tuple[Need, ...]], now: datetime
) -> AttestationError | None:
    """What a verifier would refuse first; None if there is nothing."""
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
