"""Tries out what a login to a transit mount can do."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from regalia.core.errors import KeyAccessError, RegaliaError
from regalia.core.secret import SecretBytes
from regalia.keys.base import MODEL_KEY_SIZE, Ability
from regalia.keys.codes import KeysCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.keys.openbao.store import OpenBaoKeyStore

_PROBE = "regalia-key-00000000-" + "0" * 32  # the form of names that releases use
# What gives a model key or a KEK in clear to whoever may do it.
_IN_CLEAR = (f"export/encryption-key/{_PROBE}", f"backup/{_PROBE}")


def examine(store: OpenBaoKeyStore, name: str) -> list[Ability]:
    """What this login can and cannot do with one KEK. Nothing is kept.

    Args:
        store: open.
        name: of the KEK.

    Raises:
        RegaliaError: the KEK cannot be used at all.
    """
    identity = store.kek_id(name)
    return [
        Ability("has the key", holds=True, shown=str(identity)),
        Ability(
            "keeps the KEK from everybody",
            holds=True,
            shown="the server says: neither exportable nor backed up in clear",
        ),
        _tried("binds keys to their model", lambda: _binds(store, name)),
        _tried("rewraps inside", lambda: _rewraps(store, name)),
        _tried("hands no key out in clear", lambda: _withholds(store)),
        Ability("verifies attestation itself", holds=False, shown="the broker does"),
    ]


def _tried(name: str, attempt: Callable[[], tuple[bool, str]]) -> Ability:
    try:
        holds, shown = attempt()
    except RegaliaError as exc:
        holds, shown = False, f"{exc.code.name}: {exc.what}"
    return Ability(name, holds=holds, shown=shown)


def _binds(store: OpenBaoKeyStore, name: str) -> tuple[bool, str]:
    with _throw_away() as key:
        blob = store.wrap(name, key, b"one")
    try:
        store.recover_for_owner(name, blob, b"another").close()
    except KeyAccessError as exc:
        if exc.code is not KeysCode.KEY_UNWRAP_FAILED:
            raise
        return True, "a key was not opened with another context"
    return False, "a key was opened with another context"


def _rewraps(store: OpenBaoKeyStore, name: str) -> tuple[bool, str]:
    with _throw_away() as key:
        blob = store.wrap(name, key, b"one")
        with store.recover_for_owner(name, blob, b"one") as again:
            if not again.matches(key):
                return False, "another key came out"
    return True, f"{store.key_wrapping} to RSA-3072"


def _withholds(store: OpenBaoKeyStore) -> tuple[bool, str]:
    allowed = [path for path in _IN_CLEAR if store.may_do(path)]
    if allowed:
        return False, f"this login may ask for {', '.join(path.split('/')[0] for path in allowed)}"
    return True, "this login may neither export nor back up"


def _throw_away() -> SecretBytes:
    return SecretBytes(bytearray(secrets.token_bytes(MODEL_KEY_SIZE)))
