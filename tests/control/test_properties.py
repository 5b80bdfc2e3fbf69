"""Whatever is tried: few owners never widen what is released, and a stop always wins."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.control.findings import findings
from regalia.control.fold import apply, settled
from regalia.control.verify import verify_statement
from regalia.core.errors import ParseError, RegaliaError
from regalia.wire.statement import (
    ALONE,
    Charter,
    ModelVersion,
    PublishPolicy,
    ReferenceValue,
    RegisterModel,
    Resume,
    Revoke,
    Rotate,
    Stop,
    Terms,
    parse_statement,
)
from regalia_testing.mutation import every_flip, truncated
from regalia_testing.statements import charter_of, envelope
from tests.control.test_time import FACTS, IMAGE, MODEL, POLICY, STOP, served

if TYPE_CHECKING:
    from regalia.wire.statement import Action
    from regalia_testing.statements import Tenant

OWNERS = ("ann", "ben", "cyd")
OPEN = Terms(ends=None, sites=None, jurisdictions=None, roles=None, derivatives="any")
UNTIL = "2026-12-20T00:00:00Z"
ACTIONS: list[Action] = [
    STOP,
    Stop(model_id=MODEL),
    Resume(model_id=None),
    Resume(model_id=MODEL),
    Revoke(subject="chip", value="sev-snp:01"),
    Revoke(subject="measurement", value=f"sev-snp:{'cd' * 48}"),
    *(
        ReferenceValue(
            measurement=image,
            tee="sev-snp",
            transition=transition,  # type: ignore[arg-type] # one of the literals
            until=UNTIL if transition == "retire" else None,
        )
        for image in (IMAGE, "cd" * 48)
        for transition in ("stage", "promote", "retire", "revoke")
    ),
    *(
        ModelVersion(
            model_id=MODEL,
            transition=transition,  # type: ignore[arg-type] # one of the literals
            until=UNTIL if transition == "retire" else None,
            version=version,
        )
        for version in (1, 2)
        for transition in ("promote", "retire", "revoke")
    ),
    RegisterModel(manifest=str(FACTS.manifest), model_id=MODEL, terms=OPEN, version=1),
    RegisterModel(manifest=str(FACTS.manifest), model_id=MODEL, terms=OPEN, version=2),
    PublishPolicy(model_id=MODEL, policy_id=POLICY),
    PublishPolicy(model_id=MODEL, policy_id=f"policy:{'7' * 64}"),
    Rotate(new="kek-2", old="kek-1"),
    charter_of(("ann",), 1),
    charter_of(OWNERS, 1),
]
VERSIONS = (1, 2)
IMAGES = (IMAGE, "cd" * 48)
POLICIES = (POLICY, f"policy:{'7' * 64}")
acts = st.tuples(
    st.sampled_from(ACTIONS),
    st.sets(st.sampled_from(OWNERS), min_size=1),
    st.sampled_from([0, 0, 30, 3600]),  # seconds until it takes effect
    st.sampled_from([0, 1, 60, 4000]),  # seconds until the next one
)


def releasable(tenant: Tenant) -> set[tuple[int, str, str, str]]:
    """Which releases the owners permit now, of all that could be asked for."""
    state = tenant.at_now()
    found = set()
    for each in itertools.product(VERSIONS, IMAGES, POLICIES, ("sev-snp:00", "sev-snp:01")):
        version, image, policy, machine = each
        facts = replace(
            FACTS,
            model_version=version,
            measurement=f"sev-snp:{image}",
            policy_id=policy,
            machines=frozenset({machine}),
        )
        if not findings(state, facts, tenant.now):
            found.add(each)
    return found


def tried(tenant: Tenant, action: Action, by: set[str], after: int) -> bool:
    """Try to have a statement accepted. Returns whether it was."""
    at = tenant.now + timedelta(seconds=after) if after and not isinstance(action, ALONE) else None
    sequence = tenant.at_now().sequence
    with suppress(RegaliaError):
        tenant.act(action, *sorted(by), not_before=at)
    assert tenant.state is not None
    return tenant.state.sequence > sequence


def test_all_that_could_be_asked_for_can_be_permitted() -> None:
    """Otherwise the properties below would hold for nothing."""
    tenant = served()
    assert releasable(tenant) == {(1, IMAGE, POLICY, f"sev-snp:0{n}") for n in (0, 1)}


@settings(max_examples=150, deadline=None)
@given(before=st.lists(acts, max_size=6), alone=st.lists(acts, min_size=1, max_size=6))
def test_fewer_owners_than_needed_never_widen_what_is_released(
    before: list[Any], alone: list[Any]
) -> None:
    tenant = served()
    for action, by, after, wait in before:
        # A charter of one owner would make one owner enough.
        if not isinstance(action, Charter):
            tried(tenant, action, by, after)
        tenant.wait(wait)
    baseline = tenant.copy()
    for action, by, after, wait in alone:
        tried(tenant, action, {min(by)}, after)
        for each in (tenant, baseline):
            each.wait(wait)
        assert releasable(tenant) <= releasable(baseline)


@settings(max_examples=150, deadline=None)
@given(acts_of_one=st.lists(acts, max_size=6))
def test_what_one_owner_cannot_do_is_refused(acts_of_one: list[Any]) -> None:
    tenant = served()
    for action, by, after, wait in acts_of_one:
        accepted = tried(tenant, action, {min(by)}, after)
        assert accepted == isinstance(action, ALONE)
        tenant.wait(wait)


@settings(max_examples=150, deadline=None)
@given(
    before=st.lists(acts, max_size=6),
    owner=st.sampled_from(OWNERS),
    behind=st.lists(acts, max_size=6),
)
def test_a_stop_always_wins(before: list[Any], owner: str, behind: list[Any]) -> None:
    tenant = served()
    for action, by, after, wait in before:
        tried(tenant, action, by, after)
        tenant.wait(wait)
    owners = [each.name for each in tenant.at_now().charter.owners]
    stopper = owner if owner in owners else owners[0]
    assert tried(tenant, STOP, {stopper}, 0), "no history keeps an owner from stopping"
    assert releasable(tenant) == set()
    stopped = tenant.copy()
    for action, by, after, wait in behind:
        if not isinstance(action, Resume):
            tried(tenant, action, by, after)
        tenant.wait(wait)
        assert releasable(tenant) == set(), "only owners who resume end a stop"
    stopped.wait(30 * 86400)
    assert releasable(stopped) == set(), "nor does time"


@settings(deadline=None)
@given(order=st.permutations(OWNERS))
def test_the_order_of_signatures_does_not_matter(order: list[str]) -> None:
    tenant = served()
    other = tenant.copy()
    statement = tenant.statement(Rotate(new="kek-2", old="kek-1"))
    tenant.accept(envelope(statement, OWNERS))
    other.accept(envelope(statement, order))
    assert tenant.state == other.state


@settings(deadline=None)
@given(moments=st.lists(st.integers(0, 8000), max_size=6))
def test_looking_between_changes_nothing(moments: list[int]) -> None:
    """What is due takes effect at its own time, however often and late somebody looks."""
    tenant = served()
    for number in range(3):
        act = Rotate(new=f"kek-{number + 2}", old=f"kek-{number + 1}")
        tenant.act(act, not_before=tenant.now + timedelta(seconds=2000 * (number + 1)))
    start = tenant.at_now()
    looked = start
    for moment in sorted(moments):
        looked = settled(looked, tenant.now + timedelta(seconds=moment))
    end = tenant.now + timedelta(seconds=8000)
    assert settled(looked, end) == settled(start, end)


def test_no_changed_byte_of_a_signed_statement_is_accepted() -> None:
    tenant = served()
    state = tenant.at_now()
    data = envelope(tenant.statement(STOP), ("ann",))
    owners = tuple(state.charter.owners)
    assert apply(state, verify_statement(data, owners), tenant.now).stops
    tries = 0
    for what, mutant in itertools.chain(every_flip(data), truncated(data)):
        tries += 1
        with suppress(RegaliaError):
            apply(state, verify_statement(mutant, owners), tenant.now)
            pytest.fail(what)
    assert tries > 1000


@pytest.mark.parametrize("action", ACTIONS, ids=lambda each: type(each).__name__)
def test_a_statement_has_one_encoding(action: Action) -> None:
    payload = served().statement(action).encode()
    assert parse_statement(payload).encode() == payload
    for what, mutant in itertools.chain(every_flip(payload), truncated(payload)):
        try:
            assert parse_statement(mutant).encode() == mutant, what
        except ParseError:
            continue
