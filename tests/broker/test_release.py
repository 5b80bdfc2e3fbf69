"""The whole release through HTTP, and every defect with the refusal that it deserves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sqlalchemy as sa
from broker_harness import MODEL_KEY, Deviation

from regalia.broker.challenges import ConsumedChallenge, IssuedFor
from regalia.broker.service import Cleared
from regalia.core.codec import b64, canonical_json
from regalia.core.errors import IntegrityError, KeyAccessError, PolicyDenied
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.formats.evidence import Role
from regalia.keys.codes import KeysCode
from regalia.testing.snp import SimulatedPlatform
from regalia.testing.snp_authority import AuthorityKeys
from regalia.testing.snp_knobs import Knobs
from regalia.tlog.verify import verify_proof

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx
    from broker_harness import World

    from regalia.broker.leases import Lease

OTHER = hashlib.sha256(b"other").digest()


def test_a_healthy_runtime_gets_the_key(world: World) -> None:
    answer = world.ask()
    assert world.open(answer) == MODEL_KEY
    response = world.granted(answer)
    (record,) = world.records()
    logged = verify_proof(response.log, log_key=world.shared.log_key)
    assert logged.record == record
    assert (record.decision, record.hardware, record.custody) == ("release", "simulated", "broker")
    assert (record.model_id, record.model_version) == (str(world.model_id), 3)
    assert (record.policy_id, record.policy_version) == (str(world.policy.policy_id()), 5)
    assert record.lease_id == response.lease_id
    assert record.reasons == []
    assert "platform.hardware=dangerous_simulated" in record.wildcards
    assert MODEL_KEY not in answer.content


def test_the_released_key_is_bound_to_model_lease_and_entry(world: World) -> None:
    answer = world.ask()
    for change in (
        {"lease_id": "lease:" + "0" * 32},
        {"record_index": 1},
        {"model_id": str(ModelId(OTHER))},
    ):
        with pytest.raises(IntegrityError, match="HPKE_OPEN_FAILED"):
            world.open(answer, **change)


def denied(world: World, answer: httpx.Response, *, status: int = 403) -> list[str]:
    return world.denied(answer, status=status)


UNGENUINE: list[tuple[str, Deviation, str]] = [
    ("bad signature", Deviation(knobs=Knobs(bad_signature=True)), "SIGNATURE_INVALID"),
    ("stale nonce", Deviation(knobs=Knobs(stale_nonce=True)), "NONCE_MISMATCH"),
    ("no report data", Deviation(knobs=Knobs(zero_report_data=True)), "NONCE_MISMATCH"),
    ("masked chip", Deviation(knobs=Knobs(mask_chip_id=True)), "LEAF_BINDING_MISMATCH"),
    ("no chain", Deviation(knobs=Knobs(no_endorsements=True)), "COLLATERAL_MISSING"),
    ("wrong role", Deviation(role=Role.SERVE), "NONCE_MISMATCH"),
    ("other audience", Deviation(audience="log.evil.example"), "NONCE_MISMATCH"),
    ("other key", Deviation(bound_key=b"k" * 1216), "NONCE_MISMATCH"),
    ("other policy", Deviation(bound_policy=PolicyId(OTHER)), "NONCE_MISMATCH"),
    ("other model", Deviation(bound_model=ModelId(OTHER)), "NONCE_MISMATCH"),
    ("other devices", Deviation(bound_devices=Digest(OTHER)), "NONCE_MISMATCH"),
    ("other wrap key", Deviation(request={"wrap_public_key": b64(b"w" * 422)}), "NONCE_MISMATCH"),
    ("rubbish", Deviation(evidence=b"rubbish"), "MALFORMED"),
    ("empty evidence", Deviation(request={"evidence": ""}), "MALFORMED"),
    ("no base64", Deviation(request={"evidence": "?"}), "MALFORMED"),
    ("short key", Deviation(request={"hpke_public_key": b64(b"k" * 32)}), "MALFORMED"),
    ("bad key", Deviation(request={"hpke_public_key": b64(b"\xff" * 1216)}), "HPKE_KEY_MALFORMED"),
    ("no wrap key", Deviation(request={"wrap_public_key": ""}), "MALFORMED"),
    ("big wrap key", Deviation(request={"wrap_public_key": b64(b"w" * 2000)}), "TOO_LARGE"),
    ("no version", Deviation(request={"model_version": 0}), "MALFORMED"),
    ("huge version", Deviation(request={"model_version": 1 << 70}), "MALFORMED"),
    ("no lease id", Deviation(request={"lease_id": "\x1b[31m"}), "MALFORMED"),
    ("asks other model", Deviation(request={"model_id": str(ModelId(OTHER))}), "REQUEST_MISMATCH"),
    (
        "asks other policy",
        Deviation(request={"policy_id": f"policy:{OTHER.hex()}"}),
        "REQUEST_MISMATCH",
    ),
    ("no model id", Deviation(request={"model_id": "model"}), "MALFORMED"),
]


@pytest.mark.parametrize(
    ("deviation", "code"), [case[1:] for case in UNGENUINE], ids=[case[0] for case in UNGENUINE]
)
def test_what_is_not_genuine_is_denied_and_logged(
    world: World, deviation: Deviation, code: str
) -> None:
    assert denied(world, world.ask(deviation)) == [code]
    (record,) = world.records()
    # Of evidence that was not verified nothing is repeated as if it were known.
    assert record.hardware == "unverified"
    assert (record.measurement, record.chip_id, record.product, record.tee) == ("", "", "", "")
    assert record.model_version in {0, 3}
    assert record.lease_id == ""


def test_evidence_of_another_root(world: World, tmp_path: Path) -> None:
    keys = world.shared.platform.authority.keys
    turned = AuthorityKeys(ark=keys.ask, ask=keys.asvk, asvk=keys.ark)
    other = SimulatedPlatform.create(tmp_path / "other", now=world.now, keys=turned)
    (code,) = denied(world, world.ask(Deviation(platform=other)))
    # Its certificates carry the same names, so the verifier may find our root above them first.
    assert code in {"ROOT_UNTRUSTED", "CHAIN_INVALID"}


def test_evidence_of_another_chip(world: World, tmp_path: Path) -> None:
    keys = world.shared.platform.authority.keys
    other = SimulatedPlatform.create(tmp_path / "other", now=world.now, keys=keys)
    assert denied(world, world.ask(Deviation(platform=other))) == ["INSTANCE_NOT_ALLOWED"]


UNACCEPTABLE: list[tuple[str, Deviation, str]] = [
    ("debug", Deviation(knobs=Knobs(debug=True)), "DEBUG_ENABLED"),
    ("migration", Deviation(knobs=Knobs(migrate=True)), "MIGRATION_ALLOWED"),
    ("old tcb", Deviation(knobs=Knobs(old_tcb=True)), "TCB_BELOW_MINIMUM"),
    ("vmpl", Deviation(knobs=Knobs(vmpl=1)), "VMPL_MISMATCH"),
    ("measurement", Deviation(measurement=b"m" * 48), "MEASUREMENT_UNKNOWN"),
    ("alias check", Deviation(knobs=Knobs(missing_alias_check=True)), "PLATFORM_FLAG_MISSING"),
    ("provisional", Deviation(knobs=Knobs(provisional_firmware=True)), "TCB_PROVISIONAL"),
    ("older model", Deviation(request={"model_version": 2}), "MODEL_ROLLBACK"),
    ("newer model", Deviation(request={"model_version": 4}), "MODEL_VERSION_MISMATCH"),
]


@pytest.mark.parametrize(
    ("deviation", "code"),
    [case[1:] for case in UNACCEPTABLE],
    ids=[case[0] for case in UNACCEPTABLE],
)
def test_what_is_not_acceptable_is_denied_and_logged(
    world: World, deviation: Deviation, code: str
) -> None:
    assert code in denied(world, world.ask(deviation))
    (record,) = world.records()
    # It was verified, so the log says whose it was.
    assert record.hardware == "simulated"
    assert record.chip_id == world.shared.platform.hwid.hex()


def test_all_reasons_are_given_at_once(world: World) -> None:
    worst = Deviation(
        knobs=Knobs(debug=True, vmpl=1), measurement=b"m" * 48, request={"model_version": 1}
    )
    codes = denied(world, world.ask(worst))
    assert {"DEBUG_ENABLED", "VMPL_MISMATCH", "MEASUREMENT_UNKNOWN", "MODEL_ROLLBACK"} <= set(codes)


def test_a_configuration_that_trusts_another_log_or_owner(world: World) -> None:
    config = world.runtime_config()
    for field in ("log_key", "owner_key"):
        changed: Any = msgspec.structs.replace(config, **{field: "evil+00000000+AAAA"})
        codes = denied(world, world.ask(Deviation(config=changed)))
        assert "HOST_DATA_UNKNOWN" in codes
        assert {"LOG_KEY_MISMATCH", "OWNER_KEY_MISMATCH"} & set(codes)


def test_no_runtime_configuration_in_genuine_evidence(world: World) -> None:
    asked = world.challenge()
    evidence = dataclasses.replace(world.evidence(asked), runtime_config=b"{}")
    answer = world.post("/v1/release", world.request(asked, Deviation(evidence=evidence.encode())))
    assert denied(world, answer) == ["MALFORMED"]
    assert world.records()[0].hardware == "simulated"


# -- challenges -----------------------------------------------------------------------------------


def test_a_challenge_is_good_once(world: World) -> None:
    asked = world.challenge()
    request = world.request(asked)
    world.granted(world.post("/v1/release", request))
    world.store.unwrapped.clear()
    assert denied(world, world.post("/v1/release", request), status=409) == ["CHALLENGE_REUSED"]
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
    assert denied(world, answer, status=409) == ["CHALLENGE_REUSED"]


def test_replayed_evidence(world: World) -> None:
    old = world.evidence(world.challenge()).encode()
    assert denied(world, world.ask(Deviation(evidence=old))) == ["NONCE_MISMATCH"]


def test_an_expired_challenge(world: World) -> None:
    assert denied(world, world.ask(Deviation(wait_s=60)), status=409) == ["CHALLENGE_EXPIRED"]
    world.open(world.ask(Deviation(wait_s=59.9)))


def test_a_challenge_older_than_the_policy_accepts(make_world: Callable[..., World]) -> None:
    from regalia.formats.policy import Freshness  # noqa: PLC0415

    world = make_world(policy={"freshness": Freshness(challenge_max_age_s=10)})
    assert denied(world, world.ask(Deviation(wait_s=11))) == ["EVIDENCE_TOO_OLD"]


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
    assert denied(world, answer) == ["MODEL_UNKNOWN"]


# -- leases ---------------------------------------------------------------------------------------


def test_no_more_holders_than_the_policy_allows(world: World) -> None:
    first, second, third = (Deviation(platform=world.guest(n)) for n in range(3))
    world.open(world.ask(first))
    world.open(world.ask(second))
    world.store.unwrapped.clear()
    assert denied(world, world.ask(third)) == ["HOLDERS_EXHAUSTED"]
    world.pass_time(599)
    assert denied(world, world.ask(third)) == ["HOLDERS_EXHAUSTED"]
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
    assert denied(world, world.ask(other)) == ["HOLDERS_EXHAUSTED"]
    world.pass_time(201)
    world.open(world.ask(other))
    world.store.unwrapped.clear()
    assert denied(world, world.ask()) == ["HOLDERS_EXHAUSTED"]


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
    assert denied(world, world.ask(second)) == ["HOLDERS_EXHAUSTED"]


def renewal(world: World, lease_id: str, **changes: Any) -> list[str]:  # noqa: ANN401
    world.store.unwrapped.clear()
    deviation = Deviation(request={"lease_id": lease_id}, **changes)
    return denied(world, world.ask(deviation), status=409)


def test_a_lease_that_is_not_this_attesters(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    from regalia.formats.policy import Platform  # noqa: PLC0415

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


# -- the log comes first --------------------------------------------------------------------------


def both_places_are_free(world: World) -> None:
    for number in (1, 2):
        world.open(world.ask(Deviation(platform=world.guest(number))))


def lock(path: Path) -> sqlite3.Connection:
    """What a second process that holds the database does to everybody else."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    return holder


