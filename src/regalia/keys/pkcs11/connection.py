"""A login to one token that every thread of the process shares, and its bounded pool of sessions.

What is open ends when a token is removed or its library is started again. The use that finds this
fails, and the next one connects again: with the PIN of the start, and never twice with a PIN that
the token has refused, because tokens lock themselves after a few wrong ones.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from pkcs11.constants import SlotFlag
from pkcs11.exceptions import PKCS11Error

from regalia.core.errors import KeyAccessError, RegaliaError, UnavailableError
from regalia.core.secret import SecretBytes
from regalia.keys.codes import KeysCode
from regalia.keys.pkcs11.codes import Pkcs11Code
from regalia.keys.pkcs11.refusal import refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkcs11.types import Session, Token

    from regalia.keys.pkcs11.library import Library
    from regalia.keys.pkcs11.uri import TokenUri

SESSIONS_MAX = 8  # at the same time, besides the one that is logged in
_PROBE_BITS = 64
WAIT_S = 10.0  # seconds that a use waits for a free session

_PIN_REFUSED = (
    Pkcs11Code.TOKEN_PIN_WRONG,
    Pkcs11Code.TOKEN_PIN_LOCKED,
    Pkcs11Code.TOKEN_PIN_UNSET,
)
# After these the next use connects again. A key that is gone is among them: libraries that cache
# what a token holds do not notice when it comes back.
_CONNECT_AGAIN = (Pkcs11Code.TOKEN_LOST, Pkcs11Code.TOKEN_FAILED, KeysCode.KEK_UNKNOWN)


class _HasHandle(Protocol):
    """What sessions of python-pkcs11 have, and its stubs lack."""

    handle: int


@dataclass(slots=True)
class _Login:
    """What one login gave, and its free sessions."""

    generation: int
    token: Token
    session: Session  # keeps the login; does nothing else
    free: list[Session]
    is_hardware: bool


class Connection:
    """Gives sessions with one token. Thread-safe."""

    def __init__(self, library: Library, uri: TokenUri, pin: SecretBytes) -> None:
        """Log in. Raises RegaliaError, as ``session``.

        Args:
            library: that speaks to the token.
            uri: which token.
            pin: the user PIN, which is copied; the caller closes it.
        """
        self.uri = uri
        self._library = library
        self._pin = SecretBytes.copy_of(pin.view())
        self._slots = threading.BoundedSemaphore(SESSIONS_MAX)
        self._connecting = threading.Lock()
        self._login: _Login | None = None
        self._seen = library.generation
        # The library must be started again before the next login. Set without a lock, by whoever
        # finds it; a thread that connects meanwhile would only do so once more than necessary.
        self._failed = False
        self._refused: KeyAccessError | None = None
        try:
            self._connect_at_first()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def session(self, doing: str) -> Iterator[Session]:
        """A logged-in session that is nobody else's meanwhile; it cannot change the token.

        Args:
            doing: what it is used for, for people.

        Raises:
            UnavailableError: TOKEN_LOST, TOKEN_BUSY, TOKEN_NOT_FOUND or TOKEN_FAILED.
            KeyAccessError: TOKEN_PIN_WRONG, TOKEN_PIN_LOCKED, TOKEN_PIN_UNSET, TOKEN_UNSUITED,
                TOKEN_IN_USE or TOKEN_OTHER_PROCESS.
            UsageError: TOKEN_NOT_UNIQUE.
            LocalError: TOKEN_LIBRARY_UNUSABLE.
        """
        with self._ready() as login, self._judged(doing, login):
            session = _free_session(login)
            try:
                yield session
            except BaseException:
                with suppress(PKCS11Error):
                    session.close()  # and with it whatever an operation has left behind
                raise
            login.free.append(session)

    @contextmanager
    def writing(self, doing: str) -> Iterator[Session]:
        """A session that can change the token, as ``session``."""
        with self._ready() as login, self._judged(doing, login):
            session = login.token.open(rw=True)
            try:
                yield session
            finally:
                with suppress(PKCS11Error):
                    session.close()

    @property
    def is_hardware(self) -> bool:
        """Whether the library said, at the last login, that this token is hardware."""
        return self._login is not None and self._login.is_hardware

    @property
    def description(self) -> str:
        """What the token and its library said of themselves at the last login."""
        token = None if self._login is None else self._login.token
        named = self.uri if token is None else f"{token.model} of {token.manufacturer_id}"
        return f"{named}; {self._library.description()}"

    def close(self) -> None:
        """Log out, end all sessions and wipe the PIN."""
        with self._connecting:
            login, self._login = self._login, None
            self._pin.close()
        # A forked process has nothing to end, and a library that hangs ends with this process.
        with suppress(KeyAccessError, UnavailableError), self._library.in_use() as generation:
            if login is None or login.generation != generation:
                return
            self._library.log_out(_handle_of(login.session))
            for session in (*login.free, login.session):
                with suppress(PKCS11Error):
                    session.close()

    @contextmanager
    def _ready(self) -> Iterator[_Login]:
        """Wait for a place, connect again if necessary, and keep the library as it is."""
        if not self._slots.acquire(timeout=WAIT_S):
            raise UnavailableError(
                Pkcs11Code.TOKEN_BUSY, f"{self.uri}: {SESSIONS_MAX} sessions are in use"
            )
        try:
            if self._is_stale():
                self._connect()
            with self._library.in_use() as generation:
                login = self._login
                if login is None or login.generation != generation:
                    # Another thread has just started the library again.
                    raise UnavailableError(Pkcs11Code.TOKEN_LOST, f"{self.uri}: connection ended")
                yield login
        finally:
            self._slots.release()

    @contextmanager
    def _judged(self, doing: str, login: _Login) -> Iterator[None]:
        """Turn errors of the token into refusals, and note those that end the connection."""
        try:
            yield
        except PKCS11Error as exc:
            error = refusal_of(exc, doing)
            self._note(error, login)
            raise error from exc
        except RegaliaError as exc:
            self._note(exc, login)
            raise

    def _note(self, error: RegaliaError, login: _Login) -> None:
        if error.code in _CONNECT_AGAIN and self._login is login:  # a newer login may be well
            self._failed = True

    def _is_stale(self) -> bool:
        login = self._login
        return self._failed or login is None or login.generation != self._library.generation

    def _connect_at_first(self) -> None:
        """Log in, and look again for a token that was connected after the library was loaded."""
        try:
            self._connect()
        except UnavailableError as exc:
            if exc.code is not Pkcs11Code.TOKEN_NOT_FOUND:
                raise
            self._connect()

    def _connect(self) -> None:
        """Log in, unless another thread just has. What fails is tried again by the next use."""
        with self._connecting:
            if not self._is_stale():
                return
            if self._refused is not None:
                raise self._refused
            if self._failed:
                self._library.start_again(self._seen)
            self._login, self._failed = None, True
            try:
                with self._library.in_use() as self._seen:
                    self._login = self._new_login(self._seen)
            except KeyAccessError as exc:
                if exc.code in _PIN_REFUSED:
                    self._refused = exc
                raise
            self._failed = False

    def _new_login(self, generation: int) -> _Login:
        try:
            token = self._library.find(self.uri)
            session = token.open()
        except PKCS11Error as exc:
            raise refusal_of(exc, f"connecting to {self.uri}") from exc
        try:
            self._library.log_in(_handle_of(session), self._pin)
        except BaseException:
            with suppress(PKCS11Error):
                session.close()
            raise
        return _Login(generation, token, session, [], SlotFlag.HW_SLOT in token.slot.flags)


def _free_session(login: _Login) -> Session:
    """A session from the pool, or a new one. Raises PKCS11Error."""
    try:
        session = login.free.pop()
    except IndexError:
        return login.token.open()
    # Ask for something small first: python-pkcs11 writes a traceback to standard error when a
    # search begins in a session that has ended.
    session.generate_random(_PROBE_BITS)
    return session


def _handle_of(session: Session) -> int:
    return cast("_HasHandle", session).handle
