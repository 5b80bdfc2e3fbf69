"""The collateral bundle: what verifiers need besides evidence, in one file that travels by hand.
Spec: docs/spec/collateral-bundle.md.

The payload of a DSSE envelope. Everything is inside and under the signature; there is nothing
to unpack. Parsing checks form and digests. What an entry *is* (a certificate, Intel's TCB info)
is read in ``regalia.verifier.collateral``.
"""

from __future__ import annotations

import itertools
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec

from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import MIB, b64, canonical_json, parse_json, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest

if TYPE_CHECKING:
    from datetime import datetime

FORMAT = "regalia/collateral-bundle/v1"
PAYLOAD_TYPE = "application/vnd.regalia.collateral-bundle.v1+json"
PAYLOAD_MAX = 16 * MIB  # bytes
ENTRY_MAX = 1 * MIB  # bytes of one entry's content
ENTRIES_MAX = 8192
NAME_MAX = 200  # characters
TCB_EVALUATION_MAX = 2**31 - 1

_NAME = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class CollateralKind(StrEnum):
    """What an entry's content is."""

    CERTIFICATE = "certificate"  # X.509, DER
    CRL = "crl"  # X.509, DER
    DENY_LIST = "device-deny-list"  # regalia/deny-list/v1
    QE_IDENTITY = "intel-qe-identity"  # Intel PCS v4, the exact body
    TCB_INFO = "intel-tcb-info"  # Intel PCS v4, the exact body
    KEY_DENIALS = "key-denials"  # regalia/key-denials/v1
    RIM = "nvidia-rim"  # regalia/rim/v1
    AK_ROOT = "tpm-ak-root"  # X.509, DER; an anchor: it says what is a TPM's attestation key
    EK_ROOT = "tpm-ek-root"  # X.509, DER; an anchor: it says what is a TPM's endorsement key
    ENROLMENT = "tpm-enrolment"  # regalia/tpm-enrolment/v1


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the wire structs."""


_Serial = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=TCB_EVALUATION_MAX)]


class Floors(_Doc, frozen=True, kw_only=True):
    """What no entry, and no later bundle, may go below."""

    tcb_evaluation_data_number: _Number  # Intel's; 0 if the site has no Intel platform


class Entry(_Doc, frozen=True, kw_only=True):
    """One piece of collateral. Dates and digest repeat what the content says, for whoever reads
    the document; a reader checks that they do.
    """

    content: str  # base64
    digest: str  # sha256:<hex> of the content
    kind: CollateralKind
    name: str  # for people; unique within its kind
    size: int  # bytes of the content
    source: str  # where it came from, for people; may be empty
    valid_from: str  # RFC 3339, or empty if the content names no date
    valid_until: str


class Bundle(_Doc, frozen=True, kw_only=True):
    """The DSSE payload. Worth nothing before its signatures are verified."""

    entries: list[Entry]  # sorted by kind, then by name
    floors: Floors
    format: str
    issued: str
    name: str  # the site or fleet that it is for
    next_update: str
    serial: _Serial  # never goes down under one name

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self)


def make_entry(  # noqa: PLR0913 - the fields of an entry
    kind: CollateralKind,
    name: str,
    content: bytes,
    *,
    source: str,
    valid_from: datetime | None,
    valid_until: datetime | None,
) -> Entry:
    """An entry over ``content``.

    Args:
        kind: what the content claims to be.
        name: tells it from others of its kind.
        content: the document itself.
        source: where it came from, for people.
        valid_from: its own first moment, aware; None if it states none.
        valid_until: its own last moment, aware; None if it states none.
    """
    return Entry(
        content=b64(content),
        digest=str(Digest.of(content)),
        kind=kind,
        name=name,
        size=len(content),
        source=source,
        valid_from="" if valid_from is None else rfc3339(valid_from),
        valid_until="" if valid_until is None else rfc3339(valid_until),
    )


def parse_bundle(payload: bytes) -> tuple[Bundle, tuple[bytes, ...]]:
    """Parse a payload whose signatures the caller has verified.

    Returns:
        The document, and the content of each entry, whose size and digest are right.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    bundle = parse_json(payload, Bundle, limit=PAYLOAD_MAX, what="collateral bundle")
    if bundle.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"collateral bundle: format {bundle.format[:80]!r}")
    check_name(bundle.name, "collateral bundle, name")
    if _date(bundle.issued, "issued") >= _date(bundle.next_update, "next_update"):
        raise _malformed("next_update is not after issued")
    if not bundle.entries:
        raise _malformed("no entries")
    if len(bundle.entries) > ENTRIES_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE,
            f"collateral bundle: {len(bundle.entries)} entries, at most {ENTRIES_MAX}",
        )
    order = [(entry.kind.value, entry.name) for entry in bundle.entries]
    if any(a >= b for a, b in itertools.pairwise(order)):
        raise _malformed("entries are not sorted by kind and name, or one name stands twice")
    contents = tuple(_content(entry) for entry in bundle.entries)
    if len({(entry.kind, entry.digest) for entry in bundle.entries}) != len(contents):
        raise _malformed("one content stands in it twice")
    return bundle, contents


def _content(entry: Entry) -> bytes:
    what = f"collateral bundle, {entry.kind} {entry.name[:NAME_MAX]!r}"
    check_name(entry.name, what)
    if entry.source:
        check_name(entry.source, f"{what}, source")
    for text in (entry.valid_from, entry.valid_until):
        if text:
            _date(text, f"{entry.name}: a date")
    content = unb64(entry.content, what=what, limit=ENTRY_MAX)
    if len(content) > ENTRY_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: more than {ENTRY_MAX} bytes")
    if len(content) != entry.size:
        raise ParseError(
            CoreCode.MALFORMED, f"{what}: {len(content)} bytes, and its size says {entry.size}"
        )
    if str(Digest.of(content)) != entry.digest:
        raise ParseError(CoreCode.MALFORMED, f"{what}: its digest is not that of its content")
    return content


def check_name(name: str, what: str) -> None:
    """1 to 200 printable ASCII characters, no space at the ends. Raises ParseError MALFORMED.

    Args:
        name: untrusted.
        what: names the value in the error.
    """
    if len(name) > NAME_MAX or _NAME.fullmatch(name) is None:
        raise ParseError(
            CoreCode.MALFORMED,
            f"{what}: want 1 to {NAME_MAX} printable ASCII characters, no space at the ends",
        )


def _date(text: str, what: str) -> datetime:
    try:
        return parse_rfc3339(text)
    except ValueError as exc:
        raise _malformed(f"{what} {text[:40]!r}") from exc


def _malformed(why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"collateral bundle: {why}")
