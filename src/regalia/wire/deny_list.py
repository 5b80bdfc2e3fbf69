"""A site's own revocations: devices, keys and certificates that are no longer believed, whatever
the vendor says of them. Spec: docs/spec/collateral-bundle.md, "Deny-lists".

It travels in a collateral bundle, under the bundle's signatures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import canonical_json, parse_json, unhex
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import KeyFingerprint
from regalia.wire.collateral import ENTRY_MAX, check_name
from regalia.wire.evidence import DeviceKind, Tee

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "regalia/deny-list/v1"
ENTRIES_MAX = 4096
IDENTITY_MAX = 128  # bytes
SERIAL_MAX = 20  # bytes, RFC 5280 section 4.1.2.2


class _Denied(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"
):
    """Base of the three kinds."""

    reason: str


class DeniedKey(_Denied, frozen=True, kw_only=True, tag="key"):
    """Every certificate of one key.

    A certificate's digest would not do: an ECDSA signature has twins, so anybody can make another
    certificate of the same content.
    """

    key: str  # key:<hex>, SHA-256 of its SubjectPublicKeyInfo


class DeniedSerial(_Denied, frozen=True, kw_only=True, tag="serial"):
    """One certificate, as a CRL would name it."""

    issuer: str  # key:<hex>, SHA-256 of the issuer's SubjectPublicKeyInfo
    serial: str  # hex, no leading zeros


class DeniedIdentity(_Denied, frozen=True, kw_only=True, tag="identity"):
    """One machine or device, by what its verified claims call it."""

    identity: str  # hex: CHIP_ID, PPID, UEID …
    of: str  # the TEE or kind of device, as evidence names it


Denied = DeniedKey | DeniedSerial | DeniedIdentity


class DenyList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document."""

    entries: list[Denied]
    format: str
    name: str

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self)


def parse_deny_list(data: bytes) -> DenyList:
    """Inverse of ``DenyList.encode``. Raises ParseError."""
    found = parse_json(data, DenyList, limit=ENTRY_MAX, what="deny-list")
    if found.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"deny-list: format {found.format[:80]!r}")
    check_name(found.name, "deny-list, name")
    if len(found.entries) > ENTRIES_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"deny-list: {len(found.entries)} entries, at most {ENTRIES_MAX}"
        )
    keys = list(_checked(found.entries))
    if len(set(keys)) != len(keys):
        raise ParseError(CoreCode.MALFORMED, "deny-list: one thing is denied twice")
    return found


def _checked(entries: list[Denied]) -> Iterator[tuple[str, str]]:
    """What each entry denies; raises ParseError at the first that denies nothing."""
    for index, entry in enumerate(entries):
        what = f"deny-list, entry {index}"
        check_name(entry.reason, f"{what}, reason")
        match entry:
            case DeniedKey():
                KeyFingerprint.parse(entry.key)
                yield "key", entry.key
            case DeniedSerial():
                KeyFingerprint.parse(entry.issuer)
                serial_number(entry.serial, what)
                yield entry.issuer, entry.serial
            case DeniedIdentity():
                _check_identity(entry, what)
                yield entry.of, entry.identity


def serial_number(text: str, what: str) -> int:
    """A serial number from its one spelling. Raises ParseError MALFORMED.

    Args:
        text: untrusted.
        what: names the value in the error.
    """
    try:
        number = int(text, 16)
    except ValueError:
        number = -1
    if number < 0 or f"{number:x}" != text or number.bit_length() > SERIAL_MAX * 8:
        raise ParseError(CoreCode.MALFORMED, f"{what}: {text[:50]!r} is no serial number")
    return number


def _check_identity(entry: DeniedIdentity, what: str) -> None:
    if entry.of not in {*Tee, *DeviceKind}:
        raise ParseError(
            CoreCode.MALFORMED, f"{what}: {entry.of[:50]!r} is no TEE and no kind of device"
        )
    identity = unhex(entry.identity, what=what)
    if not 0 < len(identity) <= IDENTITY_MAX or not any(identity):
        raise ParseError(CoreCode.MALFORMED, f"{what}: the identity names no device")
