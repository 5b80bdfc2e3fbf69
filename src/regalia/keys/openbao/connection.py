"""A connection to OpenBao: requests with a valid token, and errors in our own words."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from regalia.core.errors import KeyAccessError, RegaliaError, UnavailableError
from regalia.core.tame import tame
from regalia.keys.codes import KeysCode
from regalia.keys.openbao.tokens import obtain, renewed, stamp_of
from regalia.keys.service_codes import KeyServiceCode
from regalia.keys.service_http import ServiceHttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.errors import Code
    from regalia.keys.openbao.address import OpenBaoAddress
    from regalia.keys.openbao.tokens import Token
    from regalia.keys.service_http import Answer

_FORBIDDEN, _NOT_FOUND, _BUSY = 403, 404, 429
_ERRORS, _SERVER_ERRORS, _UNAVAILABLE = 400, 500, 503
_ATTEMPTS = 3
_PAUSE_S = 0.3  # before the second attempt; twice as long before the third
_IDLE_S = 30.0  # between two looks whether a token has to be renewed
_RETRY_S = 2.0  # after a renewal that failed
_BY_STATUS: dict[int, Code] = {
    _FORBIDDEN: KeyServiceCode.KEY_SERVICE_NOT_ALLOWED,
    _NOT_FOUND: KeyServiceCode.KEY_SERVICE_PATH_UNKNOWN,
    _BUSY: KeyServiceCode.KEY_SERVICE_BUSY,
}
_PASSING = frozenset({KeyServiceCode.KEY_SERVICE_SEALED, KeyServiceCode.KEY_SERVICE_BUSY})
# What OpenBao and Vault say, as far as one of our codes says it better.
_SAID: tuple[tuple[str, Code], ...] = (
    ("verify client's certificate", KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED),
    ("is sealed", KeyServiceCode.KEY_SERVICE_SEALED),
    ("message authentication failed", KeysCode.KEY_UNWRAP_FAILED),
    ("invalid ciphertext", KeysCode.KEY_UNWRAP_FAILED),
    ("too old", KeyServiceCode.KEK_VERSION_RETIRED),
    ("too new", KeysCode.KEY_UNWRAP_FAILED),
    ("soft-deleted", KeyServiceCode.KEK_DISABLED),
    ("encryption key not found", KeysCode.KEK_UNKNOWN),
    ("not exportable", KeyServiceCode.KEK_UNSUITED),
)


class _Errors(msgspec.Struct, frozen=True):
    errors: list[str] = []


class Connection:
    """Sends requests to one server. Thread-safe.

    Args:
        address: of the server.
        pause: replaces ``time.sleep`` between attempts in tests.

    Raises:
        UsageError: KEY_SERVICE_ADDRESS, a certificate cannot be used.
    """

    def __init__(
        self, address: OpenBaoAddress, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.address = address
        self._http = ServiceHttp(address.base, address.tls.context())
        self._pause = pause
        self._guard = threading.Lock()
        self._token: Token | None = None
        self._stamp: tuple[int, int] | None = None
        self._stop = threading.Event()
        self._keeper: threading.Thread | None = None

    def call(
        self,
        method: str,
        path: str,
        members: dict[str, Any] | None = None,
        *,
        doing: str,
        absent: Code = KeyServiceCode.KEY_SERVICE_PATH_UNKNOWN,
    ) -> bytes:
        """Send a request, and return the body of its answer.

        A request that may have been carried out is not sent again.

        Args:
            method: of HTTP.
            path: below ``/v1/``.
            members: of the JSON body; None for no body.
            doing: what for, for messages.
            absent: code if the mount is there and what is asked for is not.

        Raises:
            KeyAccessError: the server refuses; the code says why.
            UnavailableError: it cannot be reached, is busy or sealed, or fails.
        """
        token = self._current()
        answer = self._send(method, path, token.text, members)
        if answer.status == _FORBIDDEN and not self._is_known(token):
            token = self._replaced(token)
            answer = self._send(method, path, token.text, members)
        if answer.status >= _ERRORS:
            raise self._failure(answer, doing, absent)
        return answer.body

    def allows(self, path: str) -> tuple[str, ...]:
        """What the server's rules let this caller do at a path.

        Args:
            path: below ``/v1/``.

        Raises:
            RegaliaError: as ``call``.
        """
        body = self.call(
            "POST", "sys/capabilities-self", {"paths": [path]}, doing="asking for capabilities"
        )
        try:
            found = msgspec.json.decode(body)["data"]["capabilities"]
        except (msgspec.MsgspecError, KeyError, TypeError):
            return ()
        return tuple(str(each) for each in found) if isinstance(found, list) else ()

    def keep_alive(self) -> None:
        """Renew the token from now on, until ``close``: a broker may be idle for days."""
        self._keeper = threading.Thread(target=self._keep, name="openbao-token", daemon=True)
        self._keeper.start()

    def close(self) -> None:
        """End renewals and connections. The token is not revoked: others may use it too."""
        self._stop.set()
        if self._keeper is not None:
            self._keeper.join(_RETRY_S)
        with self._guard:
            self._token = None
        self._http.close()

    def _current(self) -> Token:
        with self._guard:
            if self._token is None or self._stamp != stamp_of(self.address.login):
                self._stamp = stamp_of(self.address.login)
                self._token = obtain(self.address.login, self._log_in)
            return self._token

    def _is_known(self, token: Token) -> bool:
        """Whether a refusal was about the path and not about the token."""
        return self._send("GET", "auth/token/lookup-self", token.text, None).status != _FORBIDDEN

    def _replaced(self, token: Token) -> Token:
        """Another token than one that is worth nothing any more."""
        with self._guard:
            if self._token is token:
                self._token = None
        return self._current()

    def _keep(self) -> None:
        wait: float = 0
        while not self._stop.wait(wait):
            try:
                wait = self._renew_if_due()
            except RegaliaError:
                # The next request tells its caller; until then the service may have come back.
                wait = _RETRY_S

    def _renew_if_due(self) -> float:
        """Renew, and return the seconds until the next look."""
        token = self._current()
        due = token.renew_in_s()
        if due == 0:
            fresh = renewed(token, self._log_in)
            with self._guard:
                if self._token is token:
                    self._token = fresh
            due = fresh.renew_in_s()
        return _IDLE_S if due is None else min(due + 0.1, _IDLE_S)

    def _log_in(
        self, method: str, path: str, token: str | None, members: dict[str, Any] | None
    ) -> Answer:
        """As ``_send``; refusals are the caller's to explain, and failures are not."""
        answer = self._send(method, path, token, members)
        if answer.status == _BUSY or answer.status >= _SERVER_ERRORS:
            raise self._failure(answer, "logging in", KeyServiceCode.KEY_SERVICE_PATH_UNKNOWN)
        return answer

    def _send(
        self, method: str, path: str, token: str | None, members: dict[str, Any] | None
    ) -> Answer:
        headers = {"content-type": "application/json", "x-vault-request": "true"}
        if token is not None:
            headers["x-vault-token"] = token
        if self.address.namespace is not None:
            headers["x-vault-namespace"] = self.address.namespace
        body = None if members is None else msgspec.json.encode(members)
        for number in range(1, _ATTEMPTS):
            answer = self._http.exchange(method, f"/v1/{path}", headers, body)
            if not _was_turned_away(answer):
                return answer
            self._pause(_PAUSE_S * number)
        return self._http.exchange(method, f"/v1/{path}", headers, body)

    def _failure(self, answer: Answer, doing: str, absent: Code) -> RegaliaError:
        said = tame(" ".join(_errors_of(answer)))[:200]
        what = f"{self.address}: {doing}: status {answer.status} {said}".rstrip()
        code = _code_of(answer.status, said, absent)
        failed = code is KeyServiceCode.KEY_SERVICE_FAILED and answer.status >= _SERVER_ERRORS
        passing = failed or code in _PASSING
        return UnavailableError(code, what) if passing else KeyAccessError(code, what)


def _code_of(status: int, said: str, absent: Code) -> Code:
    """What a refusal means.

    Args:
        status: of HTTP.
        said: the server's words.
        absent: code if the mount is there and what is asked for is not.
    """
    if status == _NOT_FOUND and not said:
        return absent
    for text, code in _SAID:
        if text in said:
            return code
    return _BY_STATUS.get(status, KeyServiceCode.KEY_SERVICE_FAILED)


def _was_turned_away(answer: Answer) -> bool:
    """Whether the server did nothing, and may do so in a moment. A sealed one needs people."""
    if answer.status == _BUSY:
        return True
    sealed = any("sealed" in each for each in _errors_of(answer))
    return answer.status == _UNAVAILABLE and not sealed


def _errors_of(answer: Answer) -> list[str]:
    try:
        return msgspec.json.decode(answer.body, type=_Errors).errors
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return []
