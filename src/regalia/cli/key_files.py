"""Reads key files: public keys, and private keys with their passphrases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.cli.passphrase import read_passphrase
from regalia.core.errors import ParseError
from regalia.host.localfs import read_file, read_private_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from regalia.crypto.sign import SigningKey, VerifyKey

_PEM_LIMIT = 64 * 1024  # bytes


def read_public_keys(paths: Iterable[Path]) -> tuple[VerifyKey, ...]:
    """Read public keys in PEM form. Raises ParseError or LocalError."""
    return tuple(_read_public_key(path) for path in paths)


def _read_public_key(path: Path) -> VerifyKey:
    """A refusal names the file, and says what it seems to be without showing anything of it."""
    from regalia.cli.wrong_file import PRIVATE_KEY, seems_to_be
    from regalia.crypto.sign import VerifyKey

    pem = read_file(path, limit=_PEM_LIMIT)
    try:
        return VerifyKey.from_pem(pem)
    except ParseError as exc:
        seems = seems_to_be(pem)
        what = f"{path}: {exc.what}"
        if seems == PRIVATE_KEY:
            what = f"{path} is a private key; want its public half, {path.with_suffix('.pub').name}"
        elif seems is not None:
            what = f"{what}; it seems to be {seems}"
        raise ParseError(exc.code, what) from exc


def read_signing_keys(
    paths: Iterable[Path], passphrase_file: Path | None
) -> tuple[SigningKey, ...]:
    """Read private keys. Args and Raises as ``read_signing_key``."""
    return tuple(read_signing_key(path, passphrase_file) for path in paths)


def read_signing_key(path: Path, passphrase_file: Path | None) -> SigningKey:
    """Read a private signing key; ask for its passphrase only if it is encrypted.

    Args:
        path: of the key.
        passphrase_file: of the key; None to ask for it.

    Raises:
        LocalError: the file is missing, or others may read it.
        KeyAccessError: SIGNING_KEY_UNUSABLE.
    """
    from regalia.crypto.sign import SigningKey

    pem = read_private_file(path, limit=_PEM_LIMIT)
    if b"ENCRYPTED" not in pem:
        return SigningKey.from_pem(pem, None)
    with read_passphrase(passphrase_file, confirm=False) as passphrase:
        return SigningKey.from_pem(pem, passphrase)