def impatient(engine: sa.Engine) -> None:
    sa.event.listen(
        engine, "checkout", lambda c, _r, _p: c.execute("PRAGMA busy_timeout = 10") and None
    )


def test_no_key_comes_out_when_the_log_cannot_be_written(world: World) -> None:
    asked = world.challenge()
    request = world.request(asked)
    impatient(world.log_engine)
    holder = lock(world.folder / "log.db")
    answer = world.post("/v1/release", request)
    refusal = world.refused(answer)
    assert (answer.status_code, refusal.code, refusal.log) == (503, "LOG_UNWRITABLE", None)
    assert world.store.unwrapped == []
    holder.execute("ROLLBACK")
    holder.close()
    assert world.records() == []
    # The lease that it would have taken is free again: others can have both places.
    both_places_are_free(world)


def test_a_denial_that_cannot_be_logged_is_no_decision_either(world: World) -> None:
    request = world.request(world.challenge(), Deviation(knobs=Knobs(debug=True)))
    impatient(world.log_engine)
    holder = lock(world.folder / "log.db")
    answer = world.post("/v1/release", request)
    assert (answer.status_code, world.refused(answer).code) == (503, "LOG_UNWRITABLE")
    holder.close()


def test_the_record_stands_in_the_log_when_the_key_is_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwrap = world.store.unwrap_logged
    order: list[str] = []

    def watched(*args: Any, logged: Any) -> Any:  # noqa: ANN401
        proof = world.log.reader.prove(logged.index)
        assert verify_proof(proof, log_key=world.shared.log_key).record == logged.record
        order.append("unwrap")
        return unwrap(*args, logged=logged)

    monkeypatch.setattr(world.store, "unwrap_logged", watched)
    world.open(world.ask())
    assert order == ["unwrap"]


