"""``regalia keys``: what a key store can do, and moving sealed models to another KEK."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.cli.key_files import read_signing_key
from regalia.cli.options import (
    PATH,
    file_option,
    json_option,
    option,
    store_passphrase_option,
)
from regalia.cli.output import say, show_json, show_table, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.cli.rotation import Rotation

EXIT_LACKING = 11


@click.group()
def keys() -> None:
    """Examine key stores, and move sealed models to other KEKs."""


@keys.command("doctor")
@click.argument("reference", metavar="REF")
@store_passphrase_option
@json_option
def doctor(*, reference: str, passphrase_file: Path | None, as_json: bool) -> int:
    """Show what a key store can and cannot do with a KEK.

    REF is SCHEME:LOCATION#NAME. Everything is tried on throw-away keys, and nothing is kept. The
    exit status is 11 if the store lacks something.
    """
    from regalia.cli.key_stores import load_kit, secret_of
    from regalia.keys.reference import parse_reference

    ref = parse_reference(reference)
    kit = load_kit(ref.scheme)
    with secret_of(kit, passphrase_file, confirm=False) as secret:
        found = kit.examine(ref.location, Path(), secret, ref.name)
    lacking = [ability.name for ability in found if not ability.holds]
    if as_json:
        rows = [{"name": each.name, "holds": each.holds, "shown": each.shown} for each in found]
        show_json({"ok": not lacking, "key": str(ref), "abilities": rows})
    else:
        words = {True: ("yes", "green"), False: ("no", "yellow")}
        show_table(
            ("this store", "", "shown by"),
            [(each.name, words[each.holds], each.shown) for each in found],
        )
        say("Nothing is lacking." if not lacking else f"Lacking: {', '.join(lacking)}.")
    return EXIT_LACKING if lacking else 0


@keys.command("rotate")
@click.argument("sealed", type=PATH, nargs=-1, required=True)
@option("--key REF", "Key-encryption key that the models were sealed with.", required=True)
@option("--to REF", "Key-encryption key that is to wrap their model keys.", required=True)
@file_option("--sign KEY", "Your signing key (NAME.key), which signed the models.", required=True)
@store_passphrase_option
@file_option(
    "--to-passphrase-file FILE", "As --passphrase-file, of the store that --to names if another."
)
@file_option(
    "--sign-passphrase-file FILE",
    "Passphrase of the signing key: a file of mode 600, instead of asking.",
)
@json_option
def rotate(
    *,
    sealed: tuple[Path, ...],
    key: str,
    to: str,
    sign: Path,
    passphrase_file: Path | None,
    to_passphrase_file: Path | None,
    sign_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Wrap the model keys of sealed models under another KEK.

    Each manifest is replaced by one that differs in the wrapped key and in your signature, and in
    nothing else: version, model id and shards stay, and runtimes go on with what they have. Give
    the new manifest to the broker. A run that was interrupted is run again; what is done already
    is left as it is. The old KEK still opens the old manifest wherever somebody has kept it.
    """
    from regalia.cli.rotation import rotate_folder

    owner = read_signing_key(sign, sign_passphrase_file)
    done: list[dict[str, object]] = []
    with _opened(key, to, passphrase_file, to_passphrase_file) as rotation:
        for folder in sealed:
            result = rotate_folder(folder, rotation, owner)
            done.append({"sealed": str(folder), "rotated": result.rotated, "kek": to})
            if result.lost_signatures:
                warn(
                    f"{folder}: {result.lost_signatures} more signatures were for the old manifest:"
                    " let the other owners countersign the new one"
                )
            if not as_json:
                say(f"{folder}  {'rotated' if result.rotated else 'was wrapped by that key'}")
    if as_json:
        show_json({"ok": True, "models": done})


@contextmanager
def _opened(
    key: str, to: str, passphrase_file: Path | None, to_passphrase_file: Path | None
) -> Iterator[Rotation]:
    """Open both stores, or the one: a process may have to log in to a store only once."""
    from regalia.cli.rotation import Rotation
    from regalia.cli.sealing import OwnerKey, open_key_store
    from regalia.core.errors import CoreCode, UsageError
    from regalia.keys.reference import parse_reference

    old, new = parse_reference(key), parse_reference(to)
    if old == new:
        raise UsageError(CoreCode.BAD_USAGE, "--key and --to name the same key")
    with open_key_store(key, passphrase_file) as source:
        if (old.scheme, old.location) == (new.scheme, new.location):
            source.store.kek_id(new.name)  # refuse a wrong name before anything is changed
            yield Rotation(source, OwnerKey(source.store, new.name))
            return
        with open_key_store(to, to_passphrase_file) as target:
            yield Rotation(source, target)
