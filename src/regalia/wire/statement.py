"""Statements: the acts of a tenant's owners, signed and numbered. Spec: docs/spec/statements.md.

A statement is the payload of a DSSE envelope. Everything here is untrusted: ``regalia.control``
verifies signatures, and says what follows from a chain of statements.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from regalia.core.clock import parse_rfc3339
from regalia.core.codec import b64, canonical_json, parse_json, unb64, unhex
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, KeyFingerprint, ModelId, PolicyId
from regalia.crypto.sign import VerifyKey
from regalia.wire.evidence import DeviceKind, Tee

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = "regalia/statement/v1"
PAYLOAD_TYPE = "application/vnd.regalia.statement.v1+json"
ENTRY_FORMAT = "regalia/log-statement/v1"
LIMIT = 24 * 1024  # bytes of a payload
# Bytes, which fit into an entry when they are encoded once more. Five owners whose keys are pairs
# with ML-DSA-65 do, and six of their signatures.
ENVELOPE_LIMIT = 47 * 1024
ENTRY_LIMIT = (1 << 16) - 1  # bytes; an entry bundle states the size in two bytes
OWNERS_MAX = 8  # two charters' owners fit into the 16 signatures of an envelope
SEQUENCE_MAX = (1 << 53) - 1
DELAY_MAX = 366 * 24 * 3600  # seconds
NAMES_MAX = 64  # sites, jurisdictions or roles of one model's terms
MEASUREMENT_MAX = 64  # bytes
IDENTITY_MAX = 128  # bytes
NO_STATEMENT = Digest(bytes(Digest.SIZE))  # what the first statement names as the one before

Delayed = Literal[
    "charter",
    "model-version",
    "publish-policy",
    "reference-value",
    "register-model",
    "resume",
    "rotate",
]
Transition = Literal["stage", "promote", "retire", "revoke"]
Derivatives = Literal["none", "adapters", "any"]
Subject = Literal["measurement", "chip", "signer", "runtime", "model-version"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_TEXT_MAX = 128  # characters
_KEY_MAX = 4096  # bytes; a key with ML-DSA-65 has some 2,000
_TEES = frozenset(Tee)
_MACHINES = frozenset({*Tee, *DeviceKind})


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all documents: unknown fields are an error."""


