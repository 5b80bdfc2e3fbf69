"""Tokens of OpenBao: where they come from, and that they stay valid.

A token travels in a header, as text. It lives in this process's memory, and cannot be wiped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from regalia.core.errors import KeyAccessError
from regalia.host.localfs import os_errors, read_private_file
from regalia.keys.openbao.address import AppRoleLogin, TokenFileLogin
from regalia.keys.service_codes import KeyServiceCode
from regalia.keys.service_http import answer_wrong, parse_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.keys.openbao.address import Login
    from regalia.keys.service_http import Answer

    # Sends method, path, token (None for none) and members of a body.
    Send = Callable[[str, str, str | None, dict[str, Any] | None], Answer]

_TOKEN_MAX = 4096  # bytes
_LIFE_MAX = 1 << 34  # seconds; servers count nanoseconds in 63 bits
_OK = 200
_CLIENT_ERRORS = range(400, 500)
_BUSY = 429


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and until when it is worth something."""

    text: str = field(repr=False)
    lease_s: int = 0  # 0: it does not expire
    renewable: bool = False
    since: float = field(default_factory=time.monotonic)

    def renew_in_s(self) -> float | None:
        """Seconds until half of its life is over; None if it need not or cannot be renewed."""
        if not self.renewable or not self.lease_s:
            return None
        return max(0.0, self.since + self.lease_s / 2 - time.monotonic())


class _Auth(msgspec.Struct, frozen=True):
    client_token: str
    lease_duration: int
    renewable: bool


class _Login(msgspec.Struct, frozen=True):
    auth: _Auth


class _Own(msgspec.Struct, frozen=True):
    ttl: int
    renewable: bool = False  # of a root token, nothing is said


class _Lookup(msgspec.Struct, frozen=True):
    data: _Own


def stamp_of(login: Login) -> tuple[int, int] | None:
    """Changes when the file of a token is replaced or written; None if there is no such file.

    Raises:
        LocalError: it cannot be looked at.
    """
    if not isinstance(login, TokenFileLogin):
        return None
    with os_errors(login.path):
        status = login.path.stat()
    return status.st_mtime_ns, status.st_ino


def obtain(login: Login, send: Send) -> Token:
    """Read a token, or log in for one.

    Args:
        login: the way.
        send: reaches the server.

    Raises:
        LocalError: a file cannot be read, or others may read it.
        KeyAccessError: KEY_SERVICE_LOGIN_REFUSED.
        UnavailableError: the server cannot be reached.
        IntegrityError: KEY_SERVICE_ANSWER_WRONG.
    """
    if isinstance(login, TokenFileLogin):
        return _from_file(login, send)
    if isinstance(login, AppRoleLogin):
        secret_id = _line_of(login.secret_id)
        members = {"role_id": login.role_id, "secret_id": secret_id}
        answer = send("POST", f"auth/{login.mount}/login", None, members)
        source = f"role {login.role_id} and {login.secret_id}"
    else:
        members = {} if login.role is None else {"name": login.role}
        answer = send("POST", f"auth/{login.mount}/login", None, members)
        source = "the client certificate"
    if answer.status in _CLIENT_ERRORS and answer.status != _BUSY:
        raise refused(source, f"status {answer.status}")
    return _token_of(answer)


def renewed(token: Token, send: Send) -> Token:
    """The same token with a new life. Raises as ``obtain``.

    Args:
        token: to renew.
        send: reaches the server.
    """
    answer = send("POST", "auth/token/renew-self", token.text, {})
    if answer.status in _CLIENT_ERRORS and answer.status != _BUSY:
        raise refused("token", f"it cannot be renewed: status {answer.status}")
    return _token_of(answer)


def refused(source: str, why: str) -> KeyAccessError:
    """KEY_SERVICE_LOGIN_REFUSED.

    Args:
        source: where the credentials came from.
        why: as far as it is known.
    """
    return KeyAccessError(KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED, f"openbao: {source}: {why}")


def _token_of(answer: Answer) -> Token:
    auth = parse_answer(answer.body, _Login).auth
    if not _is_token(auth.client_token) or not 0 <= auth.lease_duration <= _LIFE_MAX:
        raise answer_wrong("a login that gives no token")
    return Token(auth.client_token, auth.lease_duration, auth.renewable)


def _from_file(login: TokenFileLogin, send: Send) -> Token:
    text = _line_of(login.path)
    answer = send("GET", "auth/token/lookup-self", text, None)
    if answer.status != _OK:
        raise refused(f"token of {login.path}", "it is unknown, expired or revoked")
    own = parse_answer(answer.body, _Lookup).data
    if not 0 <= own.ttl <= _LIFE_MAX:
        raise answer_wrong("a token whose life is no time")
    return Token(text, own.ttl, own.renewable)


def _line_of(path: Path) -> str:
    data = read_private_file(path, limit=_TOKEN_MAX).strip()
    text = data.decode("ascii", "replace")
    if not _is_token(text):
        raise refused(str(path), "it holds no token")
    return text


def _is_token(text: str) -> bool:
    """Whether a text can stand in a header, as a whole."""
    fits = 1 <= len(text) <= _TOKEN_MAX
    return fits and text.isascii() and text.isprintable() and " " not in text
