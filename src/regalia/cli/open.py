"""``regalia open``: the owner's recovery. Writes plaintext weights to disk, and says so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from regalia.cli.options import (
    PATH,
    flag,
    json_option,
    minimum_version_option,
    option,
    path_option,
    signers_option,
    store_passphrase_option,
)
from regalia.cli.output import show_facts, show_json, size_text, warn
from regalia.cli.progress import progress_bar, termination_interrupts

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.seal.manifest import VerifiedManifest
    from regalia.seal.recover import RecoverResult


@click.command("open")
@click.argument("sealed", type=PATH)
@path_option("--out FOLDER", "New directory (mode 700) for the files in clear.", required=True)
@option(
    "--key REF",
    "Key-encryption key that the model was sealed with: SCHEME:LOCATION#NAME.",
    into="reference",
    required=True,
)
@signers_option
@flag(
    "--dangerous-unsigned",
    "Open a model that was sealed without --sign: only the key says whose it is.",
)
@minimum_version_option
@store_passphrase_option
@flag("--yes", "Do not ask before writing plaintext.")
@json_option
def open_(
    *,
    sealed: Path,
    out: Path,
    reference: str,
    signers: tuple[str, ...],
    dangerous_unsigned: bool,
    minimum_version: int,
    passphrase_file: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Owner's recovery: write a sealed model in clear.

    Needs the key-encryption key. Every file's digest and the model id are checked before the
    directory appears.
    """
    from regalia.cli import sealing
    from regalia.core.errors import CoreCode, UsageError
    from regalia.seal.manifest import DANGEROUS_UNSIGNED, verify_manifest

    if dangerous_unsigned and signers:
        raise UsageError(CoreCode.BAD_USAGE, "--dangerous-unsigned contradicts --signer")
    manifest = verify_manifest(
        sealing.read_manifest_file(sealed),
        signers=DANGEROUS_UNSIGNED if dangerous_unsigned else sealing.read_signers(signers),
        minimum_version=minimum_version,
    )
    sealing.warn_of_any_signer(manifest)
    if manifest.signer is None:
        warn("DANGEROUS: nobody signed this sealed model; only its key says whose it is")
    with (
        sealing.open_key_store(reference, passphrase_file) as owner,
        owner.unwrap(manifest) as model_key,
    ):
        warn(f"This writes the model's weights in clear to {out}. Whoever reads them has them.")
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError(CoreCode.BAD_USAGE, "without a terminal to ask, give --yes")
            click.confirm("Write plaintext?", abort=True, err=True)
        result = _recover(sealed, manifest, model_key, out, quiet=as_json)
    for name in result.removed_leftovers:
        warn(f"removed {name}, plaintext that an interrupted run had left behind")
    _show(sealed, manifest, out, result, as_json=as_json)


def _recover(
    sealed: Path, manifest: VerifiedManifest, model_key: SecretBytes, out: Path, *, quiet: bool
) -> RecoverResult:
    from regalia.seal.recover import recover_files
    from regalia.seal.writer import available_threads
    from regalia.store.local import LocalBlobs

    with (
        LocalBlobs(sealed) as blobs,
        termination_interrupts(),
        progress_bar("opening", quiet=quiet) as progress,
    ):
        return recover_files(
            blobs, manifest, model_key, out, threads=available_threads(), progress=progress
        )


def _show(
    sealed: Path, manifest: VerifiedManifest, out: Path, result: RecoverResult, *, as_json: bool
) -> None:
    from regalia.cli.sealing import signer_text

    model_id, version = str(manifest.content.model_id), manifest.content.version
    if as_json:
        show_json(
            {
                "ok": True,
                "sealed": str(sealed),
                "out": str(out),
                "model_id": model_id,
                "version": version,
                "signer": None if manifest.signer is None else str(manifest.signer),
                "signer_check": manifest.trusted,
                "files": result.files,
                "plaintext_bytes": result.plaintext_size,
            }
        )
        return
    show_facts(
        f"opened {sealed} into {out}",
        [
            ("model id", model_id),
            ("version", str(version)),
            ("files", f"{result.files}, {size_text(result.plaintext_size)}"),
            ("signed by", signer_text(manifest)),
            ("checked", "every chunk, every file's SHA-256, the model id"),
        ],
    )
