"""A PKCS#11 library in this process: starting it for threads, logging in, starting it again.

python-pkcs11 starts libraries without locks of their own (``C_Initialize`` without arguments),
which allows calls from one thread at a time only (PKCS #11 2.40, section 5.4). So a library is
started a second time here, with the operating system's locks. python-pkcs11 also takes PINs as
``str``, which cannot be wiped; the login here passes a buffer that is wiped at once.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pkcs11
from pkcs11.exceptions import PKCS11Error

from regalia.core.errors import KeyAccessError, LocalError, UnavailableError, UsageError
from regalia.keys.pkcs11.codes import Pkcs11Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkcs11._pkcs11 import lib
    from pkcs11.types import Token

    from regalia.core.secret import SecretBytes
    from regalia.keys.pkcs11.uri import TokenUri

IDLE_S = 10.0  # seconds that a restart waits for calls of other threads to return

# Places of functions in CK_FUNCTION_LIST, in the order of pkcs11f.h.
_INITIALIZE, _FINALIZE, _LOGIN, _LOGOUT, _FUNCTIONS = 0, 1, 18, 19, 20
_OS_LOCKING_OK = 2  # CKF_OS_LOCKING_OK
_USER = 1  # CKU_USER
_OK = 0  # CKR_OK

_LOGIN_REFUSALS = {
    0x0A0: (Pkcs11Code.TOKEN_PIN_WRONG, "CKR_PIN_INCORRECT"),
    0x0A1: (Pkcs11Code.TOKEN_PIN_WRONG, "CKR_PIN_INVALID"),
    0x0A2: (Pkcs11Code.TOKEN_PIN_WRONG, "CKR_PIN_LEN_RANGE"),
    0x0A3: (Pkcs11Code.TOKEN_PIN_LOCKED, "CKR_PIN_EXPIRED"),
    0x0A4: (Pkcs11Code.TOKEN_PIN_LOCKED, "CKR_PIN_LOCKED"),
    0x100: (Pkcs11Code.TOKEN_IN_USE, "CKR_USER_ALREADY_LOGGED_IN"),
    0x102: (Pkcs11Code.TOKEN_PIN_UNSET, "CKR_USER_PIN_NOT_INITIALIZED"),
    0x104: (Pkcs11Code.TOKEN_IN_USE, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"),
}


class _FunctionList(ctypes.Structure):
    """The beginning of CK_FUNCTION_LIST."""

    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * _FUNCTIONS))


class _InitializeArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (
        ("mutex_functions", ctypes.c_void_p * 4),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class Library:
    """A started library. Its sessions and handles end when it is started again.

    Attributes:
        path: of the library's file.
        generation: counts how often it was started; handles of another one must not be used.
    """

    def __init__(self, path: str) -> None:
        """Load and start a library. Raises LocalError TOKEN_LIBRARY_UNUSABLE."""
        self.path = path
        self.generation = 0
        self._process = os.getpid()
        self._turn = threading.Condition()
        self._calls = 0
        self._starting = False
        try:
            self._lib: lib = pkcs11.lib(path)
            self._functions = _functions_of(path)
        except (PKCS11Error, OSError, AttributeError) as exc:
            raise LocalError(
                Pkcs11Code.TOKEN_LIBRARY_UNUSABLE, f"{path}: {exc or type(exc).__name__}"
            ) from exc
        self._start_for_threads()

    @contextmanager
    def in_use(self) -> Iterator[int]:
        """Keep the library from being started again meanwhile. Gives the generation.

        Raises:
            UnavailableError: TOKEN_BUSY, another thread has been starting it again for too long.
            KeyAccessError: TOKEN_OTHER_PROCESS.
        """
        if os.getpid() != self._process:
            raise KeyAccessError(
                Pkcs11Code.TOKEN_OTHER_PROCESS,
                f"{self.path} was opened by process {self._process}, which forked this one",
            )
        with self._turn:
            if not self._turn.wait_for(lambda: not self._starting, IDLE_S):
                raise UnavailableError(Pkcs11Code.TOKEN_BUSY, f"{self.path} is being started again")
            self._calls += 1
        try:
            yield self.generation
        finally:
            with self._turn:
                self._calls -= 1
                self._turn.notify_all()

    def start_again(self, seen: int) -> None:
        """End all sessions and look for tokens anew, once no thread is in a call.

        Args:
            seen: generation that failed; if another thread has started a new one, do nothing.

        Raises:
            UnavailableError: TOKEN_BUSY, a call of another thread does not return.
            LocalError: TOKEN_LIBRARY_UNUSABLE, it does not start.
        """
        with self._turn:
            settled = self._turn.wait_for(
                lambda: not self._starting or seen != self.generation, IDLE_S
            )
            if settled and seen != self.generation:
                return
            self._starting = settled or self._starting
            if not settled or not self._turn.wait_for(lambda: not self._calls, IDLE_S):
                self._starting = self._starting and not settled
                self._turn.notify_all()
                raise UnavailableError(Pkcs11Code.TOKEN_BUSY, f"{self.path}: a call hangs")
        try:
            self._start_for_threads()
        finally:
            with self._turn:
                self._starting = False
                self._turn.notify_all()

    def find(self, uri: TokenUri) -> Token:
        """The token that a URI selects; call it within ``in_use``.

        Raises:
            UnavailableError: TOKEN_NOT_FOUND.
            UsageError: TOKEN_NOT_UNIQUE.
            PKCS11Error: the library fails.
        """
        found, failure = self._matching(uri)
        if not found and failure is not None:
            raise failure
        if not found:
            raise UnavailableError(Pkcs11Code.TOKEN_NOT_FOUND, f"{self.path} has no {uri}")
        if len(found) > 1:
            serials = ", ".join(token.serial.decode(errors="replace") for token in found)
            raise UsageError(Pkcs11Code.TOKEN_NOT_UNIQUE, f"{uri}: serial numbers {serials}")
        return found[0]

    def _matching(self, uri: TokenUri) -> tuple[list[Token], PKCS11Error | None]:
        """Tokens that a URI selects, and why one of the library's tokens could not be read."""
        found: list[Token] = []
        failure: PKCS11Error | None = None
        for slot in self._lib.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except PKCS11Error as exc:  # perhaps of another token, which was just removed
                failure = exc
                continue
            named = uri.label in {None, token.label}
            if named and uri.serial in {None, token.serial.decode(errors="replace")}:
                found.append(token)
        return found, failure

    def log_in(self, session: int, pin: SecretBytes) -> None:
        """Log in to the token of a session, for all sessions of this process; within ``in_use``.

        Args:
            session: handle of one of its sessions.
            pin: the user PIN; the caller closes it.

        Raises:
            KeyAccessError: TOKEN_PIN_WRONG, TOKEN_PIN_LOCKED, TOKEN_PIN_UNSET or TOKEN_IN_USE.
            UnavailableError: TOKEN_FAILED.
        """
        with pin.view() as view:
            buffer = ctypes.create_string_buffer(len(view))
            try:
                memoryview(buffer).cast("B")[:] = view
                handle, user, size = map(ctypes.c_ulong, (session, _USER, len(view)))
                result = self._call(_LOGIN, handle, user, buffer, size)
            finally:
                ctypes.memset(buffer, 0, len(view))
        if result == _OK:
            return
        if result in _LOGIN_REFUSALS:
            code, name = _LOGIN_REFUSALS[result]
            raise KeyAccessError(code, f"{self.path}: the login gives {name}")
        raise UnavailableError(
            Pkcs11Code.TOKEN_FAILED, f"{self.path}: the login gives CKR {result:#x}"
        )

    def log_out(self, session: int) -> None:
        """Log out of a token, if it still answers; call it within ``in_use``.

        All private session objects of this process end with that.
        """
        self._call(_LOGOUT, ctypes.c_ulong(session))

    def description(self) -> str:
        """What the library says of itself."""
        major, minor = self._lib.library_version
        return f"{self._lib.library_description} {major}.{minor} ({self._lib.manufacturer_id})"

    def _start_for_threads(self) -> None:
        arguments = _InitializeArguments(flags=_OS_LOCKING_OK)
        self._call(_FINALIZE, None)  # fails harmlessly if the last start has failed
        self.generation += 1
        result = self._call(_INITIALIZE, ctypes.byref(arguments))
        if result != _OK:
            raise LocalError(
                Pkcs11Code.TOKEN_LIBRARY_UNUSABLE,
                f"{self.path}: starting it for several threads gives CKR {result:#x}",
            )

    def _call(self, place: int, *arguments: object) -> int:
        kind = ctypes.CFUNCTYPE(ctypes.c_ulong)
        return int(kind(self._functions[place])(*arguments))


class _Libraries:
    """The libraries of this process. Loading one twice gives the same one, with one state."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._loaded: dict[str, Library] = {}

    def load(self, path: str) -> Library:
        with self._guard:
            if path not in self._loaded:
                self._loaded[path] = Library(path)
            return self._loaded[path]


_LIBRARIES = _Libraries()


def load_library(path: str) -> Library:
    """The library of a path, started. Raises LocalError TOKEN_LIBRARY_UNUSABLE."""
    return _LIBRARIES.load(os.path.realpath(path))


def _functions_of(path: str) -> list[int]:
    table = ctypes.POINTER(_FunctionList)()
    get = ctypes.CDLL(path).C_GetFunctionList
    get.restype = ctypes.c_ulong
    if get(ctypes.byref(table)) != _OK or not table:
        raise OSError("C_GetFunctionList gives no functions")
    return list(table.contents.functions)
