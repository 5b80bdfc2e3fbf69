"""State and log watch each other: database files that were lost, or put back as they were."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from regalia.broker import reconcile
from regalia.broker.leases import LeaseStore
from regalia.broker.recover import Loss, recover
from regalia.broker.state import FLOORS, LEASES, STATE, create_tables
from regalia.broker.watermarks import LogWatch
from regalia.core.errors import KeyAccessError, RegaliaError
from regalia.keys.codes import KeysCode
from regalia.tlog.log import Log
from tests.broker.harness import Deviation
from tests.broker.test_lease_return import leases_of, returned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.broker.harness import Deployment

RUBBISH = Deviation(evidence=b"rubbish")
STATE_FILES = ("state.db", "state.db-wal", "state.db-shm")
LOG_FILES = ("log.db", "log.db-wal", "log.db-shm")


def keep(deployment: Deployment, folder: str, files: tuple[str, ...]) -> Path:
    """Copy database files as they are, with what is not yet merged into them."""
    to = deployment.folder / folder
    to.mkdir()
    for name in files:
        if (deployment.folder / name).exists():
            shutil.copy2(deployment.folder / name, to / name)
    return to


def put_back(deployment: Deployment, copies: Path | None, files: tuple[str, ...]) -> None:
    """Stop the broker, and replace its files by copies, or delete them."""
    deployment.close()
    for name in files:
        (deployment.folder / name).unlink(missing_ok=True)
        if copies is not None and (copies / name).exists():
            shutil.copy2(copies / name, deployment.folder / name)
    deployment.open_databases()


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(RegaliaError) as caught:
        call()
    return caught.value.code.name


def recovered(deployment: Deployment, loss: Loss) -> str:
    create_tables(deployment.state_engine)
    return recover(deployment.state_engine, deployment.log, loss, deployment.now)


def test_state_that_is_lost(deployment: Deployment) -> None:
    deployment.open(deployment.ask())
    put_back(deployment, None, STATE_FILES)
    assert code_of(deployment.restart) == "STATE_LOST"
    assert code_of(deployment.restart) == "STATE_LOST"  # being refused is no beginning


def test_state_from_before_a_release(deployment: Deployment) -> None:
    older = keep(deployment, "older", STATE_FILES)
    deployment.open(deployment.ask())
    put_back(deployment, older, STATE_FILES)
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"


def test_state_from_before_a_renewal(deployment: Deployment) -> None:
    lease_id = deployment.granted(deployment.ask()).lease_id
    older = keep(deployment, "older", STATE_FILES)
    deployment.pass_time(300)
    deployment.open(deployment.ask(Deviation(request={"lease_id": lease_id})))
    put_back(deployment, older, STATE_FILES)
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"


def test_state_from_before_a_release_whose_lease_has_ended(deployment: Deployment) -> None:
    older = keep(deployment, "older", STATE_FILES)
    deployment.open(deployment.ask())
    deployment.pass_time(601)
    put_back(deployment, older, STATE_FILES)
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"


def test_state_from_before_many_denials(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = keep(deployment, "older", STATE_FILES)
    for _ in range(3):
        deployment.denied(deployment.ask(Deviation(evidence=b"rubbish")))
    put_back(deployment, older, STATE_FILES)
    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "GAP_MAX", 2)
        assert code_of(deployment.restart) == "STATE_BEHIND_LOG"
    deployment.restart()  # so few may have been under way when the broker was stopped


def test_state_from_before_a_release_that_was_returned(deployment: Deployment) -> None:
    older = keep(deployment, "older", STATE_FILES)
    first = deployment.granted(deployment.ask())
    assert returned(deployment, first).status_code == 200
    put_back(deployment, older, STATE_FILES)
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"
    recovered(deployment, Loss.STATE)
    deployment.restart()
    assert leases_of(deployment) == 0


def lease_of_ten_minutes_counts(deployment: Deployment) -> None:
    """After a start, until it ends and no longer."""
    deployment.restart()
    deployment.pass_time(599)
    deployment.store.unwrapped.clear()
    other = Deviation(platform=deployment.guest(9))
    assert deployment.denied(deployment.ask(other)) == ["HOLDERS_EXHAUSTED"]
    deployment.pass_time(3)
    deployment.open(deployment.ask(other))


@pytest.mark.parametrize("renews", [False, True], ids=["new", "renewed"])
def test_state_from_the_moment_of_a_claim_counts_the_lease(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch, *, renews: bool
) -> None:
    """It knows the lease, but not that it was confirmed and that the key went out."""
    deployment = make_deployment(policy={"holders_max": 1})
    lease_id = deployment.granted(deployment.ask()).lease_id if renews else None
    deployment.pass_time(300)
    append = Log.append

    def copied(*args: Any) -> Any:  # noqa: ANN401
        keep(deployment, "claimed", STATE_FILES)
        return append(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", copied)
        deployment.open(deployment.ask(Deviation(request={"lease_id": lease_id})))
    put_back(deployment, deployment.folder / "claimed", STATE_FILES)
    lease_of_ten_minutes_counts(deployment)


def test_a_lease_that_another_release_passed_over_counts(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state has seen its entry in the log, by the other one, and not its confirmation."""
    deployment = make_deployment(policy={"holders_max": 2})
    confirm = LeaseStore.confirm
    first = [True]

    def passed_over(*args: Any) -> Any:  # noqa: ANN401
        if first:
            first.clear()
            deployment.open(deployment.ask(Deviation(platform=deployment.guest(5))))
            keep(deployment, "passed", STATE_FILES)
        return confirm(*args)

    with monkeypatch.context() as patch:
        patch.setattr(LeaseStore, "confirm", passed_over)
        deployment.open(deployment.ask(Deviation(platform=deployment.guest(4))))
    put_back(deployment, deployment.folder / "passed", STATE_FILES)
    lease_of_ten_minutes_counts(deployment)


