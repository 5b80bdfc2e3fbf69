"""Opens key stores for commands of the owner."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from regalia.cli.output import Styled, say
from regalia.cli.passphrase import read_passphrase
from regalia.core.errors import CoreCode, UsageError
from regalia.host import plugins
from regalia.keys.base import Kit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.keys.base import KeyStore


def load_kit(scheme: str) -> Kit:
    """The plug-in for one kind of key stores.

    Args:
        scheme: first word of a key reference.

    Raises:
        UsageError: PLUGIN_UNKNOWN or EXTRA_MISSING.
    """
    kit = plugins.load(plugins.KEY_STORES, scheme)
    if not isinstance(kit, Kit):
        raise UsageError(CoreCode.PLUGIN_UNKNOWN, f"key store {scheme!r} is no Kit")
    return kit


@contextmanager
def secret_of(kit: Kit, path: Path | None, *, confirm: bool) -> Iterator[SecretBytes | None]:
    """What opens the stores of a kit, or None if it asks for nothing; closed at the end.

    Args:
        kit: of the store.
        path: file that holds the secret; None to ask for it.
        confirm: ask twice, as the secret protects something new.

    Raises:
        UsageError, LocalError: as ``read_passphrase``; BAD_USAGE for a file that nothing asks for.
    """
    if kit.asks is None:
        if path is not None:
            raise UsageError(CoreCode.BAD_USAGE, "--passphrase-file: this key store asks for none")
        yield None
        return
    with read_passphrase(path, confirm=confirm, name=kit.asks) as secret:
        yield secret


def warn_of_store(store: KeyStore) -> None:
    """Show the store's warning, if it has one."""
    if store.banner is not None:
        say(Styled(store.banner, "yellow"), err=True)
