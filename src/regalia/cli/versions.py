"""``regalia ls`` and ``regalia gc``: what a store of versions holds, and what it need not hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.cli.options import flag, json_option, number_option
from regalia.cli.output import report, say, show_json, show_table, size_text

if TYPE_CHECKING:
    from regalia.store.collect import Collected
    from regalia.store.repository import Repository

_HOURS_MAX = 24 * 366


@click.command("ls")
@click.argument("store")
@json_option
def ls(*, store: str, as_json: bool) -> None:
    """List the versions of a store.

    STORE is oci://HOST/REPOSITORY, s3://BUCKET/PREFIX or dir:FOLDER. Models and their versions
    are shown as whoever pushed them wrote them: nothing here is verified.
    """
    from regalia.store.locate import open_versions

    repository, _ = open_versions(store, Path())
    with repository:
        rows = [_row(repository, tag) for tag in repository.tags()]
        where = repository.describe()
    if as_json:
        show_json({"ok": True, "store": where, "versions": rows})
    elif rows:
        headings = ("version", "files", "bytes", "model's version", "model", "digest")
        names = ("name", "files", "bytes", "model_version", "model_id", "digest")
        show_table(headings, [tuple(str(row.get(name, "")) for name in names) for row in rows])
    else:
        say(f"{where} has no versions")


def _row(repository: Repository, tag: str) -> dict[str, object]:
    """Facts of one version; of one that cannot be read, why."""
    from regalia.core.errors import IntegrityError, ParseError, UnavailableError

    try:
        digest, image = repository.load(tag)
    except (IntegrityError, ParseError, UnavailableError) as exc:
        return {"name": tag, "model_id": exc.code.name, "error": exc.as_dict()}
    return {
        "name": tag,
        "digest": str(digest),
        "files": len(image.blobs),
        "bytes": sum(blob.size for blob in image.blobs),
        "model_id": image.label.model_id,
        "model_version": image.label.version,
    }


@click.command("gc")
@click.argument("store")
@flag("--delete", "Remove it. Without this, the command only shows what would go.")
@number_option(
    "--grace-hours N",
    "Keep what is younger. A push that takes longer may have to send files again.",
    7,
    _HOURS_MAX,
    default=24,
)
@json_option
def gc(*, store: str, delete: bool, grace_hours: int, as_json: bool) -> None:
    """Remove what no version of a store refers to.

    STORE is s3://BUCKET/PREFIX or dir:FOLDER; a registry collects by itself. Nothing is removed
    without --delete.
    """
    from regalia.core.errors import UnavailableError
    from regalia.store.collect import collect
    from regalia.store.locate import open_versions
    from regalia.store.names import StoreCode
    from regalia.store.repository import ObjectRepository

    repository, _ = open_versions(store, Path())
    with repository:
        if not isinstance(repository, ObjectRepository):
            raise UnavailableError(
                StoreCode.STORE_CANNOT,
                f"{repository.describe()}: registries list no blobs; they collect by themselves",
            )
        done = collect(repository, grace_s=grace_hours * 3600, remove=delete)
    _show(done, delete=delete, as_json=as_json)


def _show(done: Collected, *, delete: bool, as_json: bool) -> None:
    if as_json:
        show_json({"ok": True, "deleted": delete, **done._asdict()})
        return
    for key in done.blobs:
        say(f"{'removed' if delete else 'would remove'} {key}")
    facts = {
        "blobs": f"{len(done.blobs)}, {size_text(done.blob_bytes)}",
        "unreferenced, too young": done.kept_young,
        "pushes without an end": len(done.pushes),
    }
    if delete:
        facts["uploads without an end"] = len(done.uploads)
    report("removed" if delete else "would remove; give --delete to do so", facts, as_json=False)