class _Action(_Doc, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all acts. The member ``kind`` tells them apart."""


class Owner(_Doc, frozen=True, kw_only=True):
    """One of those who decide together."""

    key: str  # base64 of a SubjectPublicKeyInfo: Ed25519 or P-384
    name: str
    role: str  # for people: what the owner answers for

    def verify_key(self) -> VerifyKey:
        """The owner's public key. Raises ParseError."""
        return VerifyKey.from_der(unb64(self.key, what="owner, key", limit=_KEY_MAX))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the key, by which signatures name it."""
        return str(self.verify_key().fingerprint)


class Charter(_Action, frozen=True, kw_only=True, tag="charter"):
    """Who decides, how many of them are needed, and how long acts wait before they take effect."""

    owners: list[Owner]  # sorted by name
    threshold: int
    delays: dict[Delayed, int]  # seconds by kind of act; a kind that is absent waits for nothing


class Terms(_Doc, frozen=True, kw_only=True):
    """What a model is released under. A list that is null leaves open what it would name."""

    ends: str | None  # the last second of releases; null: none
    sites: list[str] | None  # of the measured placement
    jurisdictions: list[str] | None  # regions of the measured placement
    roles: list[str] | None  # tiers of the measured placement: what the operator is to the owner
    derivatives: Derivatives


class RegisterModel(_Action, frozen=True, kw_only=True, tag="register-model"):
    """Name a sealing of a model, and its terms. A version that is new is staged by this."""

    manifest: str  # sha256:<hex> of the manifest's payload
    model_id: str
    terms: Terms
    version: int


class PublishPolicy(_Action, frozen=True, kw_only=True, tag="publish-policy"):
    """Release a model under this policy, and under no other one."""

    model_id: str
    policy_id: str


class ReferenceValue(_Action, frozen=True, kw_only=True, tag="reference-value"):
    """Move a launch measurement along its life cycle."""

    measurement: str  # hex
    tee: str
    transition: Transition
    until: str | None  # of ``retire``: the last second of releases


class ModelVersion(_Action, frozen=True, kw_only=True, tag="model-version"):
    """Move a version of a model along its life cycle. Registering it has staged it."""

    model_id: str
    transition: Literal["promote", "retire", "revoke"]
    until: str | None  # of ``retire``: the last second of releases
    version: int


class Rotate(_Action, frozen=True, kw_only=True, tag="rotate"):
    """Replace a key-encryption key: what the old one wraps is released no more."""

    new: str
    old: str


class Revoke(_Action, frozen=True, kw_only=True, tag="revoke"):
    """Revoke one thing for ever. One owner may."""

    subject: Subject
    value: str  # see ``_check_subject``


class Stop(_Action, frozen=True, kw_only=True, tag="stop"):
    """Release nothing, or nothing of one model, until owners resume. One owner may."""

    model_id: str | None  # null: everything


class Resume(_Action, frozen=True, kw_only=True, tag="resume"):
    """Lift a stop. With null, all of them."""

    model_id: str | None


Action = (
    Charter
    | RegisterModel
    | PublishPolicy
    | ReferenceValue
    | ModelVersion
    | Rotate
    | Revoke
    | Stop
    | Resume
)
# What a single owner may do, at once: both make less available, and never more.
ALONE = (Stop, Revoke)


class Statement(_Doc, frozen=True, kw_only=True):
    """The DSSE payload of a statement."""

    action: Action
    expires: str  # the last second at which it is accepted
    format: str
    not_before: str | None  # when it takes effect; null: when it is accepted
    previous: str  # sha256:<hex> of the payload of the statement before; zeros for the first
    sequence: int
    tenant: str
    time: str  # when it was proposed, as the proposer says

    def encode(self) -> bytes:
        """Encode as canonical JSON."""
        return canonical_json(self)

    def digest(self) -> Digest:
        """What the next statement names as the one before it, and people compare."""
        return Digest.of(self.encode())

    @property
    def kind(self) -> str:
        """Kind of the act."""
        return kind_of(self.action)


class LogStatement(_Doc, frozen=True, kw_only=True):
    """An entry of the log: a statement that a broker accepted, and when."""

    broker: str  # the log's origin
    envelope: str  # base64 of the signed statement, exactly as it was accepted
    format: str
    time: str  # RFC 3339, whole seconds, UTC; from here on time-locks are counted

    def encode(self) -> bytes:
        """Encode as canonical JSON, the exact bytes of the log entry."""
        return canonical_json(self)

    def signed(self) -> bytes:
        """The envelope. Raises ParseError."""
        return unb64(self.envelope, what="log statement, envelope", limit=ENVELOPE_LIMIT)


def kind_of(action: Action) -> str:
    """Kind of an act, as documents spell it."""
    tag = action.__struct_config__.tag
    return str(tag)


def log_statement(envelope: bytes, *, broker: str, time: str) -> LogStatement:
    """Build the log entry of an accepted statement.

    Args:
        envelope: the signed statement.
        broker: the log's origin.
        time: when it was accepted.
    """
    return LogStatement(broker=broker, envelope=b64(envelope), format=ENTRY_FORMAT, time=time)


def parse_log_statement(entry: bytes) -> LogStatement:
    """Parse a log entry, without its envelope. Inverse of ``LogStatement.encode``.

    Raises:
        ParseError: it is no such entry, or not in canonical form.
    """
    found = parse_json(entry, LogStatement, limit=ENTRY_LIMIT, what="log statement")
    if found.format != ENTRY_FORMAT:
        raise _malformed("log statement", f"format {found.format[:80]!r}")
    _check_time(found.time, "log statement, time")
    found.signed()
    return found


def parse_statement(payload: bytes) -> Statement:
    """Parse a statement. Inverse of ``Statement.encode``.

    Raises:
        ParseError: TOO_LARGE, or MALFORMED: also for a kind that is unknown, and for members
            that contradict each other.
    """
    found = parse_json(payload, Statement, limit=LIMIT, what="statement")
    if found.format != FORMAT:
        raise _malformed("statement", f"format {found.format[:80]!r}")
    check_tenant(found.tenant)
    if not 1 <= found.sequence <= SEQUENCE_MAX:
        raise _malformed("statement, sequence", f"{found.sequence} is not 1 to {SEQUENCE_MAX}")
    first = Digest.parse(found.previous) == NO_STATEMENT
    if first != (found.sequence == 1):
        raise _malformed("statement, previous", "zeros are for the first statement, and only there")
    proposed = _check_time(found.time, "statement, time")
    if _check_time(found.expires, "statement, expires") < proposed:
        raise _malformed("statement, expires", "before it is proposed")
    if found.not_before is not None:
        if isinstance(found.action, ALONE):
            raise _malformed("statement, not_before", f"a {found.kind} takes effect at once")
        if _check_time(found.not_before, "statement, not_before") < proposed:
            raise _malformed("statement, not_before", "before it is proposed")
    _CHECKS[type(found.action)](found.action)
    return found


def check_tenant(name: str) -> None:
    """Check a tenant's name. Raises ParseError."""
    if not _NAME.fullmatch(name):
        raise _malformed(
            "tenant", f"{name[:80]!r}: want 1 to 64 of a-z, 0-9, and between them . _ -"
        )


def _check_charter(action: Charter) -> None:
    names = [owner.name for owner in action.owners]
    if not 1 <= len(names) <= OWNERS_MAX:
        raise _malformed("charter, owners", f"{len(names)}, want 1 to {OWNERS_MAX}")
    if names != sorted(set(names)):
        raise _malformed("charter, owners", "not sorted by name, or two with one name")
    for owner in action.owners:
        if not _NAME.fullmatch(owner.name):
            raise _malformed("charter, owners", f"name {owner.name[:80]!r}")
        _check_text(owner.role, "charter, owner's role")
    if len({owner.fingerprint for owner in action.owners}) != len(names):
        raise _malformed("charter, owners", "two have one key")
    if not 1 <= action.threshold <= len(names):
        raise _malformed("charter, threshold", f"{action.threshold} of {len(names)} owners")
    for kind, seconds in action.delays.items():
        if not 1 <= seconds <= DELAY_MAX:
            raise _malformed("charter, delays", f"{kind}: {seconds} s, want 1 to {DELAY_MAX}")


def _check_register(action: RegisterModel) -> None:
    ModelId.parse(action.model_id)
    Digest.parse(action.manifest)
    _check_version(action.version)
    terms = action.terms
    if terms.ends is not None:
        _check_time(terms.ends, "terms, ends")
    for name in ("sites", "jurisdictions", "roles"):
        _check_names(getattr(terms, name), f"terms, {name}")


def _check_names(names: list[str] | None, what: str) -> None:
    if names is None:
        return
    if not 1 <= len(names) <= NAMES_MAX:
        raise _malformed(what, f"{len(names)} names, want 1 to {NAMES_MAX}, or null")
    if names != sorted(set(names)):
        raise _malformed(what, "not sorted, or one name twice")
    for name in names:
        _check_text(name, what)


def _check_policy(action: PublishPolicy) -> None:
    ModelId.parse(action.model_id)
    PolicyId.parse(action.policy_id)


def _check_reference(action: ReferenceValue) -> None:
    _check_measurement(action.tee, action.measurement)
    _check_until(action.transition, action.until)


def _check_model_version(action: ModelVersion) -> None:
    ModelId.parse(action.model_id)
    _check_version(action.version)
    _check_until(action.transition, action.until)


def _check_rotate(action: Rotate) -> None:
    _check_text(action.old, "rotate, old")
    _check_text(action.new, "rotate, new")
    if action.old == action.new:
        raise _malformed("rotate", "a key cannot replace itself")


def _check_revoke(action: Revoke) -> None:
    _check_subject(action.subject, action.value)


def _check_stop(action: Stop) -> None:
    _check_target(action.model_id)


def _check_resume(action: Resume) -> None:
    _check_target(action.model_id)


def _check_target(model_id: str | None) -> None:
    if model_id is not None:
        ModelId.parse(model_id)


def _check_subject(subject: Subject, value: str) -> None:
    """A value says what is revoked in one spelling.

    measurement: ``<tee>:<hex>``; chip: the same, or ``<kind of device>:<hex>``; signer and
    runtime: ``key:<hex>``; model-version: ``model:<hex>@<version>``.
    """
    if subject in ("signer", "runtime"):
        KeyFingerprint.parse(value)
    elif subject == "model-version":
        model_id, at, version = value.partition("@")
        ModelId.parse(model_id)
        if not at or not version.isascii() or not version.isdigit() or len(version) > len("9" * 16):
            raise _malformed("revoke, value", "want model:<hex>@<version>")
        _check_version(int(version))
        if str(int(version)) != version:
            raise _malformed("revoke, value", "the version has leading zeros")
    else:
        tee, _, digits = value.rpartition(":")
        if subject == "measurement":
            _check_measurement(tee, digits)
        else:
            _check_machine(tee)
            _check_hex(digits, IDENTITY_MAX, "revoke, value")


def _check_measurement(tee: str, digits: str) -> None:
    _check_tee(tee)
    _check_hex(digits, MEASUREMENT_MAX, "measurement")


def _check_tee(tee: str) -> None:
    if tee not in _TEES:
        raise _malformed("tee", f"{tee[:80]!r} is no kind of TEE")


def _check_machine(kind: str) -> None:
    if kind not in _MACHINES:
        raise _malformed("revoke, value", f"{kind[:80]!r} is no kind of TEE or device")


def _check_hex(digits: str, limit: int, what: str) -> None:
    if not 1 <= len(unhex(digits[: 2 * limit + 2], what=what)) <= limit:
        raise _malformed(what, f"want 1 to {limit} bytes")


def _check_until(transition: Transition, until: str | None) -> None:
    if (transition == "retire") != (until is not None):
        raise _malformed("until", "it stands with retire, and with nothing else")
    if until is not None:
        _check_time(until, "until")


def _check_version(version: int) -> None:
    if not 1 <= version <= SEQUENCE_MAX:
        raise _malformed("version", f"{version} is not 1 to {SEQUENCE_MAX}")


def _check_text(text: str, what: str) -> None:
    if not 1 <= len(text) <= _TEXT_MAX or not text.isprintable():
        raise _malformed(what, f"want 1 to {_TEXT_MAX} printable characters")


def _check_time(text: str, what: str) -> str:
    """Times of one form compare as their texts do."""
    try:
        parse_rfc3339(text)
    except ValueError as exc:
        raise _malformed(what, f"date {text[:40]!r}") from exc
    return text


def _malformed(what: str, why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"{what}: {why}")


_CHECKS: dict[type, Callable[..., None]] = {
    Charter: _check_charter,
    RegisterModel: _check_register,
    PublishPolicy: _check_policy,
    ReferenceValue: _check_reference,
    ModelVersion: _check_model_version,
    Rotate: _check_rotate,
    Revoke: _check_revoke,
    Stop: _check_stop,
    Resume: _check_resume,
}
