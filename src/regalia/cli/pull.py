"""``regalia pull``: a sealed model from a store becomes a directory."""

from __future__ import annotations

from pathlib import Path

import click

from regalia.cli.options import (
    PATH,
    json_option,
    minimum_version_option,
    number_option,
    option,
)
from regalia.cli.output import report, size_text
from regalia.cli.progress import progress_bar, termination_interrupts

_THREADS_MAX = 64


@click.command()
@click.argument("source")
@click.argument("folder", type=PATH)
@option(
    "--signer PUB...",
    "Public key that must have signed (NAME.pub), or the word any.",
    into="signers",
    required=True,
)
@minimum_version_option
@number_option("--threads N", "Requests under way at the same time.", 1, _THREADS_MAX, default=4)
@json_option
def pull(
    *,
    source: str,
    folder: Path,
    signers: tuple[str, ...],
    minimum_version: int,
    threads: int,
    as_json: bool,
) -> None:
    """Fetch a sealed model from a store, and check it.

    SOURCE is a version (oci://HOST/REPOSITORY:NAME, s3://BUCKET/PREFIX:NAME, dir:FOLDER:NAME), or
    a folder with the files of one model (http(s)://…, s3://BUCKET/PREFIX, a directory). FOLDER is
    new, and appears when the signature and the SHA-256 of every file were checked; no key is
    needed. An interrupted pull goes on where it ended.
    """
    from regalia.cli.transfer import blobs_of, read_verified
    from regalia.core.errors import CoreCode, LocalError
    from regalia.store.locate import open_store
    from regalia.store.pull import pull as fetch

    if folder.exists():
        raise LocalError(CoreCode.FILE_EXISTS, f"{folder}: already exists")
    with (
        open_store(source, Path(), helpers=True) as blobs,
        termination_interrupts(),
        progress_bar("pulling", quiet=as_json) as progress,
    ):
        data, manifest = read_verified(blobs, signers, minimum_version)
        done = fetch(blobs, blobs_of(manifest), data, folder, threads=threads, progress=progress)
    content = manifest.content
    facts: dict[str, object] = {
        "folder": str(folder),
        "model_id": str(content.model_id),
        "version": content.version,
        "signer": str(manifest.signer),
        "signer_check": manifest.trusted,
    }
    if as_json:
        report("", {**facts, **done._asdict()}, as_json=True)
        return
    facts = {name.replace("_", " "): value for name, value in facts.items()}
    arrived = {
        "fetched": size_text(done.fetched_bytes),
        "was there": size_text(done.resumed_bytes),
        "checked": "signature, all bytes",
    }
    report("pulled", {**facts, **arrived}, as_json=False)
