"""The log does not grow while the state cannot be written, so a broker starts again afterwards."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from regalia.broker import reconcile, watermarks
from regalia.broker.codes import BrokerCode
from regalia.broker.leases import LeaseStore
from regalia.broker.recover import Loss, recover
from regalia.broker.state import STATE
from regalia.core.errors import LogError, RegaliaError, UnavailableError
from regalia.tlog.codes import TlogCode
from regalia.tlog.log import Log
from tests.broker.harness import Deviation
from tests.broker.test_lease_return import leases_of, notices, returned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.wire.release import ReleaseResponse
    from tests.broker.harness import Deployment

RUBBISH = Deviation(evidence=b"rubbish")


@contextmanager
def full_disk(engine: sa.Engine) -> Iterator[None]:
    """What is there can be read, and nothing can be written."""

    def refuse(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            raise OperationalError(statement, {}, Exception("database or disk is full"))

    sa.event.listen(engine, "before_cursor_execute", refuse)
    yield
    sa.event.remove(engine, "before_cursor_execute", refuse)


@pytest.fixture
def one_place(make_deployment: Callable[..., Deployment]) -> Deployment:
    return make_deployment(policy={"holders_max": 1})


@pytest.fixture
def gap_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few entries may be unknown to the state at the start."""
    monkeypatch.setattr(reconcile, "GAP_MAX", 2)


class KilledError(BaseException):
    """The broker is gone at this point: nothing of its own runs any more."""


def killed(deployment: Deployment, response: ReleaseResponse) -> None:
    with pytest.raises(KilledError):
        returned(deployment, response)
    deployment.restart()


def dies(*_: object) -> None:
    raise KilledError


def unavailable(*_: object, **__: object) -> None:
    raise UnavailableError(BrokerCode.STATE_UNAVAILABLE, "the disk is full")


# -- returns --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("gap_of_two")
def test_returns_while_the_states_disk_is_full_leave_nothing_in_the_log(
    one_place: Deployment,
) -> None:
    first = one_place.granted(one_place.ask())
    with full_disk(one_place.state_engine):
        answers = [returned(one_place, first) for _ in range(5)]
        assert {(each.status_code, one_place.refused(each).code) for each in answers} == {
            (503, "STATE_UNAVAILABLE")
        }
        assert notices(one_place) == []
        assert leases_of(one_place) == 1
    one_place.restart()
    assert returned(one_place, first).status_code == 200
    assert (len(notices(one_place)), leases_of(one_place)) == (1, 0)
    with full_disk(one_place.state_engine):
        assert returned(one_place, first).status_code == 200, "as before: it has ended"


