"""Messages of the release exchange, and the release record that the log keeps.

Specs: docs/spec/release-exchange.md, docs/spec/release-record.md.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec

from regalia.core.codec import MIB, canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.wire.statement import ENTRY_FORMAT, LogStatement, parse_log_statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.wire.evidence import DeviceKind

RECORD_FORMAT = "regalia/release-record/v3"
# Version 2 did not record how the key was wrapped; brokers of that time wrapped it only with HPKE.
# Nor did it name statements of owners, of which those brokers knew none.
RECORD_FORMAT_V2 = "regalia/release-record/v2"
# Version 1 did not record devices either; brokers of that time released to no machine with devices.
RECORD_FORMAT_V1 = "regalia/release-record/v1"
NOTICE_FORMAT = "regalia/log-notice/v1"
_NOTICE = b'"format":"' + NOTICE_FORMAT.encode() + b'"'
_STATEMENT = b'"format":"' + ENTRY_FORMAT.encode() + b'"'
# These bytes cannot occur inside a JSON string, because its quotes would be escaped.
_V2 = b'"format":"' + RECORD_FORMAT_V2.encode() + b'"'
_V1 = b'"format":"' + RECORD_FORMAT_V1.encode() + b'"'
REQUEST_LIMIT = 8 * MIB
RESPONSE_LIMIT = 1 * MIB
RETURN_EXPORT = b"regalia/lease-return/v1"  # HPKE export of a release's context
RETURN_TOKEN_SIZE = 32  # bytes
RECORD_LIMIT = (1 << 16) - 1  # bytes; an entry bundle states the size in two bytes

_COUNT_MAX = (1 << 53) - 1  # JSON software that uses doubles keeps no larger ones exactly

# Where a model key is in clear while it is rewrapped: in the broker's memory, in a key service, or
# in a hardware security module.
Custody = Literal["broker", "kms", "hsm"]
# What the key store wraps the model key with, to the attested ``wrap_public_key``. The broker seals
# the result to the attested HPKE key. "none": the store hands the model key to the broker.
KeyWrapping = Literal[
    "none",
    "rsa-oaep-sha1",
    "rsa-oaep-sha256",
    "rsa-oaep-sha256-aes-kwp",
    "cms-rsa-oaep-sha256-aes256-cbc",
]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_COUNT_MAX)]
_LeaseId = Annotated[str, msgspec.Meta(pattern=r"\Alease:[0-9a-f]{32}\Z")]

# Catches honest mistakes as appraisal.claims.MINT does; no wall against hostile code.
MINT = object()


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all messages: unknown fields are an error."""


class ChallengeRequest(_Doc, frozen=True, kw_only=True):
    """Body of POST /v1/challenge."""

    model_id: str


class ChallengeResponse(_Doc, frozen=True, kw_only=True):
    """Answer to a challenge request: a challenge for a single use."""

    challenge: str  # base64, 32 bytes
    audience: str  # the log's origin; part of the evidence's binding
    policy_id: str  # the policy that will be applied; part of the evidence's binding
    expires_in_s: int


class ReleaseRequest(_Doc, frozen=True, kw_only=True):
    """Body of POST /v1/release."""

    challenge: str  # base64, 32 bytes
    model_id: str
    model_version: int  # from the manifest of the sealed model that the runtime has
    policy_id: str
    hpke_public_key: str  # base64
    wrap_public_key: str  # base64
    evidence: str  # base64 of the exact evidence envelope
    lease_id: str | None  # the lease to renew; null to take a new one


class Reason(_Doc, frozen=True, kw_only=True):
    """One reason of a denial."""

    code: str
    what: str


class _RecordV1(_Doc, frozen=True, kw_only=True):
    """A record of version 1, which has no list of devices."""

    format: str
    decision: Literal["release", "denial"]
    time: str  # RFC 3339, whole seconds, UTC
    broker: str
    model_id: str
    model_version: _Count
    policy_id: str
    policy_version: _Count
    hardware: str  # genuine, simulated, or unverified if the evidence did not verify
    tee: str
    product: str
    measurement: str  # hex; empty if unverified
    chip_id: str  # hex of ``Claims.instance``, the identity of the machine for its TEE
    revocation: str
    evidence_digest: str
    recipient: str  # fingerprint of the HPKE key
    custody: str
    lease_id: str
    lease_until: str
    wildcards: list[str]  # policy fields that were written "any"
    reasons: list[Reason]


class _RecordV2(_RecordV1, frozen=True, kw_only=True):
    """A record of version 2, which does not say how the key was wrapped."""

    devices: list[str]  # as ``device_names`` returns; empty for a record of version 1


class ReleaseRecord(_RecordV2, frozen=True, kw_only=True):
    """The log's record of one decision, a release or a denial."""

    key_wrapping: str  # a ``KeyWrapping``; "none" for a record of version 1 or 2
    # Digest of the newest statement of the model's tenant; empty if it has none, and for a record
    # of version 1 or 2.
    control: str

    def encode(self) -> bytes:
        """Encode as canonical JSON, the exact bytes of the log entry."""
        old = _OLD_RECORDS.get(self.format)
        if old is None:
            return canonical_json(self)
        return canonical_json({name: getattr(self, name) for name in old.__struct_fields__})


