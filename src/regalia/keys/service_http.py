"""One exchange with a key service: bounded in time and size, no redirects, no proxies.

The SDKs of such services bound each read and not the whole answer, follow redirects with the
caller's credentials in the request, and take proxies from the environment.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar

import httpx
import msgspec

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, IntegrityError, UnavailableError, UsageError
from regalia.host.transports import HeadTransport
from regalia.keys.service_codes import KeyServiceCode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")

ANSWER_MAX = 1 * MIB  # bytes
STEP_S = 5.0  # seconds for one step of an exchange, such as connecting
ANSWER_S = 10.0  # seconds for a whole exchange, however its bytes trickle in


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Untrusted."""

    status: int
    body: bytes


def require_private_way(url: httpx.URL, what: str) -> httpx.URL:
    """Check that nobody can listen on the way to a service: https, or this machine.

    Args:
        url: of the service.
        what: names it in messages.

    Raises:
        UsageError: KEY_SERVICE_ADDRESS.
    """
    if url.userinfo or not url.host:
        raise UsageError(KeyServiceCode.KEY_SERVICE_ADDRESS, f"{what}: want https://HOST[:PORT]/…")
    if url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host)):
        return url
    raise UsageError(
        KeyServiceCode.KEY_SERVICE_ADDRESS,
        f"{what}: want https; http is for services on this machine only",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificates are. None for the public authorities, and for no certificate of ours."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """What connections are made with. Raises UsageError KEY_SERVICE_ADDRESS."""
        named = self.authorities
        try:
            if self.authorities is None:
                context = httpx.create_ssl_context(trust_env=False)
            else:
                context = ssl.create_default_context(cafile=self.authorities)
            if self.certificate is not None:
                named = self.certificate
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            why = getattr(exc, "strerror", None) or type(exc).__name__
            raise UsageError(KeyServiceCode.KEY_SERVICE_ADDRESS, f"{named}: {why}") from exc
        return context


def _no_password() -> str:
    # OpenSSL would ask on the terminal, where a service has none.
    raise ValueError("the private key is encrypted")


class ServiceHttp:
    """Sends requests to one service. Thread-safe; closed with ``close``."""

    def __init__(self, base: httpx.URL, tls: ssl.SSLContext) -> None:
        self.base = base
        self._client = httpx.Client(
            transport=HeadTransport(ANSWER_S, tls=tls),
            timeout=STEP_S,
            trust_env=False,
            follow_redirects=False,
        )

    def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """Send one request and read its answer.

        Args:
            method: of HTTP.
            path: with its query; it begins with a slash.
            headers: besides those of httpx.
            body: None for none.

        Raises:
            UnavailableError: PEER_UNREACHABLE.
            IntegrityError: KEY_SERVICE_ANSWER_WRONG, the answer is too large.
        """
        data = bytearray()
        try:
            with self._client.stream(
                method, self.base.join(path), headers=dict(headers), content=body
            ) as response:
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > ANSWER_MAX:
                        raise answer_wrong(f"more than {ANSWER_MAX} bytes")
        except httpx.HTTPError as exc:
            # The type only, and no cause: such exceptions hold the request with its credentials.
            raise UnavailableError(
                CoreCode.PEER_UNREACHABLE, f"{self.where}: {type(exc).__name__}"
            ) from None
        return Answer(response.status_code, bytes(data))

    @property
    def where(self) -> str:
        """Scheme, host and port, for messages."""
        return f"{self.base.scheme}://{self.base.netloc.decode()}"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def answer_wrong(what: str) -> IntegrityError:
    """KEY_SERVICE_ANSWER_WRONG."""
    return IntegrityError(KeyServiceCode.KEY_SERVICE_ANSWER_WRONG, f"key service: {what}")


def parse_answer(body: bytes, kind: type[T]) -> T:
    """The members of a service's JSON that we know; it may have others.

    Args:
        body: untrusted, and bounded in size.
        kind: a struct.

    Raises:
        IntegrityError: KEY_SERVICE_ANSWER_WRONG.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # Without the cause: its text may quote what the answer says of a key.
        raise answer_wrong(f"an answer that is no {kind.__name__.strip('_')}") from None
