"""Access to a repository of a registry: addresses, and who asks.

Spec: OCI distribution 1.1; Docker's token authentication for registries.
"""

from __future__ import annotations

import re
import threading
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx
import msgspec

from regalia.core.errors import UnavailableError
from regalia.store.exchange import Call, Exchange
from regalia.store.names import StoreCode
from regalia.store.oci_address import is_this_machine
from regalia.store.oci_login import find_login

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.errors import IntegrityError
    from regalia.store.exchange import Answer
    from regalia.store.oci_address import OciAddress
    from regalia.store.oci_login import Login

_PARAMETER = re.compile(r'([a-z]+)="([^"]{0,1024})"')
_TOKEN = re.compile(r"[!-~]{1,16384}")
_FORM = {"content-type": "application/x-www-form-urlencoded"}
_OK, _UNAUTHORIZED, _FORBIDDEN = 200, 401, 403
_REDIRECTS = range(300, 400)


class _TokenAnswer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class OciAccess:
    """Sends requests about one repository. May be used from several threads.

    Args:
        address: registry, repository, and whom else the registry may name.
        actions: what tokens are asked for: ``pull`` or ``pull,push``.
        helpers: whether a program may be run that Docker's configuration names.
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.

    Raises:
        UsageError, KeyAccessError, LocalError: as ``find_login``.
    """

    def __init__(
        self,
        address: OciAddress,
        *,
        actions: str,
        helpers: bool,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None],
    ) -> None:
        self.address = address
        self.base = f"{address.base}/v2/{address.repository}/"
        self._actions = actions
        self._exchange = Exchange(address.place(), transport=transport, pause=pause)
        self._lock = threading.Lock()
        self._authorization = ""
        self._login = None if self._in_clear() else self._find(helpers=helpers)

    def _in_clear(self) -> bool:
        """Whether a password would travel to another machine unencrypted; there is none then."""
        return self.address.dangerous_http and not is_this_machine(self.address.host)

    def _find(self, *, helpers: bool) -> Login | None:
        return find_login(self.address.host, self.address.repository, helpers=helpers)

    def headers(self) -> dict[str, str]:
        """Headers of a request to the registry."""
        headers = {"accept-encoding": "identity"}
        if self._authorization:
            headers["authorization"] = self._authorization
        return headers

    def renew(self, used: str, challenge: str) -> None:
        """Answer a challenge, so that ``headers`` are those of somebody whom the registry knows.

        Args:
            used: the header Authorization that was refused; empty if there was none.
            challenge: the header WWW-Authenticate, untrusted.

        Raises:
            AgainError: the host that gives out tokens fails.
            UnavailableError: STORE_ACCESS_REFUSED.
            IntegrityError: STORE_ANSWER_WRONG.
        """
        with self._lock:
            if self._authorization != used:
                return  # another thread has done it
            scheme = challenge.partition(" ")[0].lower()
            if scheme == "bearer":
                self._authorization = "Bearer " + self._token(challenge)
            elif scheme == "basic" and self._login is not None and self._login.user:
                self._authorization = self._login.basic()
            else:
                raise self.refused(f"it wants {scheme[:20] or 'nothing known'!r} credentials")

    def ask(self, call: Call) -> Answer:
        """One request in up to four attempts.

        Raises:
            UnavailableError: PEER_UNREACHABLE, STORE_FAILED or STORE_ACCESS_REFUSED.
            IntegrityError: STORE_ANSWER_WRONG, also for a status that is not expected.
        """
        return self._exchange.attempt(partial(self.ask_once, call))

    def ask_once(self, call: Call) -> Answer:
        """As ``ask``, without further attempts. Raises also AgainError."""
        answer = self._send(call)
        if call.answered_by(answer.status):
            return answer
        if answer.status in {_UNAUTHORIZED, _FORBIDDEN}:
            raise self.refused(f"status {answer.status}")
        what = "a redirect, not followed" if answer.status in _REDIRECTS else "not expected"
        raise self.wrong(f"{call.method} {httpx.URL(call.url).path}: {answer.status}, {what}")

    def attempt(self, ask: Callable[[], Answer]) -> Answer:
        """As ``in_attempts``, for this registry."""
        return self._exchange.attempt(ask)

    def wrong(self, what: str) -> IntegrityError:
        """STORE_ANSWER_WRONG."""
        return self._exchange.wrong(what)

    def refused(self, why: str) -> UnavailableError:
        """STORE_ACCESS_REFUSED."""
        who = "nobody: no file has credentials" if self._login is None else "Docker's configuration"
        if self._in_clear():
            who = "nobody: no credentials are sent in clear"
        return UnavailableError(
            StoreCode.STORE_ACCESS_REFUSED, f"{self.address.place()}: {why}; asked as {who}"
        )

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def _send(self, call: Call) -> Answer:
        mine = self.headers()
        answer = self._exchange.send(call, mine)
        if answer.status != _UNAUTHORIZED:
            return answer
        self.renew(mine.get("authorization", ""), answer.headers.get("www-authenticate", ""))
        return self._exchange.send(call, self.headers())

    def _token(self, challenge: str) -> str:
        said = dict(_PARAMETER.findall(challenge[:4096]))
        realm = self._realm(said.get("realm", ""))
        wanted = {"service": said.get("service", ""), "scope": self._scope()}
        login = self._login
        if login is not None and login.identity_token:
            form = wanted | {
                "grant_type": "refresh_token",
                "client_id": "regalia",
                "refresh_token": login.identity_token,
            }
            call = Call("POST", realm, _FORM, urlencode(form).encode())
        else:
            headers = {} if login is None else {"authorization": login.basic()}
            call = Call("GET", f"{realm}?{urlencode(wanted)}", headers)
        answer = self._exchange.send(call, {})
        if answer.status != _OK:
            raise self.refused(f"no token from {httpx.URL(realm).host}: status {answer.status}")
        try:
            token = msgspec.json.decode(answer.body, type=_TokenAnswer)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise self.wrong("a token's answer that is none") from None
        text = token.token or token.access_token
        if not _TOKEN.fullmatch(text):
            raise self.wrong("a token that is none")
        return text

    def _scope(self) -> str:
        return f"repository:{self.address.repository}:{self._actions}"

    def _realm(self, text: str) -> str:
        """The address that tokens come from: the registry's own host, or the one that is named.

        A registry that could name any would collect passwords for others.
        """
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL:
            raise self.wrong("a challenge without an address") from None
        host = url.netloc.decode()
        if host not in {self.address.host, self.address.auth} or url.query or url.userinfo:
            raise self.refused(
                f"tokens come from {host[:100]!r}; if that is right, say auth={host[:100]}"
            )
        # With dangerous_http, for nobody only: a registry on this machine may have a password.
        anonymous = self.address.dangerous_http and self._login is None
        plain = is_this_machine(host) or anonymous
        if url.scheme != "https" and not (url.scheme == "http" and plain):
            raise self.refused(f"tokens come from {host[:100]!r} without encryption")
        return str(url)
