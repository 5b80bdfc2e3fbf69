"""``regalia keygen``: signing keys, key-encryption keys, log keys."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regalia.cli.new_files import must_be_new, warn_if_readable, write_together
from regalia.cli.options import file_option, flag, json_option, option, together
from regalia.cli.output import show_columns, show_json, warn
from regalia.cli.passphrase import read_passphrase
from regalia.core.errors import CoreCode, UsageError

if TYPE_CHECKING:
    from regalia.crypto.sign import SigningKey


ALGORITHMS = ("ed25519", "p384", "ml-dsa-65-ed25519", "ml-dsa-65-p384")
_passphrase_file = file_option(
    "--passphrase-file FILE", "Read the passphrase from FILE (mode 600) instead of asking for it."
)
_protection = together(
    _passphrase_file,
    flag(
        "--dangerous-no-passphrase",
        "Write the private key unencrypted: whoever reads the file has the key.",
    ),
)
_out = file_option(
    "--out NAME",
    "Path without ending: NAME.key gets the private key (mode 600).",
    into="name",
    required=True,
)


@click.group()
def keygen() -> None:
    """Make signing keys and key-encryption keys.

    Private keys are written with mode 600, encrypted under a passphrase. Nothing is overwritten.
    """


@keygen.command("sign")
@_out
@option(
    f"--algorithm [{'|'.join(ALGORITHMS)}]",
    "Ed25519, or ECDSA P-384 with SHA-384; or either together with ML-DSA-65, where both must "
    "verify, for signatures that outlast quantum computers.",
    default="ed25519",
)
@_protection
@json_option
def sign(*, name: Path, algorithm: str, as_json: bool, **protection: Any) -> None:  # noqa: ANN401 - of _protection
    """Make a key that signs sealed models, policies and approvals.

    Writes NAME.key (PKCS #8 PEM) and NAME.pub (SubjectPublicKeyInfo PEM).
    """
    key = _generated(algorithm)
    pair = _Pair(key, f"{name}.key", f"{name}.pub")
    pair.write(key.verify_key.to_pem(), **protection)
    pair.show("fingerprint", str(key.verify_key.fingerprint), as_json=as_json)


@keygen.command("kek")
@option(
    "--key REF",
    "Which key to make: SCHEME:LOCATION#NAME, for example dev-file:PATH#NAME.",
    into="reference",
    required=True,
)
@_passphrase_file
@json_option
def kek(*, reference: str, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a key-encryption key (KEK), which wraps model keys."""
    from regalia.cli.key_stores import load_kit, secret_of, warn_of_store
    from regalia.keys.reference import parse_reference

    ref = parse_reference(reference)
    kit, folder = load_kit(ref.scheme), Path()
    is_new = kit.is_new(ref.location, folder)
    with secret_of(kit, passphrase_file, confirm=is_new) as secret:
        identity = kit.make_kek(ref.location, folder, secret, ref.name)
        with closing(kit.open(ref.location, folder, secret)) as store:
            warn_of_store(store)
    if Path(ref.location).is_file():
        warn_if_readable(Path(ref.location))
    if as_json:
        facts = {"store": ref.location, "name": ref.name, "id": str(identity), "created": is_new}
        show_json(facts)
        return
    where = f"{ref.location}{' (new)' if is_new else ''}"
    show_columns({"key store": where, "name": ref.name, "id": identity, "reference": ref})


@keygen.command("log")
@option(
    "--origin NAME",
    "The log's name, for example log.example.org/regalia. It is in every checkpoint.",
    required=True,
)
@option(
    f"--algorithm [{'|'.join(ALGORITHMS)}]",
    "Ed25519, which every tool for such logs verifies, or ml-dsa-65-ed25519. No log signs with "
    "another.",
    default="ed25519",
)
@_out
@_protection
@json_option
def log(*, origin: str, algorithm: str, name: Path, as_json: bool, **protection: Any) -> None:  # noqa: ANN401 - of _protection
    """Make the key with which a transparency log signs its checkpoints.

    Writes NAME.key (PKCS #8 PEM) and NAME.vkey (C2SP signed-note verifier key), which goes into
    every runtime's and client's configuration.
    """
    from regalia.tlog.note import verifier_key_text

    key = _generated(algorithm)
    text = verifier_key_text(origin, key.verify_key)
    pair = _Pair(key, f"{name}.key", f"{name}.vkey")
    pair.write(text.encode() + b"\n", **protection)
    pair.show("log_key", text, as_json=as_json)


def _generated(algorithm: str) -> SigningKey:
    from regalia.crypto.sign import SigningKey

    makers = (
        SigningKey.generate_ed25519,
        SigningKey.generate_p384,
        SigningKey.generate_ml_dsa_65_ed25519,
        SigningKey.generate_ml_dsa_65_p384,
    )
    return dict(zip(ALGORITHMS, makers, strict=True))[algorithm]()


@dataclass(frozen=True, slots=True)
class _Pair:
    """A new key, and the files of its two halves."""

    key: SigningKey
    private: str
    public: str

    def write(
        self, public: bytes, *, passphrase_file: Path | None, dangerous_no_passphrase: bool
    ) -> None:
        """Write both files, neither over another."""
        private_path, public_path = Path(self.private), Path(self.public)
        must_be_new(private_path, public_path)
        if dangerous_no_passphrase:
            if passphrase_file is not None:
                raise UsageError(
                    CoreCode.BAD_USAGE, "--passphrase-file contradicts --dangerous-no-passphrase"
                )
            warn(f"DANGEROUS: {private_path} is not encrypted.")
            private = self.key.to_pem(None)
        else:
            with read_passphrase(passphrase_file, confirm=True) as passphrase:
                private = self.key.to_pem(passphrase)
        write_together((private_path, private, 0o600), (public_path, public, 0o644))
        warn_if_readable(private_path)

    def show(self, name: str, value: str, *, as_json: bool) -> None:
        """Say where the files are, and what others need to know of the key."""
        if as_json:
            show_json({"private": self.private, "public": self.public, name: value})
            return
        facts = {"private key": self.private, "public key": self.public}
        show_columns({**facts, name.replace("_", " "): value})