_OLD_RECORDS: dict[str, type[_RecordV1]] = {
    RECORD_FORMAT_V1: _RecordV1,
    RECORD_FORMAT_V2: _RecordV2,
}


class LogNotice(_Doc, frozen=True, kw_only=True):
    """An entry of the log that is no decision: it says what the other entries do not show."""

    format: str
    kind: Literal[
        "denials-counted",
        "lease-returned",
        "state-loss-accepted",
        "log-loss-accepted",
        "clock-accepted",
    ]
    time: str  # RFC 3339, whole seconds, UTC
    since: str  # of the first thing that it counts
    broker: str
    count: _Count  # refusals that have no entry, or entries that are lost
    what: str  # for people; of a lease that was returned, its identifier

    def encode(self) -> bytes:
        """Encode as canonical JSON, the exact bytes of the log entry."""
        return canonical_json(self)


LogEntry = ReleaseRecord | LogNotice | LogStatement


class LogProof(_Doc, frozen=True, kw_only=True):
    """Proof for offline verification that a record is included in the log."""

    record: str  # base64 of the exact entry
    index: int
    path: list[str]  # base64 hashes from leaf to root (RFC 6962, section 2.1.1)
    checkpoint: str  # signed note text (C2SP tlog-checkpoint)


class ReleaseResponse(_Doc, frozen=True, kw_only=True):
    """Answer to a granted release: the key, sealed to the attested key, and the log's proof."""

    encapsulated_key: str  # base64, HPKE enc
    wrapped_key: (
        str  # base64, HPKE ciphertext of the model key, or of what the key store made of it
    )
    custody: Custody
    key_wrapping: KeyWrapping
    lease_id: _LeaseId
    lease_s: int
    log: LogProof


class LeaseReturn(_Doc, frozen=True, kw_only=True):
    """Body of POST /v1/lease/return: the holder has wiped key and weights."""

    lease_id: str
    token: str  # base64, 32 bytes: only the recipient of the lease's first release knows it

    def __repr__(self) -> str:
        return f"<return of {self.lease_id}>"


class LeaseReturned(_Doc, frozen=True, kw_only=True):
    """Answer to a lease that was given back."""

    lease_id: str


class Refusal(_Doc, frozen=True, kw_only=True):
    """Body of every answer of our services whose status is not 200."""

    code: str
    what: str
    why: str
    fix: str
    reasons: list[Reason]
    log: LogProof | None  # proof of a logged denial; null if nothing was logged


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record whose inclusion in the log was verified. Only ``regalia.tlog`` makes one.

    Key stores take this type to unwrap a key for a release, so a key cannot be released before
    its record was logged.
    """

    record: ReleaseRecord
    entry: bytes
    index: int
    proof: LogProof
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not MINT:
            raise TypeError("logged records come from regalia.tlog")


def parse_record(entry: bytes) -> ReleaseRecord:
    """Parse a record of any version, as logs keep all. Inverse of ``ReleaseRecord.encode``.

    Raises:
        ParseError: the entry is not a record in canonical form.
    """
    if _V1 in entry:
        return ReleaseRecord(
            **_fields(entry, _RecordV1), devices=[], key_wrapping="none", control=""
        )
    if _V2 in entry:
        return ReleaseRecord(**_fields(entry, _RecordV2), key_wrapping="none", control="")
    record = parse_json(entry, ReleaseRecord, limit=RECORD_LIMIT, what="release record")
    if record.format != RECORD_FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"release record: format {record.format[:80]!r}")
    return record


def _fields(entry: bytes, version: type[_RecordV1]) -> dict[str, Any]:
    old = parse_json(entry, version, limit=RECORD_LIMIT, what="release record")
    return {name: getattr(old, name) for name in version.__struct_fields__}


def parse_entry(entry: bytes) -> LogEntry:
    """Parse an entry of the log: a decision, a notice or a statement.

    Raises:
        ParseError: the entry is none of them, or not in canonical form.
    """
    if _STATEMENT in entry:
        return parse_log_statement(entry)
    if _NOTICE not in entry:
        return parse_record(entry)
    notice = parse_json(entry, LogNotice, limit=RECORD_LIMIT, what="log notice")
    if notice.format != NOTICE_FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"log notice: format {notice.format[:80]!r}")
    return notice


class NamedDevice(Protocol):
    """What a record needs of a verified device. Every kind of device claims has it."""

    @property
    def kind(self) -> DeviceKind:
        """What it is."""

    @property
    def identity(self) -> bytes:
        """What tells this device from all others. Never empty."""


def device_names(devices: Iterable[NamedDevice]) -> list[str]:
    """Names of devices in records: ``<kind>:<identity, hex>``, sorted."""
    return sorted(f"{device.kind}:{device.identity.hex()}" for device in devices)


def release_info(*, model_id: str, lease_id: str, record_index: int) -> bytes:
    """Build the HPKE info of a released key, which binds it to model, lease and log entry.

    Args:
        model_id: the model, in text form.
        lease_id: identifier of the lease that is granted with the key.
        record_index: index of the release record in the log.
    """
    return canonical_json(
        {
            "format": "regalia/released-key/v1",
            "model_id": model_id,
            "lease_id": lease_id,
            "record_index": record_index,
        }
    )
