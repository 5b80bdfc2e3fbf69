"""Challenges are good once, and leases bound how many hold a key."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sqlalchemy as sa

from regalia.core.codec import b64, canonical_json
from regalia.core.errors import PolicyDenied
from regalia.core.types import ModelId
from regalia_testing.tees.snp.simulator import SimulatedPlatform
from tests.broker.harness import MODEL_KEY, Deviation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.broker.leases import Lease
    from tests.broker.harness import World

OTHER = hashlib.sha256(b"other").digest()


# -- challenges -----------------------------------------------------------------------------------


def test_a_challenge_is_good_once(world: World) -> None:
    asked = world.challenge()
    request = world.request(asked)
    world.granted(world.post("/v1/release", request))
    world.store.unwrapped.clear()
    assert world.denied(world.post("/v1/release", request), status=409) == ["CHALLENGE_REUSED"]
    assert len(world.records()) == 2
    # One line in the log tells of the replay; a thousand replays do not fill it.
    for _ in range(3):
        answer = world.post("/v1/release", request)
        refusal = world.refused(answer)
        assert (answer.status_code, refusal.code, refusal.log) == (409, "CHALLENGE_REUSED", None)
    assert len(world.records()) == 2
    assert world.store.unwrapped == []


def test_a_challenge_is_spent_by_a_request_that_fails(world: World) -> None:
    asked = world.challenge()
    world.post("/v1/release", world.request(asked, Deviation(evidence=b"rubbish")))
    answer = world.post("/v1/release", world.request(asked))
    assert world.denied(answer, status=409) == ["CHALLENGE_REUSED"]


def test_replayed_evidence(world: World) -> None:
    old = world.evidence(world.challenge()).encode()
    assert world.denied(world.ask(Deviation(evidence=old))) == ["NONCE_MISMATCH"]


def test_an_expired_challenge(world: World) -> None:
    assert world.denied(world.ask(Deviation(wait_s=60)), status=409) == ["CHALLENGE_EXPIRED"]
    world.open(world.ask(Deviation(wait_s=59.9)))


def test_a_challenge_older_than_the_policy_accepts(make_world: Callable[..., World]) -> None:
    from regalia.policy.documents import Freshness  # noqa: PLC0415

    world = make_world(policy={"freshness": Freshness(challenge_max_age_s=10)})
    assert world.denied(world.ask(Deviation(wait_s=11))) == ["EVIDENCE_TOO_OLD"]


def test_a_challenge_that_was_never_issued_is_not_logged(world: World) -> None:
    asked = world.challenge()
    request = world.request(asked) | {"challenge": b64(b"c" * 32)}
    answer = world.post("/v1/release", request)
    refusal = world.refused(answer)
    assert (answer.status_code, refusal.code, refusal.log) == (409, "CHALLENGE_UNKNOWN", None)
    assert world.records() == []


def test_one_challenge_in_many_hands_at_once(world: World) -> None:
    body = json.dumps(world.request(world.challenge()), sort_keys=True, separators=(",", ":"))
    results: list[str] = []

    def attempt() -> None:
        try:
            world.broker.release(body.encode())
            results.append("released")
        except Exception as exc:  # noqa: BLE001 - every kind of end is recorded
            results.append(str(getattr(exc, "code", exc)))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["CHALLENGE_REUSED"] * 7 + ["released"]
    assert [record.decision for record in world.records()].count("release") == 1


def test_challenges_are_random_bounded_and_forgotten(make_world: Callable[..., World]) -> None:
    from regalia.broker.config import LimitsSection  # noqa: PLC0415

    world = make_world(limits=LimitsSection(challenges=3))
    assert len({world.challenge().challenge for _ in range(3)}) == 3
    answer = world.post("/v1/challenge", {"model_id": str(world.model_id)})
    assert (answer.status_code, world.refused(answer).code) == (503, "CHALLENGES_EXHAUSTED")
    world.pass_time(61)
    asked = world.challenge()
    assert asked.expires_in_s == 60
    world.pass_time(3600)
    world.challenge()
    with world.state_engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT COUNT(*) FROM broker_challenges")).scalar()
    assert rows == 1  # old ones are deleted


def test_challenge_for_an_unknown_model(world: World) -> None:
    answer = world.post("/v1/challenge", {"model_id": str(ModelId(OTHER))})
    assert (answer.status_code, world.refused(answer).code) == (404, "MODEL_UNKNOWN")


def test_model_removed_between_challenge_and_release(world: World) -> None:
    asked = world.challenge()
    world.broker.models.clear()
    answer = world.post("/v1/release", world.request(asked))
    assert world.denied(answer) == ["MODEL_UNKNOWN"]


# -- leases ---------------------------------------------------------------------------------------


def test_no_more_holders_than_the_policy_allows(world: World) -> None:
    first, second, third = (Deviation(platform=world.guest(n)) for n in range(3))
    world.open(world.ask(first))
    world.open(world.ask(second))
    world.store.unwrapped.clear()
    assert world.denied(world.ask(third)) == ["HOLDERS_EXHAUSTED"]
    world.pass_time(599)
    assert world.denied(world.ask(third)) == ["HOLDERS_EXHAUSTED"]
    world.pass_time(2)
    world.open(world.ask(third))  # the leases have ended


def test_a_runtime_that_starts_again_in_its_guest_is_no_second_holder(
    make_world: Callable[..., World],
) -> None:
    """It crashed, its lease id is lost, and its lease has long to go."""
    world = make_world(policy={"holders_max": 1})
    other = Deviation(platform=world.guest(1))
    leases = set()
    for _ in range(3):
        answer = world.ask()
        assert world.open(answer) == MODEL_KEY
        leases.add(world.granted(answer).lease_id)
        world.pass_time(400)
    assert len(leases) == 3
    # Each of its leases keeps the place: the key that went out with it may still be there.
    world.store.unwrapped.clear()
    assert world.denied(world.ask(other)) == ["HOLDERS_EXHAUSTED"]
    world.pass_time(201)
    world.open(world.ask(other))
    world.store.unwrapped.clear()
    assert world.denied(world.ask()) == ["HOLDERS_EXHAUSTED"]


def test_many_at_once_do_not_get_past_the_cap(world: World) -> None:
    bodies = [
        canonical_json(
            world.request(world.challenge(), Deviation(platform=world.guest(number)))
        ).decode()
        for number in range(6)
    ]
    results: list[str] = []

    def attempt(body: str) -> None:
        try:
            world.broker.release(body.encode())
            results.append("released")
        except Exception as exc:  # noqa: BLE001 - every kind of end is recorded
            results.append(str(getattr(exc, "code", exc)))

    threads = [threading.Thread(target=attempt, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["HOLDERS_EXHAUSTED"] * 4 + ["released"] * 2


def test_a_lease_is_renewed_with_fresh_evidence(world: World) -> None:
    first = world.granted(world.ask())
    second, third = (Deviation(platform=world.guest(n)) for n in (2, 3))
    world.open(world.ask(second))  # the cap is reached
    world.pass_time(500)
    answer = world.ask(Deviation(request={"lease_id": first.lease_id}))
    assert world.open(answer) == MODEL_KEY
    assert world.granted(answer).lease_id == first.lease_id
    world.pass_time(500)  # the second lease has ended, the renewed one has not
    world.open(world.ask(third))
    world.store.unwrapped.clear()
    assert world.denied(world.ask(second)) == ["HOLDERS_EXHAUSTED"]


def renewal(world: World, lease_id: str, **changes: Any) -> list[str]:  # noqa: ANN401
    world.store.unwrapped.clear()
    deviation = Deviation(request={"lease_id": lease_id}, **changes)
    return world.denied(world.ask(deviation), status=409)


def test_a_lease_that_is_not_this_attesters(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    from regalia.policy.documents import Platform  # noqa: PLC0415

    world = make_world()
    snp = world.policy.platform.snp
    replace = msgspec.structs.replace
    platform = Platform(
        hardware=world.policy.platform.hardware, snp=replace(snp, chip_ids="any"), devices=[]
    )
    world = make_world(policy={"platform": platform})
    mine = world.granted(world.ask()).lease_id
    keys = world.shared.platform.authority.keys
    other = SimulatedPlatform.create(tmp_path / "other", now=world.now, keys=keys)
    assert renewal(world, mine, platform=other) == ["LEASE_UNKNOWN"]
    assert renewal(world, "lease:" + "0" * 32) == ["LEASE_UNKNOWN"]
    world.pass_time(601)
    assert renewal(world, mine) == ["LEASE_UNKNOWN"]  # it has ended


def test_a_lease_is_for_one_model(world: World) -> None:
    grant: dict[str, Any] = {
        "holder": "h",
        "policy_name": "test",
        "holders_max": 1,
        "lease_s": 60,
        "now": world.now,
    }
    mine = world.broker.leases.take(model_id="a", renew=None, **grant)
    with pytest.raises(PolicyDenied, match="LEASE_UNKNOWN"):
        world.broker.leases.take(model_id="b", renew=mine.lease_id, **grant)
    again = world.broker.leases.take(model_id="a", renew=mine.lease_id, **grant)
    assert (again.lease_id, again.before) == (mine.lease_id, mine.until)


def test_giving_back_a_renewal_leaves_a_later_one_alone(world: World) -> None:
    """Two renewals at once: the log fails for the first, and the second one's key is out."""
    leases, start = world.broker.leases, world.now

    def take(after_s: int, renew: str | None) -> Lease:
        return leases.take(
            model_id="a",
            holder="h",
            policy_name="test",
            holders_max=1,
            lease_s=60,
            now=start + timedelta(seconds=after_s),
            renew=renew,
        )

    def held(after_s: int) -> int:
        return leases.active("a", start + timedelta(seconds=after_s), besides="another")

    mine = take(0, None)
    failing = take(10, mine.lease_id)
    take(20, mine.lease_id)
    leases.undo(failing)
    assert (held(79), held(80)) == (1, 0)
    leases.undo(mine)
    assert held(79) == 1
    # Alone, a renewal that is given back ends when the lease would have ended without it.
    leases.undo(take(30, mine.lease_id))
    assert (held(79), held(80)) == (1, 0)
    new = take(30, None)
    leases.undo(new)
    assert (held(79), held(80)) == (1, 0)
