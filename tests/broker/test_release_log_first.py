"""The log comes first, versions never go down, and nothing secret is said."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from regalia.broker.challenges import ConsumedChallenge, IssuedFor
from regalia.broker.leases import LeaseStore
from regalia.broker.service import AuthorizedRelease
from regalia.core.codec import b64, canonical_json
from regalia.core.errors import IntegrityError, KeyAccessError
from regalia.keys.codes import KeysCode
from regalia.tlog.verify import verify_proof
from regalia_testing.tees.snp.defects import SnpDefects
from tests.broker.harness import MODEL_KEY, Deviation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from tests.broker.harness import Deployment


# -- the log comes first --------------------------------------------------------------------------


def both_places_are_free(deployment: Deployment) -> None:
    for number in (1, 2):
        deployment.open(deployment.ask(Deviation(platform=deployment.guest(number))))


def lock(path: Path) -> sqlite3.Connection:
    """What a second process that holds the database does to everybody else."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    return holder


def impatient(engine: sa.Engine) -> None:
    sa.event.listen(
        engine, "checkout", lambda c, _r, _p: c.execute("PRAGMA busy_timeout = 10") and None
    )


def test_no_key_comes_out_when_the_log_cannot_be_written(deployment: Deployment) -> None:
    asked = deployment.challenge()
    request = deployment.request(asked)
    impatient(deployment.log_engine)
    holder = lock(deployment.folder / "log.db")
    answer = deployment.post("/v1/release", request)
    refusal = deployment.refused(answer)
    assert (answer.status_code, refusal.code, refusal.log) == (503, "LOG_UNWRITABLE", None)
    assert deployment.store.unwrapped == []
    holder.execute("ROLLBACK")
    holder.close()
    assert deployment.records() == []
    # The lease that it would have taken is free again: others can have both places.
    both_places_are_free(deployment)


def test_a_denial_that_cannot_be_logged_is_no_decision_either(deployment: Deployment) -> None:
    request = deployment.request(deployment.challenge(), Deviation(defects=SnpDefects(debug=True)))
    impatient(deployment.log_engine)
    holder = lock(deployment.folder / "log.db")
    answer = deployment.post("/v1/release", request)
    assert (answer.status_code, deployment.refused(answer).code) == (503, "LOG_UNWRITABLE")
    holder.close()


def test_the_record_stands_in_the_log_when_the_key_is_asked_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwrap = deployment.store.rewrap_logged
    order: list[str] = []

    def watched(*args: Any, logged: Any, recipient: Any) -> Any:  # noqa: ANN401
        proof = deployment.log.reader.prove(logged.index)
        assert verify_proof(proof, log_key=deployment.shared.log_key).record == logged.record
        order.append("unwrap")
        return unwrap(*args, logged=logged, recipient=recipient)

    monkeypatch.setattr(deployment.store, "rewrap_logged", watched)
    deployment.open(deployment.ask())
    assert order == ["unwrap"]


def test_steps_cannot_be_made_by_hand() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="consume"):
        ConsumedChallenge(b"c" * 32, IssuedFor("", "", nothing), object())
    with pytest.raises(TypeError, match="steps"):
        AuthorizedRelease(*[nothing] * 7, object())


