"""Locations ``https://HOST:PORT/MOUNT?…``: a transit mount, and how to log in to its server.

The query names files, so that no secret stands in a configuration or on a command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl

import httpx

from regalia.core.errors import UsageError
from regalia.keys.service_codes import KeyServiceCode
from regalia.keys.service_http import TlsFiles, require_private_way

if TYPE_CHECKING:
    from pathlib import Path

_MOUNT = re.compile(r"[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,7}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,7}/?")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Which settings belong together: exactly one of these ways to log in.
_WAYS = {
    "token": ({"token-file"}, set[str]()),
    "approle": ({"role-id", "secret-id-file"}, {"auth-mount"}),
    "cert": ({"cert", "key"}, {"auth-mount", "cert-role"}),
}
_COMMON = {"ca", "namespace"}
_FILES = {"token-file", "secret-id-file", "cert", "key", "ca"}


@dataclass(frozen=True, slots=True)
class TokenFileLogin:
    """A token in a private file, which is read again when it changes."""

    path: Path


@dataclass(frozen=True, slots=True)
class AppRoleLogin:
    """An AppRole, whose secret id is in a private file."""

    mount: str
    role_id: str
    secret_id: Path


@dataclass(frozen=True, slots=True)
class CertificateLogin:
    """The TLS client certificate of the connection."""

    mount: str
    role: str | None


Login: TypeAlias = TokenFileLogin | AppRoleLogin | CertificateLogin


@dataclass(frozen=True, slots=True)
class OpenBaoAddress:
    """A transit mount and a way to log in.

    Attributes:
        base: scheme, host and port.
        mount: path of the transit engine.
        namespace: of Vault Enterprise or OpenBao; None for the root.
        login: how to get a token.
        tls: certificates of the connection.
    """

    base: httpx.URL
    mount: str
    namespace: str | None
    login: Login
    tls: TlsFiles

    def __str__(self) -> str:
        return f"{self.base.scheme}://{self.base.netloc.decode()}/{self.mount}"


def parse_address(location: str, folder: Path) -> OpenBaoAddress:
    """Parse a location.

    Args:
        location: as the configuration has it.
        folder: where relative paths in it begin.

    Raises:
        UsageError: KEY_SERVICE_ADDRESS.
    """
    try:
        url = httpx.URL(location)
        settings = parse_qsl(url.query.decode(), strict_parsing=True, keep_blank_values=True)
    except (httpx.InvalidURL, ValueError) as exc:
        raise _wrong("want https://HOST:PORT/MOUNT?token-file=FILE") from exc
    require_private_way(url, "openbao")
    mount = url.path.removeprefix("/")
    if not _MOUNT.fullmatch(mount) or url.fragment:
        raise _wrong(f"mount {mount[:64]!r}")
    given = dict(settings)
    if len(given) != len(settings):
        raise _wrong("a setting twice")
    way = _way_of(set(given))
    files = {name: folder / value for name, value in given.items() if name in _FILES}
    return OpenBaoAddress(
        base=url.copy_with(path="/", query=None),
        mount=mount,
        namespace=_matching(_NAMESPACE, given, "namespace"),
        login=_login(way, given, files),
        tls=TlsFiles(files.get("ca"), files.get("cert"), files.get("key")),
    )


def _way_of(names: set[str]) -> str:
    fitting = [
        way
        for way, (needed, optional) in _WAYS.items()
        if needed <= names <= needed | optional | _COMMON
    ]
    if len(fitting) != 1:
        raise _wrong(
            "want one way to log in: token-file, or role-id and secret-id-file, or cert and key;"
            f" got {sorted(names)}"
        )
    return fitting[0]


def _login(way: str, given: dict[str, str], files: dict[str, Path]) -> Login:
    if way == "token":
        return TokenFileLogin(files["token-file"])
    mount = _matching(_MOUNT, given, "auth-mount") or way
    if way == "approle":
        role_id = _matching(_WORD, given, "role-id") or ""
        return AppRoleLogin(mount, role_id, files["secret-id-file"])
    return CertificateLogin(mount, _matching(_WORD, given, "cert-role"))


def _matching(pattern: re.Pattern[str], given: dict[str, str], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not pattern.fullmatch(value):
        raise _wrong(f"{name} {value[:64]!r}")
    return value


def _wrong(what: str) -> UsageError:
    return UsageError(KeyServiceCode.KEY_SERVICE_ADDRESS, f"openbao: {what}")
