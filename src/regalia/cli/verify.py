"""``regalia verify``: everything that can be checked of a sealed model without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regalia.cli.options import PATH, json_option, minimum_version_option, signers_option
from regalia.cli.output import show_facts, show_json
from regalia.cli.progress import progress_bar

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("sealed", type=PATH)
@signers_option
@minimum_version_option
@json_option
def verify(*, sealed: Path, signers: tuple[str, ...], minimum_version: int, as_json: bool) -> None:
    """Check a sealed model without any key.

    Signature, version, structure and the SHA-256 of every file. Without --signer any signer is
    accepted, and the output says so.
    """
    from regalia.cli import sealing
    from regalia.seal.check import verify_ciphertext
    from regalia.seal.manifest import verify_manifest
    from regalia.seal.writer import available_threads
    from regalia.store.local import LocalBlobs

    manifest = verify_manifest(
        sealing.read_manifest_file(sealed),
        signers=sealing.read_signers(signers),
        minimum_version=minimum_version,
    )
    sealing.warn_of_any_signer(manifest)
    with LocalBlobs(sealed) as blobs, progress_bar("verifying", quiet=as_json) as progress:
        threads = available_threads()
        verify_ciphertext(blobs, manifest, names=blobs.names(), threads=threads, progress=progress)
    if as_json:
        show_json(
            {
                "ok": True,
                "sealed": str(sealed),
                "verified": True,
                "signer_check": manifest.trusted,
                "minimum_version": minimum_version,
                **sealing.manifest_json(manifest.content),
            }
        )
        return
    facts = sealing.manifest_facts(manifest.content)
    facts += [
        ("signed by", sealing.signer_text(manifest)),
        ("checked", "signature, structure, all bytes"),
    ]
    show_facts(f"{sealed} holds", facts)