def test_a_release_that_failed_is_not_brought_back_by_a_start(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entry stands in the log, and its lease was undone."""

    def broken(*_: object, **__: object) -> None:
        raise KeyAccessError(KeysCode.KEY_UNWRAP_FAILED, "not now")

    with monkeypatch.context() as patch:
        patch.setattr(deployment.store, "rewrap_logged", broken)
        assert deployment.ask().status_code == 503
    assert leases_of(deployment) == 0
    deployment.restart()
    assert leases_of(deployment) == 0


def test_state_from_before_a_return_counts_the_lease(deployment: Deployment) -> None:
    first = deployment.granted(deployment.ask())
    older = keep(deployment, "older", STATE_FILES)
    returned(deployment, first)
    put_back(deployment, older, STATE_FILES)
    deployment.restart()
    assert leases_of(deployment) == 1, "one too many, and not too few"


def unknown(deployment: Deployment, request: dict[str, Any]) -> None:
    answer = deployment.post("/v1/release", request)
    assert (answer.status_code, deployment.refused(answer).code) == (409, "CHALLENGE_UNKNOWN")


def test_state_from_before_a_denial_knows_no_challenge_that_was_spent(
    deployment: Deployment,
) -> None:
    older = keep(deployment, "older", STATE_FILES)
    spent, other = deployment.challenge(), deployment.challenge()
    deployment.denied(deployment.post("/v1/release", deployment.request(spent, RUBBISH)))
    put_back(deployment, older, STATE_FILES)
    deployment.restart()
    for each in (spent, other):
        unknown(deployment, deployment.request(each))
    request = deployment.request(deployment.challenge())
    deployment.open(deployment.post("/v1/release", request))
    deployment.restart()  # and one that agrees with its log keeps its key
    answer = deployment.post("/v1/release", request)
    assert deployment.refused(answer).code == "CHALLENGE_REUSED"


@pytest.mark.parametrize("loss", [Loss.STATE, Loss.CLOCK])
def test_a_challenge_from_before_a_loss_is_unknown(deployment: Deployment, loss: Loss) -> None:
    """A clock that ran ahead forgot challenges that are in time again."""
    first = deployment.granted(deployment.ask())
    older = keep(deployment, "older", STATE_FILES)
    request = deployment.request(deployment.challenge())
    renewal = Deviation(request={"lease_id": first.lease_id})
    deployment.pass_time(1)
    deployment.open(deployment.post("/v1/release", request))
    deployment.open(deployment.ask(renewal))
    if loss is Loss.STATE:
        put_back(deployment, older, STATE_FILES)
    else:
        deployment.pass_time(86_400)
        deployment.ask(RUBBISH)
        deployment.pass_time(-86_400)
    recovered(deployment, loss)
    deployment.restart()
    unknown(deployment, request)


def test_a_broker_that_runs_takes_over_the_key_that_another_one_made(
    deployment: Deployment,
) -> None:
    """The other one starts while an entry of this one is under way."""
    mine, my_app = deployment.broker, deployment.app
    before = deployment.challenge()
    request = deployment.request(deployment.challenge(), RUBBISH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogWatch, "saw", lambda *_: deployment.restart())
        deployment.post("/v1/release", request)
    other_app = deployment.app
    assert deployment.broker is not mine
    theirs = deployment.challenge()
    deployment.app = my_app
    stale = deployment.challenge()
    deployment.open(deployment.post("/v1/release", deployment.request(theirs)))
    deployment.app = other_app
    for each in (before, stale):
        unknown(deployment, deployment.request(each))
    deployment.app = my_app
    unknown(deployment, deployment.request(stale))
    fresh = deployment.challenge()
    deployment.app = other_app
    deployment.open(deployment.post("/v1/release", deployment.request(fresh)))


def test_a_broker_that_runs_refuses_what_it_issued_before_another_one_made_a_key(
    deployment: Deployment,
) -> None:
    request = deployment.request(deployment.challenge())
    with deployment.state_engine.begin() as connection:
        reconcile.renew_key(connection)
    for _ in range(2):
        unknown(deployment, request)
    deployment.open(deployment.ask())


def test_state_from_before_a_policy(deployment: Deployment) -> None:
    older = keep(deployment, "older", STATE_FILES)
    deployment.policy = deployment.make_policy(version=6)
    deployment.restart()
    deployment.open(deployment.ask())
    with sqlite3.connect(older / "state.db") as connection:
        connection.execute("UPDATE broker_state SET log_size = 0")
    put_back(deployment, older, STATE_FILES)
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"


def test_a_lease_or_a_floor_that_was_taken_out(deployment: Deployment) -> None:
    deployment.open(deployment.ask())
    deployment.restart()
    with deployment.state_engine.begin() as connection:
        kept = connection.execute(sa.select(LEASES)).mappings().one()
        connection.execute(LEASES.delete())
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"
    with deployment.state_engine.begin() as connection:
        connection.execute(LEASES.insert().values(dict(kept)))
        connection.execute(FLOORS.update().values(policy_version=4))
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"
    with deployment.state_engine.begin() as connection:
        connection.execute(FLOORS.delete())
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"


def test_a_log_that_is_lost_or_older(deployment: Deployment) -> None:
    deployment.open(deployment.ask())
    older = keep(deployment, "older", LOG_FILES)
    deployment.open(deployment.ask())
    put_back(deployment, older, LOG_FILES)
    assert code_of(deployment.restart) == "LOG_BEHIND_STATE"
    put_back(deployment, None, LOG_FILES)
    assert code_of(deployment.restart) == "LOG_BEHIND_STATE"


def test_a_log_that_tells_another_history(deployment: Deployment) -> None:
    empty = keep(deployment, "empty", LOG_FILES)
    deployment.open(deployment.ask())
    keep(deployment, "mine", STATE_FILES)
    put_back(deployment, empty, LOG_FILES)
    put_back(deployment, None, STATE_FILES)
    deployment.restart()  # both are new, so this is a beginning
    deployment.open(deployment.ask())
    put_back(deployment, deployment.folder / "mine", STATE_FILES)
    assert code_of(deployment.restart) == "LOG_FORKED"
    assert recovered(deployment, Loss.LOG).startswith("the first 1 entries")
    # That log names leases which this state never gave; each loss is accepted by its name.
    assert code_of(deployment.restart) == "STATE_BEHIND_LOG"
    recovered(deployment, Loss.STATE)
    deployment.restart()


def test_a_start_with_an_earlier_clock(deployment: Deployment) -> None:
    deployment.open(deployment.ask())
    deployment.pass_time(-11)
    assert code_of(deployment.restart) == "CLOCK_WENT_BACK"
    with deployment.state_engine.begin() as connection:  # the log remembers the time as well
        connection.execute(STATE.update().values(highest_us=0))
    assert code_of(deployment.restart) == "CLOCK_WENT_BACK"
    deployment.pass_time(11)
    deployment.restart()


def test_accept_that_the_state_is_lost(make_deployment: Callable[..., Deployment]) -> None:
    deployment = make_deployment(policy={"holders_max": 1})
    lease_id = deployment.granted(deployment.ask()).lease_id
    put_back(deployment, None, STATE_FILES)
    assert code_of(lambda: recovered(deployment, Loss.LOG)) == "STATE_LOST"
    assert "state is empty" in recovered(deployment, Loss.STATE)
    (notice,) = deployment.notices()
    assert (notice.kind, notice.count) == ("state-loss-accepted", 1)
    deployment.policy = deployment.make_policy(version=4)
    assert code_of(deployment.restart) == "POLICY_ROLLBACK"
    deployment.policy = deployment.make_policy(version=5, holders_max=1)
    deployment.restart()
    # The place of the lost lease stays taken until it ends, also for whoever had it.
    deployment.store.unwrapped.clear()
    assert deployment.denied(deployment.ask()) == ["HOLDERS_EXHAUSTED"]
    renewal = Deviation(request={"lease_id": lease_id})
    assert deployment.denied(deployment.ask(renewal)) == ["HOLDERS_EXHAUSTED"]
    deployment.pass_time(601)
    deployment.open(deployment.ask())


def test_accept_an_older_state(deployment: Deployment) -> None:
    first = deployment.granted(deployment.ask()).lease_id
    older = keep(deployment, "older", STATE_FILES)
    deployment.pass_time(300)
    deployment.open(deployment.ask(Deviation(request={"lease_id": first})))
    deployment.open(deployment.ask(Deviation(platform=deployment.guest(1))))
    put_back(deployment, older, STATE_FILES)
    recovered(deployment, Loss.STATE)
    deployment.restart()
    (notice,) = deployment.notices()
    assert (notice.kind, notice.count) == ("state-loss-accepted", 2)
    with deployment.state_engine.begin() as connection:
        ends = connection.execute(sa.select(LEASES.c.expires_us)).scalars().all()
    # Both leases end when the log says, the renewed one included.
    assert len(ends) == len(set(ends)) + 1 == 2
    deployment.pass_time(599)
    deployment.store.unwrapped.clear()
    other = Deviation(platform=deployment.guest(2))
    assert deployment.denied(deployment.ask(other)) == ["HOLDERS_EXHAUSTED"]


def test_accept_that_the_log_is_lost(deployment: Deployment) -> None:
    older = keep(deployment, "older", LOG_FILES)
    deployment.open(deployment.ask())
    put_back(deployment, older, LOG_FILES)
    assert code_of(lambda: recovered(deployment, Loss.STATE)) == "LOG_BEHIND_STATE"
    recovered(deployment, Loss.LOG)
    (notice,) = deployment.notices()
    assert (notice.kind, notice.count) == ("log-loss-accepted", 1)
    assert "the state had seen root" in notice.what
    deployment.restart()
    deployment.open(deployment.ask())


def test_accept_a_clock_that_had_run_ahead(deployment: Deployment) -> None:
    deployment.pass_time(timedelta(days=365).total_seconds())
    deployment.denied(deployment.ask(Deviation(evidence=b"rubbish")))
    deployment.pass_time(-timedelta(days=365).total_seconds())
    assert code_of(deployment.restart) == "CLOCK_WENT_BACK"
    recovered(deployment, Loss.CLOCK)
    assert [notice.kind for notice in deployment.notices()] == ["clock-accepted"]
    deployment.restart()
    deployment.open(deployment.ask())


@pytest.mark.parametrize("loss", Loss)
def test_nothing_is_accepted_where_nothing_was_lost(deployment: Deployment, loss: Loss) -> None:
    deployment.open(deployment.ask())
    assert code_of(lambda: recovered(deployment, loss)) == "NOTHING_TO_RECOVER"
    assert deployment.notices() == []
