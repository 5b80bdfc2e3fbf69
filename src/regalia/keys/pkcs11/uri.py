"""Parses which token is meant: a PKCS#11 URI (RFC 7512) without its scheme.

    token=LABEL;serial=NUMBER?module-path=/PATH/LIBRARY.so

Only what selects a token is taken, each at most once: an attribute that is ignored would select
another token than its author thought. A PIN in the URI is refused, because command lines and
configuration files are read by others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from regalia.core.errors import UsageError
from regalia.keys.pkcs11.codes import Pkcs11Code

_LABEL_MAX = 32  # bytes; CK_TOKEN_INFO, PKCS #11 section 3.2
_SERIAL_MAX = 16  # bytes; likewise
_PATH_MAX = 4095  # bytes; PATH_MAX without its zero byte
# What RFC 7512 lets stand for itself: unreserved characters and most of the reserved ones. "/" and
# "?" may stand in the query only.
_PATH_TEXT = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&]|%[0-9A-Fa-f]{2})*")
_QUERY_TEXT = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{2})*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Which token is meant, and the library that speaks to it.

    Attributes:
        library: absolute path of a PKCS#11 library, which is loaded into this process.
        label: of the token; None if only the serial number selects it.
        serial: of the token; None if only the label selects it.
    """

    library: str
    label: str | None
    serial: str | None

    def __str__(self) -> str:
        named = [] if self.label is None else [f"token {self.label!r}"]
        named += [] if self.serial is None else [f"serial number {self.serial!r}"]
        return " with ".join(named)


def parse_uri(text: str) -> TokenUri:
    """Parse a location.

    Raises:
        UsageError: TOKEN_URI_MALFORMED.
    """
    path, mark, query = text.partition("?")
    selectors = _attributes(path, ";", _PATH_TEXT, {"token": _LABEL_MAX, "serial": _SERIAL_MAX})
    places = _attributes(query, "&", _QUERY_TEXT, {"module-path": _PATH_MAX}) if mark else {}
    if not selectors:
        raise _malformed("token= or serial= must say which token")
    library = places.get("module-path", "")
    if not library.startswith("/"):
        raise _malformed("?module-path= must be the absolute path of a library")
    return TokenUri(library, selectors.get("token"), selectors.get("serial"))


def _attributes(
    text: str, separator: str, allowed: re.Pattern[str], limits: dict[str, int]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(separator) if text else []:
        name, equals, value = part.partition("=")
        if name in {"pin-value", "pin-source"}:
            raise _malformed(f"{name} is not taken: the PIN is asked for, or comes from a file")
        if not equals or name not in limits:
            raise _malformed(f"{name[:40]!r} is not one of {', '.join(limits)}")
        if name in found:
            raise _malformed(f"{name} stands twice")
        found[name] = _value(name, value, allowed, limits[name])
    return found


def _value(name: str, value: str, allowed: re.Pattern[str], most: int) -> str:
    if not allowed.fullmatch(value):
        raise _malformed(f"{name} has a character that must be percent-encoded")
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), value.encode())
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        raise _malformed(f"{name} is not UTF-8") from exc
    if not 0 < len(raw) <= most or not text.isprintable() or text != text.rstrip(" "):
        # Tokens pad both texts with blanks, so one that ends with a blank never matches.
        raise _malformed(f"{name}: want 1 to {most} bytes of printable text, no blank at its end")
    return text


def _malformed(what: str) -> UsageError:
    # The text itself is not shown: it may hold a PIN.
    return UsageError(Pkcs11Code.TOKEN_URI_MALFORMED, f"PKCS#11 URI: {what}")