def test_steps_cannot_be_made_by_hand() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="consume"):
        ConsumedChallenge(b"c" * 32, IssuedFor("", "", nothing), object())
    with pytest.raises(TypeError, match="steps"):
        Cleared(nothing, nothing, nothing, nothing, nothing, nothing, object())


def test_a_key_store_that_fails_gives_the_lease_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, logged: Any) -> Any:  # noqa: ANN401, ARG001
        raise KeyAccessError(KeysCode.KEK_UNKNOWN, "the HSM is gone")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "unwrap_logged", broken)
        for _ in range(3):
            answer = world.ask()
            assert (answer.status_code, world.refused(answer).code) == (503, "KEK_UNKNOWN")
    # The log says more was released than really was, never less.
    assert [record.decision for record in world.records()] == ["release"] * 3
    both_places_are_free(world)


def test_a_key_store_that_breaks_its_contract_gives_the_lease_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, logged: Any) -> Any:  # noqa: ANN401, ARG001
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "unwrap_logged", broken)
        answer = world.ask()
        assert (answer.status_code, world.refused(answer).code) == (500, "INTERNAL_ERROR")
    both_places_are_free(world)


def test_what_failed_behind_the_broker_is_not_told_to_the_network(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, logged: Any) -> Any:  # noqa: ANN401, ARG001
        raise KeyAccessError(KeysCode.KEK_UNKNOWN, "/secret/place/keys.json has no key 'acme'")

    monkeypatch.setattr(world.store, "unwrap_logged", broken)
    capsys.readouterr()
    answer = world.ask()
    assert (answer.status_code, world.refused(answer).code) == (503, "KEK_UNKNOWN")
    assert "secret" not in answer.text
    assert "acme" not in answer.text
    assert "/secret/place/keys.json has no key 'acme'" in capsys.readouterr().err


