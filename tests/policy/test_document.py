"""Policies as files: signed by the owner or not accepted; drafts are for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regalia.core.errors import IntegrityError, ParseError
from regalia.crypto import dsse
from regalia.crypto.sign import SigningKey
from regalia.policy.documents import PAYLOAD_TYPE
from regalia.policy.signed import (
    add_signatures,
    load_client_policy,
    load_release_policy,
    read_draft,
    read_unverified,
    sign_release_policy,
    write_draft,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.policy_scenario import PolicyScenario

OWNER = SigningKey.generate_ed25519()
SECOND = SigningKey.generate_p384()
STRANGER = SigningKey.generate_ed25519()


def _code(call: Callable[..., object], *args: object) -> str:
    with pytest.raises((ParseError, IntegrityError)) as caught:
        call(*args)
    return caught.value.code.name


def test_a_signed_policy_is_loaded(scenario: PolicyScenario) -> None:
    data = sign_release_policy(scenario.policy, (OWNER,))
    assert load_release_policy(data, (OWNER.verify_key,), 1) == scenario.policy
    assert load_release_policy(data, (STRANGER.verify_key, OWNER.verify_key), 1) == scenario.policy
    assert read_unverified(data) == scenario.policy


def test_others_signatures_are_refused(scenario: PolicyScenario) -> None:
    by_stranger = sign_release_policy(scenario.policy, (STRANGER,))
    assert _code(load_release_policy, by_stranger, (OWNER.verify_key,), 1) == "SIGNER_UNKNOWN"
    assert _code(load_release_policy, by_stranger, (), 1) == "SIGNER_UNKNOWN"
    unsigned = sign_release_policy(scenario.policy, ())
    assert _code(load_release_policy, unsigned, (OWNER.verify_key,), 1) == "UNSIGNED"
    with pytest.raises(ValueError, match="threshold"):
        load_release_policy(by_stranger, (STRANGER.verify_key,), 0)


def test_a_changed_policy_is_refused(scenario: PolicyScenario) -> None:
    envelope = dsse.parse_envelope(sign_release_policy(scenario.policy, (OWNER,)), what="x")
    other = scenario.demand("holders_max", 1000).policy.encode()
    forged = dsse.Envelope(PAYLOAD_TYPE, other, envelope.signatures).encode()
    assert _code(load_release_policy, forged, (OWNER.verify_key,), 1) == "SIGNATURE_INVALID"


def test_another_kind_of_document_is_refused(scenario: PolicyScenario) -> None:
    other = dsse.sign("application/x", scenario.policy.encode(), (OWNER,)).encode()
    assert _code(load_release_policy, other, (OWNER.verify_key,), 1) == "WRONG_PAYLOAD_TYPE"
    assert _code(read_unverified, other) == "WRONG_PAYLOAD_TYPE"
    assert _code(add_signatures, other, (SECOND,)) == "WRONG_PAYLOAD_TYPE"


def test_m_of_n(scenario: PolicyScenario) -> None:
    keys = (OWNER.verify_key, SECOND.verify_key)
    one = sign_release_policy(scenario.policy, (OWNER,))
    assert _code(load_release_policy, one, keys, 2) == "SIGNER_UNKNOWN"
    both = add_signatures(one, (SECOND,))
    assert load_release_policy(both, keys, 2) == scenario.policy
    assert _code(add_signatures, one, (OWNER,)) == "MALFORMED"


def test_a_draft_or_a_bare_policy_is_no_signed_policy(scenario: PolicyScenario) -> None:
    for data in (scenario.policy.encode(), write_draft(scenario.policy), b"", b"{}"):
        assert _code(load_release_policy, data, (OWNER.verify_key,), 1) == "MALFORMED"


def test_conditions_are_checked_when_a_policy_is_read(scenario: PolicyScenario) -> None:
    bad = scenario.demand("conditions", ["true", "nothing.at.all"])
    signed = dsse.sign(PAYLOAD_TYPE, bad.policy.encode(), (OWNER,)).encode()
    client = bad.client_policy()
    for call, args in (
        (load_release_policy, (signed, (OWNER.verify_key,), 1)),
        (read_unverified, (signed,)),
        (sign_release_policy, (bad.policy, (OWNER,))),
        (load_client_policy, (client.encode(),)),
        (read_draft, (write_draft(client),)),
    ):
        with pytest.raises(ParseError, match=r"conditions\[1\]") as caught:
            call(*args)
        assert caught.value.code.name == "CONDITION_ERROR"


def test_what_is_not_well_formed_is_not_signed(scenario: PolicyScenario) -> None:
    assert _code(sign_release_policy, scenario.demand("lease_s", 0).policy, (OWNER,)) == "MALFORMED"


def test_drafts_round_trip_in_any_spelling(scenario: PolicyScenario) -> None:
    for policy in (scenario.policy, scenario.client_policy()):
        draft = write_draft(policy)
        assert b"\n  " in draft
        assert read_draft(draft) == policy
        assert read_draft(policy.encode()) == policy
        shuffled = dict(reversed(list(json.loads(draft).items())))
        assert read_draft(json.dumps(shuffled, indent="\t").encode()) == policy


def test_a_client_policy_is_read_in_canonical_form(scenario: PolicyScenario) -> None:
    policy = scenario.client_policy()
    assert load_client_policy(policy.encode()) == policy
    assert _code(load_client_policy, write_draft(policy)) == "MALFORMED"


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'{"format": "regalia/release-policy/v9"}',
        b'{"format": ["x"]}',
        b'{"format": "regalia/release-policy/v1"}',
        b'{"format": "regalia/client-policy/v1", "format": "regalia/client-policy/v1"}',
        b'{"format": 1.0}',
        b'{"format": NaN}',
        b'{"format": ' + b"9" * 5000 + b"}",
        b'{"format": 123456789012345678901234567890}',
        b'{"format": "\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_malformed_drafts(bad: bytes) -> None:
    assert _code(read_draft, bad) == "MALFORMED"


def test_a_member_that_stands_twice_is_refused(scenario: PolicyScenario) -> None:
    draft = write_draft(scenario.policy)
    twice = draft.replace(b'"holders_max": 3', b'"holders_max": 3, "holders_max": 9')
    assert twice != draft
    assert _code(read_draft, twice) == "MALFORMED"


def test_a_huge_draft_is_refused_before_parsing() -> None:
    assert _code(read_draft, b" " * (256 * 1024 + 1)) == "TOO_LARGE"


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_signed_policy_never_loads(scenario: PolicyScenario, data: st.DataObject) -> None:
    good = bytearray(sign_release_policy(scenario.policy, (OWNER,)))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((ParseError, IntegrityError)):
        load_release_policy(bytes(good), (OWNER.verify_key,), 1)
