"""``regalia collateral export`` and ``sign``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.cli.collateral.input import Signers, read_items
from regalia.cli.key_files import read_public_keys, read_signing_keys
from regalia.cli.new_files import must_be_new
from regalia.cli.output import report, show_facts, show_json, warn
from regalia.core.clock import rfc3339
from regalia.core.errors import CoreCode, UsageError
from regalia.crypto.dsse import LIMIT
from regalia.host.clock import system_clock
from regalia.host.localfs import read_file, write_new
from regalia.verifier.collateral import (
    add_signatures,
    make_bundle,
    peek_bundle,
)

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.crypto.sign import VerifyKey
    from regalia.verifier.collateral import Item, VerifiedBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The command's options."""

    folder: Path
    out: Path
    name: str | None
    serial: int | None
    next_update: datetime
    after: Path | None
    tcb_floor: int | None
    sign_with: tuple[Path, ...]
    passphrase_file: Path | None
    signers: tuple[Path, ...]
    as_json: bool


def export_folder(options: ExportOptions) -> None:
    """Make a bundle of a folder.

    Raises:
        UsageError: something is missing on the command line.
        ParseError, LocalError: a file cannot be read as collateral.
        AttestationError: COLLATERAL_ROLLBACK, it would go back behind --after.
    """
    if not options.sign_with:
        raise UsageError(CoreCode.BAD_USAGE, "name a private key with --sign")
    must_be_new(options.out)
    now = system_clock()
    if options.next_update <= now:
        raise UsageError(CoreCode.BAD_USAGE, "--next-update has passed already")
    items = read_items(options.folder, now=now)
    keys = read_signing_keys(options.sign_with, options.passphrase_file)
    mine = tuple(key.verify_key for key in keys)
    before = _before(options, read_public_keys(options.signers) or mine)
    data = make_bundle(
        items,
        name=_name(options, before),
        serial=_serial(options, before),
        issued=now,
        next_update=options.next_update,
        tcb_evaluation_data_number=_tcb_floor(options, items, before),
        keys=keys,
    )
    made = peek_bundle(data)
    if before is not None:
        before.floor.require(made.document, made.digest)
    write_new(options.out, data)
    for item in items:
        if item.valid_until is not None and item.valid_until < now:
            warn(f"{item.kind} {item.name} ended at {rfc3339(item.valid_until)}")
    facts: dict[str, object] = {
        "out": str(options.out),
        "name": made.document.name,
        "serial": made.document.serial,
        "next_update": made.document.next_update,
        "entries": len(made.items),
        "digest": str(made.digest),
        "signed_by": list(made.signers),
    }
    report("Made a bundle", facts, as_json=options.as_json)


def _before(options: ExportOptions, signers: tuple[VerifyKey, ...]) -> VerifiedBundle | None:
    """The bundle given with --after. It may have expired, so it is verified as of its issue."""
    if options.after is None:
        return None
    return Signers(signers, 1).verify_as_issued(read_file(options.after, limit=LIMIT), options.name)


def _name(options: ExportOptions, before: VerifiedBundle | None) -> str:
    if options.name is not None:
        return options.name
    if before is None:
        raise UsageError(CoreCode.BAD_USAGE, "say for which site the bundle is with --name")
    return before.document.name


def _serial(options: ExportOptions, before: VerifiedBundle | None) -> int:
    if options.serial is not None:
        return options.serial
    if before is None:
        raise UsageError(
            CoreCode.BAD_USAGE, "give --serial, or the bundle that this one follows with --after"
        )
    return before.document.serial + 1


def _tcb_floor(
    options: ExportOptions, items: tuple[Item, ...], before: VerifiedBundle | None
) -> int:
    """The number given, or else the lowest one in the items, but never less than the last floor."""
    if options.tcb_floor is not None:
        return options.tcb_floor
    numbers = [
        item.tcb_evaluation_data_number
        for item in items
        if item.tcb_evaluation_data_number is not None
    ]
    least = 0 if before is None else before.document.floors.tcb_evaluation_data_number
    return max(min(numbers, default=0), least)


def sign_bundle(
    *,
    bundle: Path,
    sign_with: tuple[Path, ...],
    passphrase_file: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Add signatures.

    Args:
        bundle: path of the bundle.
        sign_with: paths of private keys.
        passphrase_file: of those keys; None to ask for it.
        out: where to; it must not exist.
        as_json: print for programs.

    Raises:
        UsageError, ParseError, LocalError, KeyAccessError.
    """
    if not sign_with:
        raise UsageError(CoreCode.BAD_USAGE, "name a private key with --sign")
    must_be_new(out)
    data = add_signatures(
        read_file(bundle, limit=LIMIT), read_signing_keys(sign_with, passphrase_file)
    )
    write_new(out, data)
    found = peek_bundle(data)
    if as_json:
        show_json({"ok": True, "out": str(out), "signed_by": list(found.signers)})
        return
    signers = list(found.signers)
    show_facts(f"{out} holds", [("digest", found.digest), ("signed by", signers)])
