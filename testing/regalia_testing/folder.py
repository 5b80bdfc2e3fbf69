"""The folder that a simulator keeps itself in: its marker, its keys in clear, its collateral.

SIMULATED-PROTECTS-NOTHING.txt   what this is
platform.json                    who the platform is, and since when its certificates hold
*.key                            PKCS #8 in DER, mode 600
collateral/                      what a verifier is given, root included
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from regalia.core.clock import parse_rfc3339
from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import CoreCode, LocalError, ParseError
from regalia.host.localfs import os_errors, read_file, read_private_file, write_new

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from _typeshed import DataclassInstance
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

FILE_MAX = 64 * 1024  # bytes
COLLATERAL = "collateral"
_STATE_FILE = "platform.json"
MARKER = "SIMULATED-PROTECTS-NOTHING.txt"
_MARKER_TEXT = """This directory holds {what}, made for tests and the demo.

Its keys forge evidence for anybody who reads them. A verifier that trusts the root in it is
protected from nobody. Never use it for a model or a prompt that matters.
"""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What ``platform.json`` holds of every simulator.

    Attributes:
        format: names the kind of simulator.
        since: RFC 3339; from when its certificates are valid.
    """

    format: str
    since: str

    def date(self) -> datetime:
        """``since``. Raises ParseError: MALFORMED."""
        try:
            return parse_rfc3339(self.since)
        except ValueError as exc:
            raise ParseError(CoreCode.MALFORMED, "simulated platform: bad date") from exc


_State = TypeVar("_State", bound=State)
Keys = TypeVar("Keys", bound="DataclassInstance")


def make_folder(directory: Path, *, what: str) -> None:
    """Make a simulator's folder, mode 700, with the marker that says what it is.

    Args:
        directory: absent or empty.
        what: for the marker, such as "a simulated SEV-SNP platform".

    Raises:
        LocalError: the directory is not empty, or cannot be written.
    """
    with os_errors(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise LocalError(CoreCode.FILE_EXISTS, f"{directory} is not empty")
    write_new(directory / MARKER, _MARKER_TEXT.format(what=what).encode())


def write_folder(
    directory: Path, state: State, keys: Mapping[str, PrivateKey], collateral: Mapping[str, bytes]
) -> None:
    """Fill a folder that ``make_folder`` made.

    Args:
        directory: the folder.
        state: becomes ``platform.json``.
        keys: by name, without the suffix.
        collateral: files for verifiers by name; without any there is no folder for them.
    """
    for name, key in keys.items():
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        write_new(directory / f"{name}.key", der, mode=0o600)
    if collateral:
        with os_errors(directory):
            (directory / COLLATERAL).mkdir()
    for name, data in collateral.items():
        write_new(directory / COLLATERAL / name, data)
    write_new(directory / _STATE_FILE, canonical_json(state))


def read_state(directory: Path, kind: type[_State], *, expected: str) -> _State:
    """Read ``platform.json``.

    Raises:
        LocalError: it is missing or unreadable.
        ParseError: MALFORMED, or its format is not the expected one.
    """
    data = read_file(directory / _STATE_FILE, limit=FILE_MAX)
    state = parse_json(data, kind, limit=FILE_MAX, what="simulated platform")
    if state.format != expected:
        raise ParseError(
            CoreCode.MALFORMED, f"{directory}: format {state.format[:60]!r}, want {expected!r}"
        )
    state.date()
    return state


def read_ec_key(directory: Path, name: str) -> ec.EllipticCurvePrivateKey:
    """Read a key that ``write_folder`` wrote.

    Raises:
        LocalError: it is missing, unreadable, or readable by others.
        ParseError: MALFORMED, it is not an elliptic curve key.
    """
    key = _read_key(directory / f"{name}.key")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ParseError(CoreCode.MALFORMED, f"{name}.key: not an elliptic curve key")
    return key


def read_rsa_key(directory: Path, name: str) -> rsa.RSAPrivateKey:
    """Read a key that ``write_folder`` wrote.

    Raises:
        LocalError: it is missing, unreadable, or readable by others.
        ParseError: MALFORMED, it is not an RSA key.
    """
    key = _read_key(directory / f"{name}.key")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ParseError(CoreCode.MALFORMED, f"{name}.key: not an RSA key")
    return key


def _read_key(path: Path) -> PrivateKeyTypes:
    try:
        # We made it, and validating an RSA-4096 key takes half a second.
        return load_der_private_key(
            read_private_file(path, limit=FILE_MAX), None, unsafe_skip_rsa_key_validation=True
        )
    except (ValueError, TypeError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path}: not a private key") from exc


def new_ec_keys(kind: type[Keys], curve: ec.EllipticCurve) -> Keys:
    """Fresh keys for every field of a dataclass of keys."""
    return kind(*(ec.generate_private_key(curve) for _ in fields(kind)))


def named_keys(keys: DataclassInstance) -> dict[str, PrivateKey]:
    """The keys of a dataclass of keys, by the names of its fields."""
    return {each.name: getattr(keys, each.name) for each in fields(keys)}


def read_keys(
    directory: Path, kind: type[Keys], read: Callable[[Path, str], PrivateKey] = read_ec_key
) -> Keys:
    """Read what ``write_folder`` wrote of ``named_keys``.

    Args:
        directory: the simulator's.
        kind: a dataclass of keys.
        read: reads one of them.

    Raises:
        LocalError: one is missing, unreadable, or readable by others.
        ParseError: MALFORMED, one is not such a key.
    """
    return kind(*(read(directory, each.name) for each in fields(kind)))


def read_collateral(directory: Path, *names: str) -> tuple[bytes, ...]:
    """Read files for verifiers. Raises LocalError."""
    return tuple(read_file(directory / COLLATERAL / name, limit=FILE_MAX) for name in names)
