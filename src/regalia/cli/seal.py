"""``regalia seal``: a model directory becomes a sealed model."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from regalia.cli.key_files import read_signing_key
from regalia.cli.options import (
    PATH,
    VERSION_MAX,
    file_option,
    flag,
    json_option,
    number_option,
    option,
    path_option,
    store_passphrase_option,
)
from regalia.cli.output import show_facts, show_json, size_text, warn
from regalia.cli.progress import progress_bar, termination_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.seal.writer import SealResult


@click.command()
@click.argument("model_dir", type=PATH)
@path_option(
    "--out SEALED",
    "New directory for the sealed model. It appears whole, at the end, or not at all.",
    required=True,
)
@option(
    "--key REF",
    "Key-encryption key that wraps the model key: SCHEME:LOCATION#NAME.",
    into="reference",
    required=True,
)
@number_option(
    "--version N",
    "Version of the model; higher than that of every version sealed before.",
    1,
    VERSION_MAX,
    required=True,
)
@file_option(
    "--sign KEY", "Your signing key (NAME.key from `regalia keygen sign`).", into="signing_key_file"
)
@store_passphrase_option
@file_option(
    "--sign-passphrase-file FILE",
    "Passphrase of the signing key: a file of mode 600, instead of asking.",
)
@path_option(
    "--base SEALED",
    "Seal an adapter (LoRA) for this sealed model of yours: its folder, or its manifest.json.",
)
@path_option(
    "--follow-links-into FOLDER",
    "Follow links to files in FOLDER. A hub cache's snapshot needs no word for its own blobs.",
    into="links_into",
)
@flag(
    "--leave-out-unneeded",
    "Leave out what no engine needs beside safetensors: original/, pickles, other formats.",
)
@flag(
    "--restart",
    "Discard what an interrupted run has left for SEALED, instead of continuing it.",
)
@json_option
def seal(
    *,
    model_dir: Path,
    out: Path,
    reference: str,
    version: int,
    signing_key_file: Path | None,
    passphrase_file: Path | None,
    sign_passphrase_file: Path | None,
    base: Path | None,
    links_into: Path | None,
    leave_out_unneeded: bool,
    restart: bool,
    as_json: bool,
) -> None:
    """Encrypt a model directory into a sealed model.

    Every file of the directory is sealed: weights, configuration, tokenizer; not what version
    control and downloads keep beside them (.git, .cache), which is named. Names, sizes of
    single files and tensor shapes are encrypted too. A fresh model key is made for each sealing and
    leaves this process only wrapped under the key that --key names.

    An adapter (LoRA) is sealed on its own, for the one model that --base names: the manifest says
    so under your signature, and runtimes merge it into no other.

    A run that is interrupted keeps its whole shards. The same command continues with the next
    one, after it has checked that the files are still the same.
    """
    from regalia.cli.sealing import open_key_store, read_base
    from regalia.seal.scan import ScanOptions
    from regalia.seal.writer import SealOptions, available_threads, seal_model

    signing_key = None
    if signing_key_file is not None:
        signing_key = read_signing_key(signing_key_file, sign_passphrase_file)
    options = SealOptions(
        version=version,
        threads=available_threads(),
        contents=ScanOptions(links_into, leave_out_unneeded),
        restart=restart,
        base=None if base is None else read_base(base, signing_key),
    )
    with (
        open_key_store(reference, passphrase_file) as owner,
        _telling_what_is_left(out),
        termination_interrupts(),
        progress_bar("sealing", quiet=as_json) as progress,
    ):
        result = seal_model(
            model_dir,
            out,
            options,
            wrap=owner.wrap,
            unwrap=owner.recover,
            signing_key=signing_key,
            progress=progress,
        )
    if result.continued:
        warn(f"continued an interrupted run, which had sealed {_shards(result.continued)}")
    for name in result.removed_leftovers:
        warn(f"removed {name}, which an interrupted run had left behind")
    if result.left_out:
        warn(f"left out, as not part of a model: {', '.join(result.left_out)}")
    if result.unneeded:
        warn(
            f"no engine needs {', '.join(result.unneeded)}; --leave-out-unneeded seals the model"
            " without"
        )
    if not result.safetensors:
        warn(
            f"no weights: no file in {model_dir} ends in .safetensors, so the transformers engine"
            " will refuse this model (ENGINE_NEEDS_SAFETENSORS)"
        )
    if signing_key is None:
        warn("UNSIGNED: `regalia verify` and every runtime will refuse this; seal with --sign KEY")
    _show(result, model_dir, out, as_json=as_json)


@contextmanager
def _telling_what_is_left(out: Path) -> Iterator[None]:
    """Say how to go on after a run that ended early."""
    from regalia.seal.unfinished import unfinished_sealing

    try:
        yield
    except BaseException:
        left = unfinished_sealing(out) if out.parent.is_dir() and not out.exists() else None
        if left is not None:
            name, whole = left
            warn(
                f"{_shards(whole)} kept in {name}: the same command continues, and --restart"
                " discards"
            )
        raise


def _shards(count: int) -> str:
    return "1 shard" if count == 1 else f"{count} shards"


def _show(result: SealResult, model_dir: Path, out: Path, *, as_json: bool) -> None:
    from regalia.cli.sealing import manifest_facts, manifest_json

    body = manifest_json(result.manifest)
    if as_json:
        counts = {
            "files_sealed": result.files,
            "left_out": list(result.left_out),
            "unneeded": list(result.unneeded),
            "continued_shards": result.continued,
        }
        show_json({"ok": True, "sealed": str(out), **counts, **body})
        return
    files = ("files", f"{result.files}, {size_text(result.plaintext_size)}")
    signer = ("signed by", str(body["signer"] or "nobody"))
    show_facts(f"sealed {model_dir} into {out}", [files, *manifest_facts(result.manifest), signer])
