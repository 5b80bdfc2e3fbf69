"""``regalia inspect``: what anybody can see of a sealed model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regalia.cli.options import PATH, json_option
from regalia.cli.output import say, show_facts, show_json, show_table, size_text

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("sealed", type=PATH)
@json_option
def inspect(*, sealed: Path, as_json: bool) -> None:
    """Show what anybody can see of a sealed model.

    No key is needed, and nothing is checked: `regalia verify` does that. File names, tensor
    names and shapes are encrypted, so they are not here.
    """
    from regalia.cli import sealing
    from regalia.seal.manifest import peek_manifest

    manifest = peek_manifest(sealing.read_manifest_file(sealed))
    body = sealing.manifest_json(manifest)
    if as_json:
        show_json({"ok": True, "sealed": str(sealed), "verified": False, **body})
        return
    signer = body["signer"]
    claim = "nobody" if signer is None else f"{signer}, as it says of itself — not checked here"
    show_facts(f"{sealed}", [*sealing.manifest_facts(manifest), ("signed by", claim)])
    rows = [
        (name, size_text(f.size), f.digest.raw.hex())
        for name, f in sealing.manifest_files(manifest).items()
    ]
    show_table(("file", "size", "SHA-256"), rows)
    say("Nothing was verified. Next: regalia verify")
