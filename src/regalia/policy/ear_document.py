"""EAT Attestation Results (draft-ietf-rats-ear) with AR4SI trustworthiness vectors.

Written with the names of the current draft (``ear_status``); read with those and with the dotted
ones of earlier drafts (``ear.status``), which deployed verifiers still write. A result that was
read is somebody's claim: nothing here verifies a signature.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from regalia.core.codec import MIB, canonical_json
from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROFILE = "tag:regalia.dev,2026:ear"
MEDIA_TYPE = "application/eat+jwt"
LIMIT = 1 * MIB
SUBMODS_MAX = 128
_INT8 = range(-128, 128)

Json = dict[str, Any]  # Any: members of other verifiers, passed on as they came


class Status(StrEnum):
    """AR4SI trustworthiness tiers, from best to weakest."""

    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"
    NONE = "none"


_NUMBERS: Mapping[int, Status] = MappingProxyType(
    {0: Status.NONE, 2: Status.AFFIRMING, 32: Status.WARNING, 96: Status.CONTRAINDICATED}
)
_AFFIRMING_FROM, _WARNING_FROM, _CONTRAINDICATED_FROM = 2, 32, 96
# The order in which a submodule's status may get worse. "none" says nothing, so it is no comfort.
_SEVERITY = (Status.NONE, Status.AFFIRMING, Status.WARNING, Status.CONTRAINDICATED)


def tier(value: int) -> Status:
    """The tier of one trustworthiness claim (AR4SI section 2.3.2): by magnitude, either sign."""
    size = -value - 1 if value < 0 else value
    if size >= _CONTRAINDICATED_FROM:
        return Status.CONTRAINDICATED
    if size >= _WARNING_FROM:
        return Status.WARNING
    return Status.AFFIRMING if size >= _AFFIRMING_FROM else Status.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustVector:
    """AR4SI trustworthiness claims, -128 to 127 each; 0 makes no claim."""

    instance_identity: int = 0
    configuration: int = 0
    executables: int = 0
    file_system: int = 0
    hardware: int = 0
    runtime_opaque: int = 0
    storage_opaque: int = 0
    sourced_data: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) not in _INT8:
                raise ValueError(f"{field.name} is not an 8-bit integer")

    def claims(self) -> dict[str, int]:
        """By their AR4SI names."""
        return {f.name.replace("_", "-"): getattr(self, f.name) for f in fields(self)}

    def status(self) -> Status:
        """The weakest tier of all claims: a submodule's status is never better."""
        return max((tier(value) for value in self.claims().values()), key=_SEVERITY.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submod:
    """The result about one attester.

    Attributes:
        status: the appraisal's tier; not better than the vector's.
        vector: its claims.
        policy_ids: what it was appraised under.
        attester_claims: what the evidence says, each with its source.
        verifier_claims: what this verifier did and found: checks, findings, open rules.
    """

    status: Status
    vector: TrustVector
    policy_ids: tuple[str, ...]
    attester_claims: Json
    verifier_claims: Json

    def __post_init__(self) -> None:
        if _SEVERITY.index(self.status) < _SEVERITY.index(self.vector.status()):
            raise ValueError("a status is never better than its vector")

    def wire(self) -> Json:
        """As it stands in a result."""
        return {
            "ear_status": self.status.value,
            "ear_trustworthiness_vector": self.vector.claims(),
            "ear_appraisal_policy_ids": list(self.policy_ids),
            "ear_attester_claims": self.attester_claims,
            "ear_verifier_claims": self.verifier_claims,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """One attestation result.

    Attributes:
        issued_at: seconds since the epoch: the moment of the appraisal.
        nonce: the challenge, hex; empty if freshness was not checked.
        developer, build: the verifier's.
        submods: by name; the CPU is ``cpu``.
        topology: which attester stands behind which, e.g. ``{"cpu": ["gpu-0"]}``.
    """

    profile: str
    issued_at: int
    nonce: str
    developer: str
    build: str
    submods: Mapping[str, Submod]
    topology: Mapping[str, tuple[str, ...]]

    def status(self) -> Status:
        """The weakest of all submodules. One about which nothing is said spoils an affirmation."""
        tiers = {submod.status for submod in self.submods.values()}
        weakest = max(tiers, key=_SEVERITY.index, default=Status.NONE)
        return Status.NONE if weakest is Status.AFFIRMING and Status.NONE in tiers else weakest

    def wire(self) -> Json:
        """The claims set."""
        out: Json = {
            "eat_profile": self.profile,
            "iat": self.issued_at,
            "ear_verifier_id": {"developer": self.developer, "build": self.build},
            "submods": {name: submod.wire() for name, submod in self.submods.items()},
            "ear_device_topology": {name: list(to) for name, to in self.topology.items()},
        }
        return {**out, "eat_nonce": self.nonce} if self.nonce else out

    def encode(self) -> bytes:
        """Canonical JSON: what is signed."""
        return canonical_json(self.wire())


def parse_ear(data: bytes) -> Ear:
    """Read a claims set with the names of any draft; members that are not known are left out.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"attestation result: {len(data)} bytes")
    try:
        body = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"attestation result: {exc}") from exc
    submods = _kind(body, "submods", dict)
    if not 0 < len(submods) <= SUBMODS_MAX:
        raise _bad(f"{len(submods)} submods, want 1 to {SUBMODS_MAX}")
    verifier = _kind(body, "ear_verifier_id", dict)
    nonce = body.get("eat_nonce", "")
    topology = body.get("ear_device_topology", {})
    return Ear(
        profile=_kind(body, "eat_profile", str),
        issued_at=_kind(body, "iat", int),
        nonce=nonce if isinstance(nonce, str) else "",
        developer=_kind(verifier, "developer", str),
        build=_kind(verifier, "build", str),
        submods={name: _submod(name, value) for name, value in submods.items()},
        topology=_topology(topology),
    )


def _submod(name: str, value: object) -> Submod:
    if not isinstance(value, dict):
        raise _bad(f"submod {name[:80]!r} is no object")
    vector = _vector(_get(value, "ear_trustworthiness_vector", {}))
    status = _status(_get(value, "ear_status", None))
    ids = _get(value, "ear_appraisal_policy_ids", None)
    one = _get(value, "ear_appraisal_policy_id", None)
    listed: list[Any] = ids if isinstance(ids, list) else [one] if one is not None else []
    if not all(isinstance(each, str) for each in listed):
        raise _bad("an appraisal policy id is no text")
    try:
        return Submod(
            status=status,
            vector=vector,
            policy_ids=tuple(listed),
            attester_claims=_object(_get(value, "ear_attester_claims", {})),
            verifier_claims=_object(_get(value, "ear_verifier_claims", {})),
        )
    except ValueError as exc:
        raise _bad(str(exc)) from exc


def _vector(value: object) -> TrustVector:
    known = {field.name for field in fields(TrustVector)}
    given = {name.replace("-", "_"): claim for name, claim in _object(value).items()}
    if not set(given) <= known or not all(type(claim) is int for claim in given.values()):
        raise _bad("a trustworthiness vector has unknown claims, or claims that are no integers")
    try:
        return TrustVector(**given)
    except ValueError as exc:
        raise _bad(str(exc)) from exc


def _status(value: object) -> Status:
    if isinstance(value, str) and value in set(Status):
        return Status(value)
    if type(value) is int and value in _NUMBERS:
        return _NUMBERS[value]
    raise _bad("ear_status is none of the four tiers")


def _topology(value: object) -> dict[str, tuple[str, ...]]:
    out = {}
    for name, to in _object(value).items():
        if not isinstance(to, list) or not all(isinstance(each, str) for each in to):
            raise _bad("ear_device_topology lists no names")
        out[name] = tuple(to)
    return out


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise _bad("an object was expected")
    return value


def _get(value: Json, name: str, default: object) -> object:
    """A member by its current name or by its earlier one: ``ear.`` and dashes. Not both."""
    old = name.replace("ear_", "ear.", 1).replace("_", "-")
    if old != name and name in value and old in value:
        raise _bad(f"{name} stands there under two names")
    return value.get(name, value.get(old, default))


def _kind(value: Json, name: str, kind: type[Any]) -> Any:  # noqa: ANN401 - of ``kind``
    found = _get(value, name, None)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise _bad(f"{name} is missing or of another type")
    return found


def _bad(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"attestation result: {what}")
