"""Tries out what a token can and cannot do, on throw-away keys of its own."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
)
from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType

from regalia.core.codec import lp
from regalia.core.errors import IntegrityError, KeyAccessError, UnavailableError
from regalia.core.secret import SecretBytes
from regalia.crypto.key_wrapping import open_wrapped
from regalia.keys.base import MODEL_KEY_SIZE, Ability
from regalia.keys.pkcs11.connection import SESSIONS_MAX
from regalia.keys.pkcs11.kek import WRAPPED_KEY, derived_key, find_kek, identity_of, temporary
from regalia.keys.pkcs11.wrapping import find_suite, imported, unwrapped, wrap, wrap_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkcs11.types import SecretKey, Session, WrapMixin

    from regalia.keys.pkcs11.connection import Connection
    from regalia.keys.pkcs11.wrapping import Suite

_READABLE: dict[Attribute, Any] = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}


def examine(connection: Connection, name: str) -> list[Ability]:
    """Try out what a token can do with one KEK. Nothing is kept in the token.

    Args:
        connection: with the token.
        name: of the KEK.

    Raises:
        KeyAccessError: KEK_UNKNOWN, KEK_NOT_UNIQUE, KEK_UNPROTECTED or TOKEN_UNSUITED: there is
            nothing to examine.
        RegaliaError: the token fails.
    """
    with connection.session("examining the token") as session:
        trial = _Trial(session, find_kek(session, name), find_suite(session))
        trial.run()
    return [*trial.found, _sessions(connection), _hardware(connection)]


@dataclass(slots=True)
class _Trial:
    """Tries, in one session, and what they gave."""

    session: Session
    kek: SecretKey
    suite: Suite
    found: list[Ability] = field(default_factory=list)

    def run(self) -> None:
        """Try everything."""
        identity = str(identity_of(self.kek, self.suite.kwp))
        self._note("has the key", identity, holds=True)
        self._note("made the KEK itself", "LOCAL, ALWAYS_SENSITIVE, NEVER_EXTRACTABLE", holds=True)
        self._refuses("does not show the KEK", lambda: self.kek[Attribute.VALUE])
        self._refuses("does not wrap the KEK", self._wrap_kek)
        self._does("derives wrapping keys as specified", self._derive)
        self._does("takes in, wraps and rewraps model keys", self._rewrap)
        self._refuses("binds keys to their model", self._unwrap_elsewhere)
        self._refuses("keeps wrapping keys inside", self._derive_readable)
        name = self.suite.key_wrapping
        self._note("rewraps with OAEP-SHA-256", f"can do {name}", holds=name == "rsa-oaep-sha256")

    def _note(self, name: str, shown: str, *, holds: bool) -> None:
        self.found.append(Ability(name, holds, shown))

    def _does(self, name: str, attempt: Callable[[], str]) -> None:
        try:
            self._note(name, attempt(), holds=True)
        except (PKCS11Error, KeyAccessError, IntegrityError, InvalidUnwrap) as exc:
            self._note(name, f"gives {type(exc).__name__}", holds=False)

    def _refuses(self, name: str, attempt: Callable[[], object]) -> None:
        try:
            attempt()
        except PKCS11Error as exc:
            self._note(name, f"refused with {type(exc).__name__}", holds=True)
        except KeyAccessError as exc:
            self._note(name, f"refused with {exc.code}", holds=True)
        else:
            self._note(name, "tried, and it was done", holds=False)

    def _wrap_kek(self) -> None:
        with self._throw_away(MechanismFlag.WRAP) as key:
            cast("WrapMixin", key).wrap_key(self.kek, mechanism=self.suite.kwp)

    def _derive(self) -> str:
        """Derive from a key whose bytes are known here, and compare with the specification."""
        known, secret, data = secrets.token_bytes(32), secrets.token_bytes(32), b"trial"
        digest = hashlib.sha256(data).digest()
        encryptor = Cipher(algorithms.AES(known), modes.CBC(bytes(16))).encryptor()
        expected = encryptor.update(digest) + encryptor.finalize()
        with ExitStack() as stack:
            held = stack.enter_context(SecretBytes(bytearray(secret)))
            inside = stack.enter_context(imported(self.session, held))
            base = self._import_base(known)
            stack.enter_context(temporary(base))
            key = stack.enter_context(derived_key(base, data, MechanismFlag.WRAP, {}))
            blob = cast("WrapMixin", key).wrap_key(inside, mechanism=self.suite.kwp)
        if aes_key_unwrap_with_padding(expected, blob) != secret:
            raise InvalidUnwrap
        return f"AES-CBC of SHA-256, then RFC 5649 by mechanism {int(self.suite.kwp):#06x}"

    def _import_base(self, value: bytes) -> SecretKey:
        template = WRAPPED_KEY | {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.VALUE: value,
            Attribute.EXTRACTABLE: False,
            Attribute.DERIVE: True,
        }
        return cast("SecretKey", self.session.create_object(template))

    def _rewrap(self) -> str:
        secret = secrets.token_bytes(MODEL_KEY_SIZE)
        private = rsa.generate_private_key(65537, 3072)
        blob = self._wrapped(secret, _context("one"))
        with unwrapped(self.kek, blob, _context("one"), self.suite) as inside:
            out = wrap_to(self.session, inside, private.public_key(), self.suite)
        name = self.suite.key_wrapping
        with SecretBytes(bytearray(out)) as sealed, open_wrapped(name, sealed, private) as opened:
            if opened.view() != secret:
                raise InvalidUnwrap
        return f"to an RSA-3072 key with {name}"

    def _unwrap_elsewhere(self) -> None:
        blob = self._wrapped(secrets.token_bytes(MODEL_KEY_SIZE), _context("one"))
        with unwrapped(self.kek, blob, _context("another"), self.suite):
            pass

    def _wrapped(self, secret: bytes, context: bytes) -> bytes:
        with (
            SecretBytes(bytearray(secret)) as held,
            imported(self.session, held) as inside,
        ):
            return wrap(self.kek, inside, context, self.suite)

    def _derive_readable(self) -> None:
        with derived_key(self.kek, _context("readable"), MechanismFlag(0), _READABLE) as key:
            _ = key[Attribute.VALUE]

    @contextmanager
    def _throw_away(self, uses: MechanismFlag) -> Iterator[SecretKey]:
        key = self.session.generate_key(
            KeyType.AES, 256, store=False, capabilities=uses, template={}
        )
        with temporary(key):
            yield key


def _context(name: str) -> bytes:
    """A context that no sealed model has."""
    return lp(b"regalia/pkcs11-trial/v1", name.encode())


def _sessions(connection: Connection) -> Ability:
    name = f"works with {SESSIONS_MAX} sessions"
    try:
        with ExitStack() as stack:
            for _ in range(SESSIONS_MAX):
                stack.enter_context(connection.session("opening sessions"))
    except (KeyAccessError, UnavailableError) as exc:
        return Ability(name, holds=False, shown=f"gives {exc.code}")
    return Ability(name, holds=True, shown="all were open at once")


def _hardware(connection: Connection) -> Ability:
    word = "" if connection.is_hardware else "a software token: "
    return Ability("is hardware", connection.is_hardware, f"{word}{connection.description}")
