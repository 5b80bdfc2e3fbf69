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
from regalia_testing.tees.snp.simulator import SnpSimulator
from tests.broker.harness import MODEL_KEY, Deviation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.broker.leases import Lease
    from tests.broker.harness import Deployment

OTHER = hashlib.sha256(b"other").digest()


# -- challenges -----------------------------------------------------------------------------------


def test_a_challenge_is_good_once(deployment: Deployment) -> None:
    asked = deployment.challenge()
    request = deployment.request(asked)
    deployment.granted(deployment.post("/v1/release", request))
    deployment.store.unwrapped.clear()
    assert deployment.denied(deployment.post("/v1/release", request), status=409) == [
        "CHALLENGE_REUSED"
    ]
    assert len(deployment.records()) == 2
    # One line in the log tells of the replay; a thousand replays do not fill it.
    for _ in range(3):
        answer = deployment.post("/v1/release", request)
        refusal = deployment.refused(answer)
        assert (answer.status_code, refusal.code, refusal.log) == (409, "CHALLENGE_REUSED", None)
    assert len(deployment.records()) == 2
    assert deployment.store.unwrapped == []


def test_a_challenge_is_spent_by_a_request_that_fails(deployment: Deployment) -> None:
    asked = deployment.challenge()
    deployment.post("/v1/release", deployment.request(asked, Deviation(evidence=b"rubbish")))
    answer = deployment.post("/v1/release", deployment.request(asked))
    assert deployment.denied(answer, status=409) == ["CHALLENGE_REUSED"]


def test_replayed_evidence(deployment: Deployment) -> None:
    old = deployment.evidence(deployment.challenge()).encode()
    assert deployment.denied(deployment.ask(Deviation(evidence=old))) == ["NONCE_MISMATCH"]


def test_an_expired_challenge(deployment: Deployment) -> None:
    assert deployment.denied(deployment.ask(Deviation(wait_s=60)), status=409) == [
        "CHALLENGE_EXPIRED"
    ]
    deployment.open(deployment.ask(Deviation(wait_s=59.9)))


def test_a_challenge_older_than_the_policy_accepts(
    make_deployment: Callable[..., Deployment],
) -> None:
    from regalia.policy.documents import Freshness  # noqa: PLC0415

    deployment = make_deployment(policy={"freshness": Freshness(challenge_max_age_s=10)})
    assert deployment.denied(deployment.ask(Deviation(wait_s=11))) == ["EVIDENCE_TOO_OLD"]


def test_a_challenge_that_was_never_issued_is_not_logged(deployment: Deployment) -> None:
    asked = deployment.challenge()
    request = deployment.request(asked) | {"challenge": b64(b"c" * 32)}
    answer = deployment.post("/v1/release", request)
    refusal = deployment.refused(answer)
    assert (answer.status_code, refusal.code, refusal.log) == (409, "CHALLENGE_UNKNOWN", None)
    assert deployment.records() == []


def test_one_challenge_in_many_hands_at_once(deployment: Deployment) -> None:
    body = json.dumps(
        deployment.request(deployment.challenge()), sort_keys=True, separators=(",", ":")
    )
    results: list[str] = []

    def attempt() -> None:
        try:
            deployment.broker.release(body.encode())
            results.append("released")
        except Exception as exc:  # noqa: BLE001 - every kind of end is recorded
            results.append(str(getattr(exc, "code", exc)))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["CHALLENGE_REUSED"] * 7 + ["released"]
    assert [record.decision for record in deployment.records()].count("release") == 1


def test_challenges_are_random_bounded_and_forgotten(
    make_deployment: Callable[..., Deployment],
) -> None:
    from regalia.broker.config import LimitsSection  # noqa: PLC0415

    deployment = make_deployment(limits=LimitsSection(challenges=3))
    assert len({deployment.challenge().challenge for _ in range(3)}) == 3
    answer = deployment.post("/v1/challenge", {"model_id": str(deployment.model_id)})
    assert (answer.status_code, deployment.refused(answer).code) == (503, "CHALLENGES_EXHAUSTED")
    deployment.pass_time(61)
    asked = deployment.challenge()
    assert asked.expires_in_s == 60
    deployment.pass_time(3600)
    deployment.challenge()
    with deployment.state_engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT COUNT(*) FROM broker_challenges")).scalar()
    assert rows == 1  # old ones are deleted


def test_challenge_for_an_unknown_model(deployment: Deployment) -> None:
    answer = deployment.post("/v1/challenge", {"model_id": str(ModelId(OTHER))})
    assert (answer.status_code, deployment.refused(answer).code) == (404, "MODEL_UNKNOWN")


def test_model_removed_between_challenge_and_release(deployment: Deployment) -> None:
    asked = deployment.challenge()
    deployment.broker.models.clear()
    answer = deployment.post("/v1/release", deployment.request(asked))
    assert deployment.denied(answer) == ["MODEL_UNKNOWN"]


# -- leases ---------------------------------------------------------------------------------------


