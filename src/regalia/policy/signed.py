"""Policies as files: signed release policies for the broker, drafts and client policies for people.

A broker loads signed documents only. A *draft* is a policy in JSON with any white space and order
of members, as a person writes it, and with comments: members whose names begin with ``//``. Signing
brings it into canonical form.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from regalia.appraisal.finding import shown
from regalia.core.codec import canonical_json
from regalia.core.errors import CoreCode, IntegrityError, ParseError
from regalia.crypto import dsse
from regalia.policy.conditions import check_conditions
from regalia.policy.documents import (
    CLIENT_FORMAT,
    LIMIT,
    PAYLOAD_TYPE,
    RELEASE_FORMAT,
    Platform,
    parse_client_policy,
    parse_platform,
    parse_release_policy,
)

if TYPE_CHECKING:
    from regalia.crypto.sign import SigningKey, VerifyKey
    from regalia.policy.documents import ClientPolicy, ReleasePolicy


COMMENT = "//"  # the name of a member of a draft begins so that is for people alone


def load_release_policy(
    data: bytes, signers: tuple[VerifyKey, ...], threshold: int
) -> ReleasePolicy:
    """Read a signed release policy.

    Args:
        data: a DSSE envelope, raw, untrusted.
        signers: the owner's keys.
        threshold: how many different ones must have signed, at least 1.

    Raises:
        ParseError: the envelope or the policy is malformed, or a condition cannot be decided.
        IntegrityError: unsigned, or signed by others.
    """
    envelope = dsse.parse_envelope(data, what="signed policy")
    policy = parse_release_policy(envelope.verify(PAYLOAD_TYPE, signers, threshold=threshold))
    check_conditions(policy)
    return policy


def read_unverified(data: bytes) -> ReleasePolicy:
    """Read a signed release policy without checking who signed: for showing, never for deciding.

    Raises:
        ParseError: the envelope or the policy is malformed.
        IntegrityError: WRONG_PAYLOAD_TYPE.
    """
    envelope = dsse.parse_envelope(data, what="signed policy")
    _must_hold_a_policy(envelope)
    policy = parse_release_policy(envelope.unverified_payload)
    check_conditions(policy)
    return policy


def load_client_policy(data: bytes) -> ClientPolicy:
    """Read a client policy in canonical form. Raises ParseError."""
    policy = parse_client_policy(data)
    check_conditions(policy)
    return policy


def sign_release_policy(policy: ReleasePolicy, keys: tuple[SigningKey, ...]) -> bytes:
    """Sign; the result is what ``load_release_policy`` reads.

    Args:
        policy: that is signed.
        keys: each adds one signature.

    Raises:
        ParseError: the policy was built by hand and is not well-formed.
    """
    payload = policy.encode()
    check_conditions(parse_release_policy(payload))
    return dsse.sign(PAYLOAD_TYPE, payload, keys).encode()


def add_signatures(data: bytes, keys: tuple[SigningKey, ...]) -> bytes:
    """Add signatures to a signed policy, so that several owners can sign one after another.

    The signatures that are there already are kept as they are, unchecked.

    Args:
        data: a signed policy, untrusted.
        keys: each adds one signature.

    Raises:
        ParseError: the envelope or the policy is malformed, or a key has signed already.
        IntegrityError: WRONG_PAYLOAD_TYPE.
    """
    envelope = dsse.parse_envelope(data, what="signed policy")
    more = dsse.sign(PAYLOAD_TYPE, read_unverified(data).encode(), keys)
    both = replace(envelope, signatures=envelope.signatures + more.signatures).encode()
    dsse.parse_envelope(both, what="signed policy")
    return both


def _must_hold_a_policy(envelope: dsse.Envelope) -> None:
    if envelope.payload_type != PAYLOAD_TYPE:
        raise IntegrityError(
            dsse.DsseCode.WRONG_PAYLOAD_TYPE,
            f"want {PAYLOAD_TYPE}, got {shown(envelope.payload_type)}",
        )


def read_draft(data: bytes) -> ReleasePolicy | ClientPolicy:
    """Read an unsigned policy of either kind in any JSON spelling. Raises ParseError."""
    found = read_draft_or_section(data)
    if isinstance(found, Platform):
        raise ParseError(CoreCode.MALFORMED, "policy: a platform section by itself")
    return found


def read_draft_or_section(data: bytes) -> ReleasePolicy | ClientPolicy | Platform:
    """The same, or the platform section that ``policy pin`` writes. Raises ParseError."""
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"policy: {len(data)} bytes, at most {LIMIT}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
        payload = canonical_json(value)
    except (ValueError, OverflowError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"policy: {exc}") from exc
    if not isinstance(value, dict):
        raise ParseError(CoreCode.MALFORMED, "policy: no JSON object")
    if "format" not in value and "hardware" in value:
        return parse_platform(payload)
    kind = value.get("format")
    if kind not in (RELEASE_FORMAT, CLIENT_FORMAT):
        raise ParseError(
            CoreCode.MALFORMED,
            f"policy: format {str(kind)[:80]!r}; known are {RELEASE_FORMAT}, {CLIENT_FORMAT}",
        )
    policy: ReleasePolicy | ClientPolicy
    policy = (
        parse_release_policy(payload) if kind == RELEASE_FORMAT else parse_client_policy(payload)
    )
    check_conditions(policy)
    return policy


def write_draft(policy: ReleasePolicy | ClientPolicy) -> bytes:
    """A draft that a person can read and edit; ``read_draft`` is its inverse."""
    return json.dumps(json.loads(policy.encode()), indent=2).encode() + b"\n"


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The members without comments: nothing depends on those, and signing leaves them out."""
    pairs = [pair for pair in pairs if not pair[0].startswith(COMMENT)]
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands in an object twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no whole number")
