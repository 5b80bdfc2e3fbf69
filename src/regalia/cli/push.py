"""``regalia push``: a sealed model becomes a version in a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.cli.options import flag, json_option, signers_option
from regalia.cli.output import report, size_text
from regalia.cli.progress import progress_bar, termination_interrupts

if TYPE_CHECKING:
    from regalia.store.push import Pushed


@click.command()
@click.argument("sealed")
@click.argument("dest")
@signers_option
@flag("--replace", "Take the version's name from another one that has it.")
@json_option
def push(*, sealed: str, dest: str, signers: tuple[str, ...], replace: bool, as_json: bool) -> None:
    """Send a sealed model to a store of versions.

    SEALED is a directory, or any store that `regalia pull` reads. DEST names the new version:
    oci://HOST/REPOSITORY:NAME, s3://BUCKET/PREFIX:NAME or dir:FOLDER:NAME. Files that the store
    has are not sent again, and an interrupted push goes on where it ended. Without --signer any
    signer is accepted, and the output says so.
    """
    from regalia.cli.transfer import image_of, read_verified
    from regalia.store.locate import open_store, open_versions
    from regalia.store.push import push as send
    from regalia.store.reference import behind

    here = Path()
    with open_store(sealed, here, helpers=True) as source:
        data, manifest = read_verified(source, signers, 1)
        image = image_of(data, manifest)
        repository, reference = open_versions(dest, here, write=True)
        with (
            repository,
            termination_interrupts(),
            progress_bar("pushing", quiet=as_json) as progress,
        ):
            tag = _tag(reference)
            done = send(source, image, repository, tag, replace=replace, progress=progress)
        where = behind(repository.describe(), tag)
    _show(where, repository.describe(), done, as_json=as_json)


def _tag(reference: str | None) -> str:
    """The name of the new version. Raises UsageError if there is none."""
    from regalia.core.errors import CoreCode, UsageError
    from regalia.store.reference import is_digest

    if reference is None or is_digest(reference):
        raise UsageError(
            CoreCode.BAD_USAGE, "the destination names no version: write :NAME behind it"
        )
    return reference


def _show(where: str, place: str, done: Pushed, *, as_json: bool) -> None:
    facts: dict[str, object] = {
        "version": where,
        "pinned": f"{place}@{done.digest}",
        "sent_files": done.sent,
        "sent_bytes": done.sent_bytes,
        "kept_files": done.kept,
        "kept_bytes": done.kept_bytes,
    }
    if not as_json:
        facts = {
            "version": where,
            "pinned": facts["pinned"],
            "sent": f"{done.sent} files, {size_text(done.sent_bytes)}",
            "was there": f"{done.kept} files, {size_text(done.kept_bytes)}",
        }
    report("pushed", facts, as_json=as_json)