def test_no_more_holders_than_the_policy_allows(deployment: Deployment) -> None:
    first, second, third = (Deviation(platform=deployment.guest(n)) for n in range(3))
    deployment.open(deployment.ask(first))
    deployment.open(deployment.ask(second))
    deployment.store.unwrapped.clear()
    assert deployment.denied(deployment.ask(third)) == ["HOLDERS_EXHAUSTED"]
    deployment.pass_time(599)
    assert deployment.denied(deployment.ask(third)) == ["HOLDERS_EXHAUSTED"]
    deployment.pass_time(2)
    deployment.open(deployment.ask(third))  # the leases have ended


def test_a_runtime_that_starts_again_in_its_guest_is_no_second_holder(
    make_deployment: Callable[..., Deployment],
) -> None:
    """It crashed, its lease id is lost, and its lease has long to go."""
    deployment = make_deployment(policy={"holders_max": 1})
    other = Deviation(platform=deployment.guest(1))
    leases = set()
    for _ in range(3):
        answer = deployment.ask()
        assert deployment.open(answer) == MODEL_KEY
        leases.add(deployment.granted(answer).lease_id)
        deployment.pass_time(400)
    assert len(leases) == 3
    # Each of its leases keeps the place: the key that went out with it may still be there.
    deployment.store.unwrapped.clear()
    assert deployment.denied(deployment.ask(other)) == ["HOLDERS_EXHAUSTED"]
    deployment.pass_time(201)
    deployment.open(deployment.ask(other))
    deployment.store.unwrapped.clear()
    assert deployment.denied(deployment.ask()) == ["HOLDERS_EXHAUSTED"]


def test_many_at_once_do_not_get_past_the_cap(deployment: Deployment) -> None:
    bodies = [
        canonical_json(
            deployment.request(deployment.challenge(), Deviation(platform=deployment.guest(number)))
        ).decode()
        for number in range(6)
    ]
    results: list[str] = []

    def attempt(body: str) -> None:
        try:
            deployment.broker.release(body.encode())
            results.append("released")
        except Exception as exc:  # noqa: BLE001 - every kind of end is recorded
            results.append(str(getattr(exc, "code", exc)))

    threads = [threading.Thread(target=attempt, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["HOLDERS_EXHAUSTED"] * 4 + ["released"] * 2


def test_a_lease_is_renewed_with_fresh_evidence(deployment: Deployment) -> None:
    first = deployment.granted(deployment.ask())
    second, third = (Deviation(platform=deployment.guest(n)) for n in (2, 3))
    deployment.open(deployment.ask(second))  # the cap is reached
    deployment.pass_time(500)
    answer = deployment.ask(Deviation(request={"lease_id": first.lease_id}))
    assert deployment.open(answer) == MODEL_KEY
    assert deployment.granted(answer).lease_id == first.lease_id
    deployment.pass_time(500)  # the second lease has ended, the renewed one has not
    deployment.open(deployment.ask(third))
    deployment.store.unwrapped.clear()
    assert deployment.denied(deployment.ask(second)) == ["HOLDERS_EXHAUSTED"]


def renewal(deployment: Deployment, lease_id: str, **changes: Any) -> list[str]:  # noqa: ANN401
    deployment.store.unwrapped.clear()
    deviation = Deviation(request={"lease_id": lease_id}, **changes)
    return deployment.denied(deployment.ask(deviation), status=409)


def test_a_lease_that_is_not_this_attesters(
    make_deployment: Callable[..., Deployment], tmp_path: Path
) -> None:
    from regalia.policy.documents import Platform  # noqa: PLC0415

    deployment = make_deployment()
    snp = deployment.policy.platform.snp
    replace = msgspec.structs.replace
    platform = Platform(
        hardware=deployment.policy.platform.hardware, snp=replace(snp, chip_ids="any"), devices=[]
    )
    deployment = make_deployment(policy={"platform": platform})
    mine = deployment.granted(deployment.ask()).lease_id
    keys = deployment.shared.platform.authority.keys
    other = SnpSimulator.create(tmp_path / "other", now=deployment.now, keys=keys)
    assert renewal(deployment, mine, platform=other) == ["LEASE_UNKNOWN"]
    assert renewal(deployment, "lease:" + "0" * 32) == ["LEASE_UNKNOWN"]
    deployment.pass_time(601)
    assert renewal(deployment, mine) == ["LEASE_UNKNOWN"]  # it has ended


def test_a_lease_is_for_one_model(deployment: Deployment) -> None:
    grant: dict[str, Any] = {
        "holder": "h",
        "policy_name": "test",
        "holders_max": 1,
        "lease_s": 60,
        "now": deployment.now,
    }
    mine = deployment.broker.leases.take(model_id="a", renew=None, **grant)
    with pytest.raises(PolicyDenied, match="LEASE_UNKNOWN"):
        deployment.broker.leases.take(model_id="b", renew=mine.lease_id, **grant)
    again = deployment.broker.leases.take(model_id="a", renew=mine.lease_id, **grant)
    assert (again.lease_id, again.before) == (mine.lease_id, mine.until)


def test_giving_back_a_renewal_leaves_a_later_one_alone(deployment: Deployment) -> None:
    """Two renewals at once: the log fails for the first, and the second one's key is out."""
    leases, start = deployment.broker.leases, deployment.now

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
