"""``regalia keygen``: signing keys, key-encryption keys, log keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.cli.output import show_json
from regalia.cli.passphrase import read_passphrase
from regalia.core.errors import CoreCode, LocalError, UsageError
from regalia.host.localfs import write_new

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.crypto.sign import SigningKey

_FILE = click.Path(dir_okay=False, path_type=Path)

_out = click.option(
    "--out",
    "name",
    required=True,
    type=_FILE,
    metavar="NAME",
    help="Path without ending: NAME.key gets the private key (mode 600).",
)
_passphrase_file = click.option(
    "--passphrase-file",
    type=_FILE,
    metavar="FILE",
    help="Read the passphrase from FILE (mode 600) instead of asking for it.",
)
_no_passphrase = click.option(
    "--dangerous-no-passphrase",
    is_flag=True,
    help="Write the private key unencrypted: whoever reads the file has the key.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def keygen() -> None:
    """Make signing keys and key-encryption keys.

    Private keys are written with mode 600, encrypted under a passphrase. Nothing is overwritten.
    """


@keygen.command("sign")
@_out
@click.option(
    "--algorithm",
    type=click.Choice(["ed25519", "p384"]),
    default="ed25519",
    show_default=True,
    help="Ed25519, or ECDSA P-384 with SHA-384.",
)
@_passphrase_file
@_no_passphrase
@_json
def sign(
    *,
    name: Path,
    algorithm: str,
    passphrase_file: Path | None,
    dangerous_no_passphrase: bool,
    as_json: bool,
) -> None:
    """Make a key that signs sealed models, policies and approvals.

    Writes NAME.key (PKCS #8 PEM) and NAME.pub (SubjectPublicKeyInfo PEM).
    """
    from regalia.crypto.sign import SigningKey

    private, public = _with_ending(name, ".key"), _with_ending(name, ".pub")
    _must_be_new(private, public)
    make = SigningKey.generate_p384 if algorithm == "p384" else SigningKey.generate_ed25519
    key = make()
    _write_private(private, key, passphrase_file, no_passphrase=dangerous_no_passphrase)
    write_new(public, key.verify_key.to_pem())
    fingerprint = str(key.verify_key.fingerprint)
    if as_json:
        show_json({"private": str(private), "public": str(public), "fingerprint": fingerprint})
        return
    click.echo(f"private key  {private}\npublic key   {public}\nfingerprint  {fingerprint}")


@keygen.command("kek")
@click.option(
    "--key",
    "reference",
    required=True,
    metavar="REF",
    help="Which key to make: dev-file:PATH#NAME. The key store is created if it is absent.",
)
@_passphrase_file
@_json
def kek(*, reference: str, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a key-encryption key (KEK), which wraps model keys."""
    from regalia.keys.devfile import SCHEME, create_store, open_store
    from regalia.keys.reference import parse_reference

    ref = parse_reference(reference)
    if ref.scheme != SCHEME:
        raise UsageError(
            CoreCode.BAD_USAGE, f"{ref.scheme}: this command makes keys in {SCHEME}: stores only"
        )
    path = Path(ref.location)
    is_new = not path.exists()
    with read_passphrase(passphrase_file, confirm=is_new) as passphrase:
        store = create_store(path, passphrase) if is_new else open_store(path, passphrase)
    with store:
        click.echo(click.style(store.banner, fg="yellow"), err=True)
        identity = store.add_kek(ref.name)
    if as_json:
        show_json({"store": str(path), "name": ref.name, "id": str(identity), "created": is_new})
        return
    click.echo(f"key store  {path}{' (new)' if is_new else ''}\nname       {ref.name}")
    click.echo(f"id         {identity}\nreference  {ref}")


@keygen.command("log")
@click.option(
    "--origin",
    required=True,
    metavar="NAME",
    help="The log's name, for example log.example.org/regalia. It is in every checkpoint.",
)
@_out
@_passphrase_file
@_no_passphrase
@_json
def log(
    *,
    origin: str,
    name: Path,
    passphrase_file: Path | None,
    dangerous_no_passphrase: bool,
    as_json: bool,
) -> None:
    """Make the key with which a transparency log signs its checkpoints.

    Writes NAME.key (PKCS #8 PEM, Ed25519) and NAME.vkey (C2SP signed-note verifier key), which
    goes into every runtime's and client's configuration.
    """
    from regalia.crypto.sign import SigningKey
    from regalia.tlog.note import verifier_key_text

    private, public = _with_ending(name, ".key"), _with_ending(name, ".vkey")
    _must_be_new(private, public)
    key = SigningKey.generate_ed25519()
    text = verifier_key_text(origin, key.verify_key)
    _write_private(private, key, passphrase_file, no_passphrase=dangerous_no_passphrase)
    write_new(public, text.encode() + b"\n")
    if as_json:
        show_json({"private": str(private), "public": str(public), "log_key": text})
        return
    click.echo(f"private key  {private}\npublic key   {public}\nlog key      {text}")


def _with_ending(name: Path, ending: str) -> Path:
    return name.with_name(name.name + ending)


def _must_be_new(*paths: Path) -> None:
    """Refuse before anything is written or asked."""
    for path in paths:
        if path.exists():
            raise LocalError(CoreCode.FILE_EXISTS, f"{path} exists")


def _write_private(
    path: Path, key: SigningKey, passphrase_file: Path | None, *, no_passphrase: bool
) -> None:
    passphrase: SecretBytes | None = None
    if no_passphrase:
        if passphrase_file is not None:
            raise UsageError(
                CoreCode.BAD_USAGE, "--passphrase-file contradicts --dangerous-no-passphrase"
            )
        click.echo(
            click.style(f"DANGEROUS: {path} is not encrypted.", fg="yellow", bold=True), err=True
        )
    else:
        passphrase = read_passphrase(passphrase_file, confirm=True)
    try:
        write_new(path, key.to_pem(passphrase), mode=0o600)
    finally:
        if passphrase is not None:
            passphrase.close()
