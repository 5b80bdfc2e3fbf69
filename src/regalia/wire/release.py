"""Messages of the release exchange, and the record of it. Specs: docs/spec/release-exchange.md,
docs/spec/release-record.md.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from regalia.core.codec import MIB, canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.wire.evidence import DeviceKind

RECORD_FORMAT = "regalia/release-record/v2"
# Before devices were recorded. No such broker released to a machine with devices.
RECORD_FORMAT_V1 = "regalia/release-record/v1"
_OLD = b'"format":"' + RECORD_FORMAT_V1.encode() + b'"'
REQUEST_LIMIT = 8 * MIB
RESPONSE_LIMIT = 1 * MIB
RECORD_LIMIT = 64 * 1024

# Same purpose and same weakness as claims.MINT: honest mistakes, not hostile code.
MINT = object()


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all messages."""


class ChallengeRequest(_Doc, frozen=True, kw_only=True):
    """POST /v1/challenge."""

    model_id: str


class ChallengeResponse(_Doc, frozen=True, kw_only=True):
    """A single-use challenge."""

    challenge: str  # base64, 32 bytes
    audience: str  # the log's origin, which goes into the binding
    policy_id: str  # the policy that will be applied, which goes into the binding
    expires_in_s: int


class ReleaseRequest(_Doc, frozen=True, kw_only=True):
    """POST /v1/release."""

    challenge: str  # base64, 32 bytes
    model_id: str
    model_version: int  # the version the runtime found in the sealed model's manifest
    policy_id: str
    hpke_public_key: str  # base64
    wrap_public_key: str  # base64
    evidence: str  # base64 of the exact evidence envelope
    lease_id: str | None  # renew this lease, or take a new one


class Reason(_Doc, frozen=True, kw_only=True):
    """One reason of a decision."""

    code: str
    what: str


class _RecordV1(_Doc, frozen=True, kw_only=True):
    """A record as it was before devices were recorded."""

    format: str
    decision: Literal["release", "denial"]
    time: str  # RFC 3339, whole seconds, UTC
    broker: str
    model_id: str
    model_version: int
    policy_id: str
    policy_version: int
    hardware: str  # genuine, simulated, or unverified when the evidence did not verify
    tee: str
    product: str
    measurement: str  # hex; empty when unverified
    chip_id: str  # the machine, in hex: what ``Claims.instance`` is for its TEE
    revocation: str
    evidence_digest: str
    recipient: str  # fingerprint of the HPKE key
    custody: str
    lease_id: str
    lease_until: str
    wildcards: list[str]  # policy fields that were written "any"
    reasons: list[Reason]


class ReleaseRecord(_RecordV1, frozen=True, kw_only=True):
    """What the transparency log keeps of one decision, release or denial."""

    devices: list[str]  # of ``device_names``; empty in a record of version 1, which lists none

    def encode(self) -> bytes:
        """Canonical JSON: the log entry's exact bytes."""
        if self.format != RECORD_FORMAT_V1:
            return canonical_json(self)
        return canonical_json({name: getattr(self, name) for name in _RecordV1.__struct_fields__})


class LogProof(_Doc, frozen=True, kw_only=True):
    """Everything needed to verify offline that a record is in the log."""

    record: str  # base64 of the exact entry
    index: int
    path: list[str]  # base64 hashes, RFC 6962 section 2.1.1, leaf to root
    checkpoint: str  # signed note text (C2SP tlog-checkpoint)


class ReleaseResponse(_Doc, frozen=True, kw_only=True):
    """200: the key, rewrapped to the attested key, and the proof that this stands in the log."""

    encapsulated_key: str  # base64, HPKE enc
    wrapped_key: str  # base64, HPKE ciphertext of the 32-byte model key
    custody: str
    lease_id: str
    lease_s: int
    log: LogProof


class Refusal(_Doc, frozen=True, kw_only=True):
    """Any non-200 answer of a service of ours."""

    code: str
    what: str
    why: str
    fix: str
    reasons: list[Reason]
    log: LogProof | None  # a denial is logged too


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record that provably stands in the log: only ``regalia.tlog`` makes one.

    The key store's release method takes this type, so a key cannot be asked for before its
    record was logged.
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
    """Inverse of ``ReleaseRecord.encode``, for records of both versions: logs keep them all.

    Raises:
        ParseError: it is none.
    """
    if _OLD in entry:  # canonical JSON: the same bytes inside of a text have escaped quotes
        old = parse_json(entry, _RecordV1, limit=RECORD_LIMIT, what="release record")
        fields = {name: getattr(old, name) for name in _RecordV1.__struct_fields__}
        return ReleaseRecord(**fields, devices=[])
    record = parse_json(entry, ReleaseRecord, limit=RECORD_LIMIT, what="release record")
    if record.format != RECORD_FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"release record: format {record.format[:80]!r}")
    return record


class NamedDevice(Protocol):
    """What a record needs of a verified device. Every kind of device claims has it."""

    @property
    def kind(self) -> DeviceKind:
        """What it is."""

    @property
    def identity(self) -> bytes:
        """What tells this device from all others. Never empty."""


def device_names(devices: Iterable[NamedDevice]) -> list[str]:
    """Devices as records list them: ``<kind>:<identity, hex>``, sorted."""
    return sorted(f"{device.kind}:{device.identity.hex()}" for device in devices)


def release_info(*, model_id: str, lease_id: str, record_index: int) -> bytes:
    """HPKE info string of a released key: ties the ciphertext to model, lease and log entry.

    Args:
        model_id: of the model whose key is released, in text form.
        lease_id: of the lease that goes with it.
        record_index: of the record in the log.
    """
    return canonical_json(
        {
            "format": "regalia/released-key/v1",
            "model_id": model_id,
            "lease_id": lease_id,
            "record_index": record_index,
        }
    )
