"""The one place in which a nonce is compared: what passes, what does not, and what is recorded."""

from __future__ import annotations

import pytest

from regalia.appraisal.check import Check, Source
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import FRESHNESS, MINT, NonceField, Unbound
from regalia.core.errors import AttestationError

CHECK = Check("some/nonce", "A nonce", "For a test.", Source.HARDWARE_PROVEN)
PUBLIC = b"\x05" * 8
FIELD = NonceField(CHECK, range(4, 9), (PUBLIC,))
NONCE = bytes(range(1, 9))


def unbound(bound_to: bytes = NONCE) -> Unbound[str]:
    return Unbound("the claims", bound_to, FIELD, MINT)


def test_the_expected_nonce_gives_the_claims() -> None:
    assert unbound().fresh(NONCE) == "the claims"
    assert unbound(NONCE[:4]).fresh(NONCE[:4]) == "the claims"
    assert unbound().dangerous_without_freshness() == "the claims"


@pytest.mark.parametrize(
    ("bound_to", "expected", "code"),
    [
        (NONCE, NONCE[:-1] + b"\x09", "NONCE_MISMATCH"),
        (NONCE, NONCE[:-1], "NONCE_MISMATCH"),
        (b"", NONCE, "NONCE_MISMATCH"),
        # What is well known or has no size of a nonce is refused though the evidence carries it.
        (b"", b"", "NONCE_WELL_KNOWN"),
        (bytes(8), bytes(8), "NONCE_WELL_KNOWN"),
        (PUBLIC, PUBLIC, "NONCE_WELL_KNOWN"),
        (NONCE[:3], NONCE[:3], "NONCE_MISMATCH"),
        (NONCE + b"\x09", NONCE + b"\x09", "NONCE_MISMATCH"),
    ],
)
def test_any_other_is_refused(bound_to: bytes, expected: bytes, code: str) -> None:
    with pytest.raises(AttestationError) as refusal:
        unbound(bound_to).fresh(expected)
    assert refusal.value.code.name == code


def test_a_refusal_says_what_the_evidence_carries() -> None:
    for bound_to, seen in ((b"\x01" * 4, "01010101"), (b"", "nothing")):
        with pytest.raises(AttestationError, match=f"is bound to {seen}, want 02020202"):
            unbound(bound_to).fresh(b"\x02" * 4)
    with pytest.raises(AttestationError, match="has 3 bytes, and such evidence carries 4 to 8"):
        unbound().fresh(NONCE[:3])


@pytest.mark.parametrize(
    ("check", "recorded"),
    [(None, CHECK), (FRESHNESS, FRESHNESS)],
    ids=["its own", "another"],
)
def test_the_comparison_is_recorded(check: Check | None, recorded: Check) -> None:
    log = CheckLog()
    unbound(b"").dangerous_without_freshness()
    assert log.steps() == ()
    with pytest.raises(AttestationError) as refusal:
        unbound(b"").fresh(NONCE, log, check=check)
    (step,) = log.failed(refusal.value)
    assert (step.check, step.seen, step.wanted) == (recorded, "nothing", NONCE.hex())
    assert step.code == "NONCE_MISMATCH"
    passed = CheckLog()
    unbound().fresh(NONCE, passed, check=check)
    (step,) = passed.steps()
    assert (step.check, step.seen, step.wanted) == (recorded, NONCE.hex(), NONCE.hex())


def test_a_change_of_the_claims_keeps_what_they_are_bound_to() -> None:
    changed = unbound().map(lambda claims: f"{claims}, weaker")
    assert changed.fresh(NONCE) == "the claims, weaker"
    with pytest.raises(AttestationError):
        changed.fresh(PUBLIC[:-1] + b"\x06")


def test_it_is_not_made_by_hand() -> None:
    with pytest.raises(TypeError, match="claims come from"):
        Unbound("the claims", NONCE, FIELD, object())