def test_a_key_store_that_fails_gives_the_lease_back(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> SecretBytes:
        raise KeyAccessError(KeysCode.KEK_UNKNOWN, "the HSM is gone")

    with monkeypatch.context() as patch:
        patch.setattr(deployment.store, "rewrap_logged", broken)
        for _ in range(3):
            answer = deployment.ask()
            assert (answer.status_code, deployment.refused(answer).code) == (503, "KEK_UNKNOWN")
    # The log says more was released than really was, never less.
    assert [record.decision for record in deployment.records()] == ["release"] * 3
    both_places_are_free(deployment)


def test_a_key_store_that_breaks_its_contract_gives_the_lease_back(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> SecretBytes:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(deployment.store, "rewrap_logged", broken)
        answer = deployment.ask()
        assert (answer.status_code, deployment.refused(answer).code) == (500, "INTERNAL_ERROR")
    both_places_are_free(deployment)


def test_what_failed_behind_the_broker_is_not_told_to_the_network(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> SecretBytes:
        raise KeyAccessError(KeysCode.KEK_UNKNOWN, "/secret/place/keys.json has no key 'acme'")

    monkeypatch.setattr(deployment.store, "rewrap_logged", broken)
    capsys.readouterr()
    answer = deployment.ask()
    assert (answer.status_code, deployment.refused(answer).code) == (503, "KEK_UNKNOWN")
    assert "secret" not in answer.text
    assert "acme" not in answer.text
    assert "/secret/place/keys.json has no key 'acme'" in capsys.readouterr().err


def test_state_that_cannot_be_kept(deployment: Deployment) -> None:
    request = deployment.request(deployment.challenge())
    impatient(deployment.state_engine)
    holder = lock(deployment.folder / "state.db")
    answer = deployment.post("/v1/release", request)
    assert (answer.status_code, deployment.refused(answer).code) == (503, "STATE_UNAVAILABLE")
    holder.close()
    assert deployment.store.unwrapped == []
    assert deployment.records() == []


# -- versions never go down -----------------------------------------------------------------------


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(IntegrityError) as caught:
        call()
    return caught.value.code.name


def test_an_older_policy_or_model_is_refused_after_a_restart(
    make_deployment: Callable[..., Deployment],
) -> None:
    deployment = make_deployment()
    current, manifest = deployment.policy, deployment.manifest
    deployment.open(deployment.ask())
    deployment.store.unwrapped.clear()
    deployment.policy = deployment.make_policy(version=4)
    assert code_of(deployment.restart) == "POLICY_ROLLBACK"
    deployment.policy = deployment.make_policy(holders_max=100)
    assert code_of(deployment.restart) == "POLICY_VERSION_REUSED"
    deployment.policy, deployment.manifest = current, deployment.make_manifest(2)
    assert code_of(deployment.restart) == "MODEL_ROLLBACK"
    deployment.manifest = manifest
    deployment.restart()
    deployment.open(deployment.ask())


def test_a_model_version_counts_when_its_key_has_opened(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest whose wrapped key does not open must not lock out the one before it."""

    def broken(*_: object, **__: object) -> SecretBytes:
        raise KeyAccessError(KeysCode.KEY_UNWRAP_FAILED, "wrapped by mistake")

    deployment = make_deployment()
    before = deployment.manifest
    deployment.manifest = deployment.make_manifest(4)
    deployment.restart()
    with monkeypatch.context() as patch:
        patch.setattr(deployment.store, "rewrap_logged", broken)
        answer = deployment.ask(Deviation(request={"model_version": 4}))
        assert deployment.refused(answer).code == "KEY_UNWRAP_FAILED"
    deployment.manifest = before
    deployment.restart()
    deployment.manifest = deployment.make_manifest(4)
    deployment.restart()
    deployment.open(deployment.ask(Deviation(request={"model_version": 4})))
    deployment.manifest = before
    assert code_of(deployment.restart) == "MODEL_ROLLBACK"


def test_versions_are_the_models_and_not_the_policys_name(
    make_deployment: Callable[..., Deployment],
) -> None:
    deployment = make_deployment()
    deployment.policy = deployment.make_policy(name="another name", version=4)
    assert code_of(deployment.restart) == "POLICY_ROLLBACK"
    deployment.policy = deployment.make_policy(name="another name")
    assert code_of(deployment.restart) == "POLICY_VERSION_REUSED"


def test_the_broker_stops_between_log_and_lease(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record stands in the log and no key went out, which only this broker could have known."""

    def killed(*_: Any) -> None:  # noqa: ANN401
        raise KeyboardInterrupt

    asked = deployment.request(deployment.challenge(), Deviation(platform=deployment.guest(7)))
    with monkeypatch.context() as patch:
        patch.setattr(LeaseStore, "confirm", killed)
        patch.setattr(LeaseStore, "undo", killed)
        with pytest.raises(KeyboardInterrupt):
            deployment.broker.release(canonical_json(asked), "peer")
    assert deployment.store.unwrapped == []
    assert [record.decision for record in deployment.records()] == ["release"]
    deployment.restart()
    deployment.open(deployment.ask(Deviation(platform=deployment.guest(1))))
    deployment.store.unwrapped.clear()
    other = Deviation(platform=deployment.guest(2))
    assert deployment.denied(deployment.ask(other)) == ["HOLDERS_EXHAUSTED"]
    deployment.pass_time(599)
    assert deployment.denied(deployment.ask(other)) == ["HOLDERS_EXHAUSTED"]
    deployment.pass_time(2)
    deployment.open(deployment.ask(other))


def test_another_broker_on_the_same_database_moved_on(deployment: Deployment) -> None:
    old_app = deployment.app
    asked = deployment.challenge()
    deployment.policy = deployment.make_policy(version=6)
    deployment.restart()  # this is the other broker
    deployment.app = old_app
    answer = deployment.post("/v1/release", deployment.request(asked))
    assert deployment.denied(answer) == ["POLICY_ROLLBACK"]


def test_policy_replaced_between_challenge_and_release(deployment: Deployment) -> None:
    asked = deployment.challenge()
    deployment.policy = deployment.make_policy(version=6)
    deployment.restart()
    assert deployment.denied(deployment.post("/v1/release", deployment.request(asked))) == [
        "POLICY_CHANGED"
    ]


def test_nothing_secret_is_said_anywhere(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = deployment.ask()
    deployment.ask(Deviation(defects=SnpDefects(debug=True)))
    deployment.ask(Deviation(evidence=b"rubbish"))
    printed = capsys.readouterr()
    metrics = deployment.http("GET", "/metrics").text
    everything = printed.out + printed.err + metrics + answer.text + repr(deployment.broker)
    for secret in (MODEL_KEY, deployment.shared.passphrase):
        for spelling in (secret.hex(), b64(secret), repr(secret)):
            assert spelling not in everything
    events = [json.loads(line) for line in printed.err.splitlines()]
    names = [event["event"] for event in events]
    assert names.count("broker.release.granted") == 1
    assert names.count("broker.release.denied") == 2
    assert 'regalia_broker_decisions_total{decision="release"} 1.0' in metrics
    assert 'regalia_broker_denial_reasons_total{code="DEBUG_ENABLED"} 1.0' in metrics
    assert 'regalia_broker_stage_seconds_count{stage="rewrap"} 1.0' in metrics
