"""Parses key references ``SCHEME:LOCATION#NAME``, such as ``dev-file:./keys.json#model``.

The scheme is the name of a key store plug-in, which interprets the location. The name is that of
the KEK in the store. A sealed model contains only the name, because owner and broker may have the
same store at different locations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from regalia.core.errors import UsageError
from regalia.keys.codes import KeysCode

_SCHEME = re.compile(r"[a-z][a-z0-9-]{0,31}")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LENGTH_MAX = 4096  # characters


@dataclass(frozen=True, slots=True)
class KeyReference:
    """Reference to a KEK in a key store."""

    scheme: str
    location: str
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.location}#{self.name}"


def parse_reference(text: str) -> KeyReference:
    """Parse ``SCHEME:LOCATION#NAME``. The last ``#`` separates the name.

    Raises:
        UsageError: KEY_REFERENCE_MALFORMED.
    """
    scheme, colon, rest = text.partition(":")
    location, hash_sign, name = rest.rpartition("#")
    if len(text) > _LENGTH_MAX or not colon or not hash_sign or "\0" in text:
        raise _malformed(text)
    if not _SCHEME.fullmatch(scheme) or not location:
        raise _malformed(text)
    return KeyReference(scheme, location, check_name(name))


def check_name(name: str) -> str:
    """Check and return a KEK name. Raises UsageError KEY_REFERENCE_MALFORMED."""
    if not NAME.fullmatch(name):
        raise UsageError(
            KeysCode.KEY_REFERENCE_MALFORMED,
            f"KEK name {name[:80]!r}: want 1 to 64 of a-z 0-9 . _ - beginning with a-z or 0-9",
        )
    return name


def _malformed(text: str) -> UsageError:
    return UsageError(KeysCode.KEY_REFERENCE_MALFORMED, f"key reference {text[:80]!r}")
