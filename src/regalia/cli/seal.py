"""``regalia seal``: a model directory becomes a sealed model."""

from __future__ import annotations

from pathlib import Path

import click

from regalia.cli.facts import progress_bar, show_facts, size_text, termination_interrupts, warn
from regalia.cli.output import show_json

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("model_dir", type=_FOLDER)
@click.option(
    "--out",
    required=True,
    type=_FOLDER,
    metavar="SEALED",
    help="New directory for the sealed model. It appears whole, at the end, or not at all.",
)
@click.option(
    "--key",
    "reference",
    required=True,
    metavar="REF",
    help="Key-encryption key that wraps the model key: dev-file:PATH#NAME.",
)
@click.option(
    "--version",
    required=True,
    type=click.IntRange(1, (1 << 53) - 1),
    metavar="N",
    help="Version of the model; higher than that of every version sealed before.",
)
@click.option(
    "--sign",
    "signing_key_file",
    type=_FILE,
    metavar="KEY",
    help="Your signing key (NAME.key from `regalia keygen sign`).",
)
@click.option(
    "--passphrase-file",
    type=_FILE,
    metavar="FILE",
    help="Passphrase of the key store: a file of mode 600, instead of asking.",
)
@click.option(
    "--sign-passphrase-file",
    type=_FILE,
    metavar="FILE",
    help="Passphrase of the signing key: a file of mode 600, instead of asking.",
)
@click.option(
    "--follow-links-into",
    "links_into",
    type=_FOLDER,
    metavar="FOLDER",
    help="Follow links to files in FOLDER; a hub cache keeps a snapshot's files in ../../blobs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def seal(
    *,
    model_dir: Path,
    out: Path,
    reference: str,
    version: int,
    signing_key_file: Path | None,
    passphrase_file: Path | None,
    sign_passphrase_file: Path | None,
    links_into: Path | None,
    as_json: bool,
) -> None:
    """Encrypt a model directory into a sealed model.

    Every file of the directory is sealed: weights, configuration, tokenizer; not what version
    control and downloads keep beside them (.git, .cache), which is named. Names, sizes of
    single files and tensor shapes are encrypted too. A fresh model key is made in each run and
    leaves this process only wrapped under the key that --key names.
    """
    from regalia.cli.sealing import manifest_facts, manifest_json, open_key_store, read_signing_key
    from regalia.seal.writer import SealOptions, available_threads, seal_model

    signing_key = None
    if signing_key_file is not None:
        signing_key = read_signing_key(signing_key_file, sign_passphrase_file)
    with (
        open_key_store(reference, passphrase_file) as owner,
        termination_interrupts(),
        progress_bar("sealing", quiet=as_json) as progress,
    ):
        result = seal_model(
            model_dir,
            out,
            SealOptions(version=version, threads=available_threads(), links_into=links_into),
            wrap=owner.wrap,
            signing_key=signing_key,
            progress=progress,
        )
    for name in result.removed_leftovers:
        warn(f"removed {name}, which an interrupted run had left behind")
    if result.left_out:
        warn(f"left out, as not part of a model: {', '.join(result.left_out)}")
    if signing_key is None:
        warn("UNSIGNED: `regalia verify` and every runtime will refuse this; seal with --sign KEY")
    if as_json:
        body = manifest_json(result.manifest)
        counts = {"files_sealed": result.files, "left_out": list(result.left_out)}
        show_json({"ok": True, "sealed": str(out), **counts, **body})
        return
    facts = manifest_facts(result.manifest)
    facts.insert(0, ("files", f"{result.files}, {size_text(result.plaintext_size)}"))
    signer = "nobody" if signing_key is None else str(signing_key.verify_key.fingerprint)
    facts.append(("signed by", signer))
    show_facts(f"sealed {model_dir} into {out}", facts)