def test_state_that_cannot_be_kept(world: World) -> None:
    request = world.request(world.challenge())
    impatient(world.state_engine)
    holder = lock(world.folder / "state.db")
    for path, message in (
        ("/v1/challenge", {"model_id": str(world.model_id)}),
        ("/v1/release", request),
    ):
        answer = world.post(path, message)
        assert (answer.status_code, world.refused(answer).code) == (503, "STATE_UNAVAILABLE")
    holder.close()
    assert world.store.unwrapped == []
    assert world.records() == []


# -- versions never go down -----------------------------------------------------------------------


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(IntegrityError) as caught:
        call()
    return caught.value.code.name


def test_an_older_policy_or_model_is_refused_after_a_restart(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    current, manifest = world.policy, world.manifest
    world.policy = world.make_policy(version=4)
    assert code_of(world.restart) == "POLICY_ROLLBACK"
    world.policy = world.make_policy(holders_max=100)
    assert code_of(world.restart) == "POLICY_VERSION_REUSED"
    world.policy, world.manifest = current, world.make_manifest(2)
    assert code_of(world.restart) == "MODEL_ROLLBACK"
    world.manifest = manifest
    world.restart()
    world.open(world.ask())


def test_another_broker_on_the_same_database_moved_on(world: World) -> None:
    old_app = world.app
    asked = world.challenge()
    world.policy = world.make_policy(version=6)
    world.restart()  # this is the other broker
    world.app = old_app
    answer = world.post("/v1/release", world.request(asked))
    assert denied(world, answer) == ["POLICY_ROLLBACK"]


def test_policy_replaced_between_challenge_and_release(world: World) -> None:
    asked = world.challenge()
    world.policy = world.make_policy(version=6)
    world.restart()
    assert denied(world, world.post("/v1/release", world.request(asked))) == ["POLICY_CHANGED"]


def test_nothing_secret_is_said_anywhere(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    answer = world.ask()
    world.ask(Deviation(knobs=Knobs(debug=True)))
    world.ask(Deviation(evidence=b"rubbish"))
    printed = capsys.readouterr()
    metrics = world.http("GET", "/metrics").text
    everything = printed.out + printed.err + metrics + answer.text + repr(world.broker)
    for secret in (MODEL_KEY, world.shared.passphrase):
        for spelling in (secret.hex(), b64(secret), repr(secret)):
            assert spelling not in everything
    events = [json.loads(line) for line in printed.err.splitlines()]
    names = [event["event"] for event in events]
    assert names.count("broker.release.granted") == 1
    assert names.count("broker.release.denied") == 2
    assert 'regalia_broker_decisions_total{decision="release"} 1.0' in metrics
    assert 'regalia_broker_denial_reasons_total{code="DEBUG_ENABLED"} 1.0' in metrics
    assert 'regalia_broker_stage_seconds_count{stage="rewrap"} 1.0' in metrics
