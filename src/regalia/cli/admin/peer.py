"""Asks a broker about statements, as its tenants' owners do. What it answers is untrusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from regalia.control.codes import ControlCode, StatementCode
from regalia.core.codec import parse_json, unb64
from regalia.core.errors import (
    CoreCode,
    ParseError,
    PolicyDenied,
    UnavailableError,
    UsageError,
)
from regalia.core.tame import tame
from regalia.host.fetch import open_client
from regalia.wire.administration import (
    ANSWER_LIMIT,
    ProposalStatus,
    StatementPage,
    TenantStatus,
)
from regalia.wire.release import Refusal

if TYPE_CHECKING:
    from types import TracebackType

    from regalia.core.errors import Code

T = TypeVar("T")

_PAGES_MAX = 10_000


class AdminPeer:
    """A broker at one address."""

    def __init__(self, url: str, http: httpx.Client | None = None) -> None:
        """Prepare to ask the broker at ``url``.

        Args:
            url: base address.
            http: client to ask with; None for one that follows no redirects and bounds answers.

        Raises:
            UsageError: BAD_USAGE, the address is no http or https URL.
        """
        if not url.startswith(("http://", "https://")):
            raise UsageError(CoreCode.BAD_USAGE, f"--url {url[:200]!r}: want http(s)://…")
        self._base = url.rstrip("/")
        self._http = open_client() if http is None else http

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _value: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def propose(self, envelope: bytes) -> ProposalStatus:
        """Submit a statement. Raises as ``entries``, or PolicyDenied with the broker's reason."""
        return self._ask("POST", "/v1/admin/proposals", ProposalStatus, envelope)

    def status(self, tenant: str) -> TenantStatus:
        """Where a tenant's chain stands. Raises as ``entries``."""
        return self._ask("GET", f"/v1/admin/statements/{tenant}/status", TenantStatus)

    def entries(self, tenant: str) -> list[bytes]:
        """All log entries of a tenant's statements, in their order.

        Raises:
            UnavailableError: PEER_UNREACHABLE, or the broker knows no such tenant.
            ParseError: the answer does not follow the protocol.
        """
        found: list[bytes] = []
        first: int | None = 1
        for _ in range(_PAGES_MAX):
            path = f"/v1/admin/statements/{tenant}?first={first}"
            page = self._ask("GET", path, StatementPage)
            found += [unb64(each.entry, what="statement") for each in page.statements]
            first = page.following
            if first is None:
                return found
            if not page.statements:
                break
        raise ParseError(CoreCode.MALFORMED, f"{self._base}: pages of statements have no end")

    def _ask(self, method: str, path: str, kind: type[T], body: bytes | None = None) -> T:
        url = self._base + path
        data = bytearray()
        try:
            with self._http.stream(method, url, content=body) as response:
                for part in response.iter_raw():
                    data += part
                    if len(data) > ANSWER_LIMIT:
                        raise ParseError(CoreCode.TOO_LARGE, f"answer of {url}: too large")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise UnavailableError(
                CoreCode.PEER_UNREACHABLE, f"{url}: {exc or type(exc).__name__}"
            ) from exc
        if not response.is_success:
            raise _refused(bytes(data), url, response.status_code)
        return parse_json(bytes(data), kind, limit=ANSWER_LIMIT, what=f"answer of {url}")


def _refused(data: bytes, url: str, status: int) -> PolicyDenied | UnavailableError:
    """A broker's refusal, explained by this installation wherever it knows the code."""
    try:
        refusal = parse_json(data, Refusal, limit=ANSWER_LIMIT, what=f"answer of {url}")
    except ParseError:
        return UnavailableError(CoreCode.PEER_UNREACHABLE, f"{url}: status {status}")
    what = f"the broker says [{tame(refusal.code)}] {tame(refusal.what)}"
    kinds: tuple[type[Code], ...] = (StatementCode, ControlCode)
    for kind in kinds:
        for code in kind:
            if code.name == refusal.code:
                return PolicyDenied(code, what)
    return UnavailableError(CoreCode.PEER_UNREACHABLE, what)
