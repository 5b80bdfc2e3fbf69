"""``regalia collateral import``: verified, then installed whole or not at all.

    DIR/collateral.bundle       what services read
    DIR/collateral.previous     the one before
    DIR/collateral-floor.json   the newest serial number that was ever there

One file is one rename, so a reader sees the old bundle or the new one. The floor is raised last:
whoever reads the bundle before that raises it as well.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from regalia.cli.collateral.input import INSTALLED, Signers
from regalia.cli.key_files import read_public_keys
from regalia.cli.output import show_facts, show_json, show_table, warn
from regalia.client.collateral import FloorFile
from regalia.core.clock import rfc3339
from regalia.core.errors import CoreCode, RegaliaError, UsageError
from regalia.core.types import Digest
from regalia.crypto.dsse import LIMIT
from regalia.host.clock import system_clock
from regalia.host.events import ServiceEvent, emit
from regalia.host.localfs import os_errors, read_file, replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.verifier.collateral import Item, VerifiedBundle

PREVIOUS = "collateral.previous"


def import_bundle(
    *,
    bundle: Path,
    into: Path,
    signers: tuple[Path, ...],
    threshold: int,
    name: str | None,
    as_json: bool,
) -> None:
    """Verify and install.

    Args:
        bundle: its path.
        into: the folder to install into.
        signers: public keys of those who may have signed it.
        threshold: how many of them must have.
        name: of the site that it must be for.
        as_json: print for programs.

    Raises:
        UsageError: nobody is named who may have signed it, or no site.
        RegaliaError: it does not verify, or cannot be installed; nothing has changed then.
    """
    if not signers:
        raise UsageError(CoreCode.BAD_USAGE, "name a public key that may sign it with --signer")
    data, keys = read_file(bundle, limit=LIMIT), read_public_keys(signers)
    with os_errors(into):
        into.mkdir(parents=True, exist_ok=True)
    with FloorFile.locked(into) as floors:
        site = name or floors.name()
        if site is None:
            raise UsageError(CoreCode.BAD_USAGE, f"{into} is new: say for which site with --name")
        expected = Signers(keys, threshold)
        before = _installed(into, expected, site)
        try:
            verified = expected.verify(data, site=site, floor=floors.read(site), now=system_clock())
            if before is not None:
                before.floor.require(verified.document, verified.digest)
        except RegaliaError as exc:
            emit(ServiceEvent.COLLATERAL_REFUSED, name=site, file=str(bundle), code=exc.code.name)
            raise
        _install(into, data)
        floors.raise_to(verified)
    _tell(verified, before)
    _report(into, verified, before, as_json=as_json)


def _tell(verified: VerifiedBundle, before: VerifiedBundle | None) -> None:
    emit(
        ServiceEvent.COLLATERAL_INSTALLED,
        name=verified.document.name,
        serial=verified.document.serial,
        previous_serial=None if before is None else before.document.serial,
        digest=str(verified.digest),
        next_update=verified.document.next_update,
        entries=len(verified.items),
        signed_by=list(verified.signed_by),
    )


def _installed(into: Path, expected: Signers, site: str) -> VerifiedBundle | None:
    """The installed bundle, if the same signers signed it. It may have expired."""
    path = into / INSTALLED
    with os_errors(path):
        if not path.exists():
            return None
    data = read_file(path, limit=LIMIT)
    try:
        return expected.verify_as_issued(data, site)
    except RegaliaError as exc:
        warn(f"{path} does not verify and is replaced: {exc}")
        return None


def _install(into: Path, data: bytes) -> None:
    """Keep the current bundle as the previous one, then put the new one in its place."""
    current, previous = into / INSTALLED, into / PREVIOUS
    with os_errors(into):
        for left in (*into.glob(".collateral*"), *into.glob("..collateral*")):  # by a killed run
            left.unlink(missing_ok=True)
        same = current.exists() and read_file(current, limit=LIMIT) == data
        if current.exists() and not same:
            _keep(current, previous)
    if not same:
        replace_file(current, data)


def _keep(current: Path, previous: Path) -> None:
    link = current.with_name(f".{PREVIOUS}.{secrets.token_hex(8)}")
    try:
        link.hardlink_to(current)
    except OSError:  # FAT and some others know no second name of a file
        replace_file(previous, read_file(current, limit=LIMIT))
        return
    link.replace(previous)
    link.unlink(missing_ok=True)  # rename() does nothing if both names are the same file


def _report(
    into: Path, bundle: VerifiedBundle, before: VerifiedBundle | None, *, as_json: bool
) -> None:
    changes = changed(() if before is None else before.items, bundle.items)
    soonest = min((i.valid_until for i in bundle.items if i.valid_until is not None), default=None)
    facts = {
        "installed": str(into / INSTALLED),
        "name": bundle.document.name,
        "serial": bundle.document.serial,
        "previous_serial": None if before is None else before.document.serial,
        "next_update": bundle.document.next_update,
        "soonest_entry_ends": None if soonest is None else rfc3339(soonest),
        "signed_by": list(bundle.signed_by),
    }
    if as_json:
        names = ("kind", "name", "old", "new")
        body = [dict(zip(names, change, strict=True)) for change in changes]
        show_json({"ok": True, **facts, "changes": body})
        return
    show_facts("Installed", [(name, value) for name, value in facts.items() if value is not None])
    if changes:
        show_table(("kind", "name", "old", "new"), changes)


def changed(old: tuple[Item, ...], new: tuple[Item, ...]) -> list[tuple[str, str, str, str]]:
    """(kind, name, old, new) of every entry that is not the same in both; a dash is no entry.

    Args:
        old: entries that are installed.
        new: entries of the bundle.
    """
    before = {(item.kind.value, item.name): item for item in old}
    after = {(item.kind.value, item.name): item for item in new}
    return [
        (*key, _told(before.get(key)), _told(after.get(key)))
        for key in sorted(before.keys() | after.keys())
        if _content(before.get(key)) != _content(after.get(key))
    ]


def _content(item: Item | None) -> bytes | None:
    return None if item is None else item.content


def _told(item: Item | None) -> str:
    """Describe an item in a few words: its end, and the beginning of its digest."""
    if item is None:
        return "-"
    until = "" if item.valid_until is None else f"until {rfc3339(item.valid_until)} "
    return f"{until}sha256:{Digest.of(item.content).raw.hex()[:12]}"
