"""How a configuration names a sealed model in an OCI registry, without any credentials.

oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:HEX]; behind a question mark the hosts that the registry
may send its reader to. A registry is asked by https, and by http only on this machine.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from regalia.core.errors import CoreCode, UsageError
from regalia.store.reference import LATEST, behind, split_reference

SCHEME = "oci://"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REPOSITORY_MAX = 255
_PORTS = 1 << 16
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?"
)
_OPTIONS = frozenset({"auth", "blobs", "dangerous_http"})
_FORM = (
    "want oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:HEX], and after a ? only auth=HOST,"
    " blobs=HOST[,HOST…], dangerous_http=on"
)


@dataclass(frozen=True, slots=True)
class OciAddress:
    """A repository of a registry, a version in it, and whom else the registry may name.

    Attributes:
        host: with its port, if it has one.
        repository: path in the registry.
        reference: tag or digest.
        auth: host that gives out tokens, if it is not the registry itself.
        blobs: hosts that blobs may be redirected to. To all others no redirect is followed.
        dangerous_http: ask by http although the registry is on another machine.
    """

    host: str
    repository: str
    reference: str = LATEST
    auth: str | None = None
    blobs: frozenset[str] = frozenset()
    dangerous_http: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address. A refused text is not repeated, it may hold credentials.

        Raises:
            UsageError: BAD_CONFIG.
        """
        if not text.isascii() or not text.isprintable() or " " in text or "#" in text:
            raise _bad("its characters are not those of a URL")
        try:
            parts = urlsplit(text)
            path, reference = split_reference(parts.path.removeprefix("/"))
        except ValueError as exc:
            raise _bad(str(exc)) from None
        if "@" in parts.netloc:
            raise _bad("no credentials belong in it, they come from Docker's configuration")
        if parts.scheme != "oci" or not _is_host(parts.netloc):
            raise _bad(_FORM)
        if not _REPOSITORY.fullmatch(path) or len(path) > _REPOSITORY_MAX:
            raise _bad("its repository is no name of lower-case letters, digits and . _ - /")
        options = _options(parts.query)
        auth, blobs = options.get("auth"), options.get("blobs")
        hosts = frozenset(blobs.split(",")) if blobs is not None else frozenset()
        if not all(map(_is_host, hosts)) or (auth is not None and not _is_host(auth)):
            raise _bad("auth and blobs are hosts")
        if options.get("dangerous_http", "on") != "on":
            raise _bad("dangerous_http is on, or not there")
        return cls(
            parts.netloc, path, reference or LATEST, auth, hosts, "dangerous_http" in options
        )

    @property
    def base(self) -> str:
        """URL that paths of the registry's protocol are appended to, without a slash at its end."""
        plain = self.dangerous_http or is_this_machine(self.host)
        return f"{'http' if plain else 'https'}://{self.host}"

    def place(self) -> str:
        """Address without the version."""
        return f"{SCHEME}{self.host}/{self.repository}"

    def describe(self) -> str:
        """Address with the version."""
        return behind(self.place(), self.reference)


def is_this_machine(host: str) -> bool:
    """Whether a host, perhaps with a port, is this machine by its very spelling.

    A name is never resolved: a name server could send it anywhere.
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None and _port_is_valid(text)


def _port_is_valid(host: str) -> bool:
    digits = host.rpartition("]")[2].partition(":")[2]
    return not digits or 0 < int(digits) < _PORTS


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else []
    except ValueError:
        raise _bad(_FORM) from None
    options = dict(pairs)
    if len(options) != len(pairs) or not options.keys() <= _OPTIONS:
        raise _bad(_FORM)
    return options


def _bad(what: str) -> UsageError:
    return UsageError(CoreCode.BAD_CONFIG, f"store {SCHEME}…: {what}")
