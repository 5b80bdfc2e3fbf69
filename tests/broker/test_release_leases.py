"""Challenges are good once, and leases bound how many hold a key."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sqlalchemy as sa

from regalia.broker.challenges import ChallengeRefused, ChallengeStore
from regalia.broker.state import SPENT, STATE
from regalia.core.codec import b64, canonical_json, unb64
from regalia.core.types import ModelId, PolicyId
from regalia_testing.tees.snp.simulator import SnpSimulator
from tests.broker.harness import MODEL_KEY, ORIGIN, Deviation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    answer = deployment.ask(Deviation(wait_s=60))
    refusal = deployment.refused(answer)
    # Anybody can collect challenges and answer them late, so this is no line in the log.
    assert (answer.status_code, refusal.code, refusal.log) == (409, "CHALLENGE_EXPIRED", None)
    assert deployment.records() == []
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
            deployment.broker.release(body.encode(), "peer")
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


def test_challenges_cost_no_row_until_they_are_answered(deployment: Deployment) -> None:
    def rows() -> int:
        with deployment.state_engine.connect() as connection:
            query = sa.select(sa.func.count()).select_from(SPENT)
            return int(connection.execute(query).scalar_one())

    asked = [deployment.challenge() for _ in range(50)]
    assert len({each.challenge for each in asked}) == 50
    assert {each.expires_in_s for each in asked} == {60}
    assert rows() == 0
    rubbish = Deviation(evidence=b"rubbish")
    for each in asked[:2]:
        deployment.denied(deployment.post("/v1/release", deployment.request(each, rubbish)))
    assert rows() == 2
    deployment.pass_time(71)
    deployment.denied(deployment.ask(rubbish))
    assert rows() == 1  # those of expired challenges are deleted


def test_a_challenge_outlives_a_restart_and_is_still_good_once(deployment: Deployment) -> None:
    asked, other = deployment.challenge(), deployment.challenge()
    request = deployment.request(asked)
    deployment.restart()
    deployment.open(deployment.post("/v1/release", request))
    deployment.restart()
    deployment.store.unwrapped.clear()
    assert deployment.denied(deployment.post("/v1/release", request), status=409) == [
        "CHALLENGE_REUSED"
    ]
    deployment.open(deployment.post("/v1/release", deployment.request(other)))


@pytest.mark.parametrize("place", [0, 7, 8, 15, 16, 31], ids="byte {}".format)
def test_a_challenge_with_one_byte_changed_is_unknown(deployment: Deployment, place: int) -> None:
    asked = deployment.challenge()
    raw = bytearray(unb64(asked.challenge, what="challenge"))
    raw[place] ^= 1
    request = deployment.request(asked) | {"challenge": b64(raw)}
    answer = deployment.post("/v1/release", request)
    assert (answer.status_code, deployment.refused(answer).code) == (409, "CHALLENGE_UNKNOWN")
    deployment.open(deployment.post("/v1/release", deployment.request(asked)))


def test_a_challenge_of_another_key_audience_or_model_is_unknown(deployment: Deployment) -> None:
    challenges, now = deployment.broker.challenges, deployment.now
    model_id, policy_id = deployment.model_id, deployment.policy.policy_id()
    mine = challenges.issue(model_id, policy_id, now)

    def consumed_by(store: ChallengeStore, model: ModelId, policy: PolicyId) -> str:
        try:
            store.consume(mine, [(model, policy)], now)
        except ChallengeRefused as exc:
            return exc.code.name
        return "consumed"

    def store(key: bytes, audience: str) -> ChallengeStore:
        return ChallengeStore(deployment.state_engine, key=key, audience=audience, ttl_s=60)

    with deployment.state_engine.connect() as connection:
        key = connection.execute(sa.select(STATE.c.challenge_key)).scalar_one()
    for other in (
        (store(key, "log.evil.example"), model_id, policy_id),
        (challenges, ModelId(OTHER), policy_id),
        (challenges, model_id, PolicyId(OTHER)),
    ):
        assert consumed_by(*other) == "CHALLENGE_UNKNOWN"
    assert consumed_by(store(key, ORIGIN), model_id, policy_id) == "consumed"
    mine = store(OTHER, ORIGIN).issue(model_id, policy_id, now)
    assert consumed_by(challenges, model_id, policy_id) == "CHALLENGE_UNKNOWN"
    with pytest.raises(ValueError, match="32 bytes"):
        store(b"short", ORIGIN)


def test_a_clock_that_goes_back_is_refused(deployment: Deployment) -> None:
    deployment.open(deployment.ask())
    deployment.pass_time(-9)  # brokers' clocks differ a little
    deployment.open(deployment.ask())
    deployment.pass_time(-2)
    deployment.store.unwrapped.clear()
    answer = deployment.ask()
    assert (answer.status_code, deployment.refused(answer).code) == (503, "CLOCK_WENT_BACK")
    assert deployment.store.unwrapped == []
    assert len(deployment.records()) == 2
    deployment.pass_time(11)
    deployment.open(deployment.ask())


def test_a_challenge_from_the_future_is_refused(deployment: Deployment) -> None:
    request = deployment.request(deployment.challenge())
    deployment.pass_time(-11)
    answer = deployment.post("/v1/release", request)
    assert (answer.status_code, deployment.refused(answer).code) == (503, "CLOCK_WENT_BACK")


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
            deployment.broker.release(body.encode(), "peer")
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