def test_a_return_that_cannot_be_ended_has_one_notice(
    one_place: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = one_place.granted(one_place.ask())
    with monkeypatch.context() as patch:
        patch.setattr(LeaseStore, "end", unavailable)
        assert returned(one_place, first).status_code == 503
    assert (len(notices(one_place)), leases_of(one_place)) == (1, 1), "one too many, not too few"
    renewal = Deviation(request={"lease_id": first.lease_id})
    assert one_place.denied(one_place.ask(renewal), status=409) == ["LEASE_UNKNOWN"]
    assert [returned(one_place, first).status_code for _ in range(2)] == [200, 200]
    assert (len(notices(one_place)), leases_of(one_place)) == (1, 0)
    one_place.restart()


@pytest.mark.parametrize(
    ("where", "name", "told"), [(Log, "note", 0), (LeaseStore, "end", 1)], ids=["log", "end"]
)
def test_killed_during_a_return(
    one_place: Deployment, monkeypatch: pytest.MonkeyPatch, where: type, name: str, told: int
) -> None:
    first = one_place.granted(one_place.ask())
    with monkeypatch.context() as patch:
        patch.setattr(where, name, dies)
        killed(one_place, first)
    assert (len(notices(one_place)), leases_of(one_place)) == (told, 1)
    assert returned(one_place, first).status_code == 200
    assert (len(notices(one_place)), leases_of(one_place)) == (told, 0)
    one_place.restart()


def test_a_return_that_cannot_be_logged_is_tried_again(
    one_place: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritable(*_: object) -> None:
        raise LogError(TlogCode.LOG_UNWRITABLE, "the disk is full")

    first = one_place.granted(one_place.ask())
    with monkeypatch.context() as patch:
        patch.setattr(Log, "note", unwritable)
        assert returned(one_place, first).status_code == 503
        assert leases_of(one_place) == 1
    one_place.granted(one_place.ask(Deviation(request={"lease_id": first.lease_id})))
    assert returned(one_place, first).status_code == 200
    assert (len(notices(one_place)), leases_of(one_place)) == (1, 0)


def test_a_return_that_neither_log_nor_state_can_keep(
    one_place: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state cannot know any more that the log was not told, so nobody tells it."""

    def unwritable(*_: object) -> None:
        raise LogError(TlogCode.LOG_UNWRITABLE, "the disk is full")

    first = one_place.granted(one_place.ask())
    with monkeypatch.context() as patch:
        patch.setattr(Log, "note", unwritable)
        patch.setattr(LeaseStore, "keep", unavailable)
        assert one_place.refused(returned(one_place, first)).code == "LOG_UNWRITABLE"
    assert leases_of(one_place) == 1
    assert returned(one_place, first).status_code == 200
    assert (len(notices(one_place)), leases_of(one_place)) == (0, 0)
    one_place.restart()


def test_a_return_at_another_broker_meanwhile(
    one_place: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first broker has marked the lease, and is about to write its notice."""
    first = one_place.granted(one_place.ask())
    note, mine = Log.note, one_place.broker.leases
    answers: list[int] = []

    def overtaken(self: Log, *args: Any) -> Any:  # noqa: ANN401
        monkeypatch.setattr(Log, "note", note)
        object.__setattr__(one_place.broker, "leases", LeaseStore(one_place.state_engine))
        answers.append(returned(one_place, first).status_code)
        return note(self, *args)

    monkeypatch.setattr(Log, "note", overtaken)
    answers.append(returned(one_place, first).status_code)
    object.__setattr__(one_place.broker, "leases", mine)
    assert answers == [200, 200]
    assert (len(notices(one_place)), leases_of(one_place)) == (1, 0)
    one_place.restart()


@pytest.mark.usefixtures("gap_of_two")
def test_returns_of_many_leases_that_cannot_be_ended(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = make_deployment(policy={"holders_max": 100})
    taken = [
        deployment.granted(deployment.ask(Deviation(platform=deployment.guest(n))))
        for n in range(5)
    ]
    with monkeypatch.context() as patch:
        patch.setattr(LeaseStore, "end", unavailable)
        assert {returned(deployment, each).status_code for each in taken} == {503}
    assert len(notices(deployment)) == 5
    deployment.restart()


# -- everything else that is logged ---------------------------------------------------------------


@pytest.mark.usefixtures("gap_of_two")
@pytest.mark.parametrize("deviation", [RUBBISH, Deviation()], ids=["denial", "release"])
def test_what_the_state_was_not_told_stops_the_next_entry(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, deviation: Deviation
) -> None:
    with monkeypatch.context() as patch:
        for module in ("watermarks", "leases"):
            patch.setattr(f"regalia.broker.{module}.note_log", unavailable)
        for _ in range(5):
            answer = deployment.ask(deviation)
            assert deployment.refused(answer).code == "STATE_UNAVAILABLE"
        assert len(deployment.records()) == 1
    deployment.ask(deviation)
    assert len(deployment.records()) == 2
    deployment.restart()


@pytest.mark.usefixtures("gap_of_two")
def test_releases_whose_claims_lapse_do_not_outrun_the_state(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Log.append

    def slow(*args: Any) -> Any:  # noqa: ANN401
        deployment.pass_time(31)
        return append(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", slow)
        for _ in range(5):
            assert deployment.refused(deployment.ask()).code == "LEASE_LAPSED"
    assert len(deployment.records()) == 5
    deployment.restart()


def test_counted_denials_are_told_once(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    from regalia.broker.config import LimitsSection  # noqa: PLC0415

    deployment = make_deployment(limits=LimitsSection(denials_logged=1))
    for _ in range(3):
        deployment.ask(RUBBISH)
    deployment.pass_time(60)
    with monkeypatch.context() as patch:
        patch.setattr(watermarks, "note_log", unavailable)
        for _ in range(5):
            assert deployment.ask(RUBBISH).status_code == 503
    assert [notice.count for notice in deployment.notices()] == [2]
    deployment.restart()


@pytest.mark.parametrize("loss", Loss)
def test_recovering_onto_a_full_disk_leaves_no_notice(deployment: Deployment, loss: Loss) -> None:
    deployment.open(deployment.ask())
    with deployment.state_engine.begin() as connection:
        if loss is Loss.STATE:
            connection.execute(STATE.delete())
        elif loss is Loss.LOG:
            connection.execute(STATE.update().values(log_size=1000))
        else:
            connection.execute(STATE.update().values(highest_us=STATE.c.highest_us + 10**9))

    def accept() -> None:
        recover(deployment.state_engine, deployment.log, loss, deployment.now)

    with full_disk(deployment.state_engine), pytest.raises(RegaliaError, match="STATE_UNAVAIL"):
        accept()
    assert deployment.notices() == []
    accept()
    assert len(deployment.notices()) == 1
    deployment.restart()


@pytest.mark.parametrize(
    "where", ["tlog.log.Log.note", "broker.recover._set_log"], ids=["log", "state"]
)
def test_recovering_that_is_cut_off_is_no_recovery(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """No broker starts on a rebuilt state without a notice that says so."""
    deployment.open(deployment.ask())
    with deployment.state_engine.begin() as connection:
        connection.execute(STATE.delete())
    with monkeypatch.context() as patch:
        patch.setattr(f"regalia.{where}", dies)
        with suppress(KilledError):
            recover(deployment.state_engine, deployment.log, Loss.STATE, deployment.now)
    with pytest.raises(RegaliaError, match="STATE_LOST"):
        deployment.restart()
    recover(deployment.state_engine, deployment.log, Loss.STATE, deployment.now)
    assert deployment.notices()
    deployment.restart()
