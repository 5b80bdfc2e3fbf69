"""When leases end: claimed, confirmed, renewed, undone, in whatever order."""

from __future__ import annotations

import hashlib
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from regalia.broker.leases import LeaseStore
from regalia.broker.state import LEASES
from regalia.core.errors import PolicyDenied, UnavailableError
from regalia.tlog.note import parse_log_key, verify_checkpoint
from tests.broker.harness import Deviation

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from regalia.broker.leases import Confirmed, Lease
    from regalia.core.secret import SecretBytes
    from regalia.tlog.note import Checkpoint
    from tests.broker.harness import Deployment

DIGEST = hashlib.sha256(b"token").digest()


def checkpoint(deployment: Deployment) -> Checkpoint:
    return verify_checkpoint(
        deployment.log.reader.checkpoint(), parse_log_key(deployment.shared.log_key)
    )


def test_a_lease_is_for_one_model(deployment: Deployment) -> None:
    grant: dict[str, Any] = {
        "holder": "h",
        "peer": "peer",
        "holders_max": 1,
        "lease_s": 60,
        "now": deployment.now,
    }
    leases = deployment.broker.leases
    mine = leases.take(model_id="a", renew=None, **grant)
    with pytest.raises(PolicyDenied, match="LEASE_UNKNOWN"):  # it is not confirmed
        leases.take(model_id="a", renew=mine.lease_id, **grant)
    leases.confirm(mine, checkpoint(deployment), DIGEST, deployment.now)
    with pytest.raises(PolicyDenied, match="LEASE_UNKNOWN"):
        leases.take(model_id="b", renew=mine.lease_id, **grant)
    again = leases.take(model_id="a", renew=mine.lease_id, **grant)
    assert (again.lease_id, again.before) == (mine.lease_id, mine.until)
    (held,) = leases.held(deployment.now)
    assert (held.lease_id, held.peer, held.until) == (mine.lease_id, "peer", mine.until)


class Leases:
    """Takes leases of one model, at times after a start."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment, self.store = deployment, deployment.broker.leases

    def at(self, after_s: float) -> datetime:
        return self.deployment.now + timedelta(seconds=after_s)

    def claim(self, after_s: float, renew: str | None) -> Lease:
        return self.store.take(
            model_id="a",
            holder="h",
            peer="peer",
            holders_max=1,
            lease_s=60,
            now=self.at(after_s),
            renew=renew,
        )

    def confirm(self, lease: Lease, after_s: float) -> Confirmed:
        return self.store.confirm(lease, checkpoint(self.deployment), DIGEST, self.at(after_s))

    def take(self, after_s: float, renew: str | None) -> tuple[Lease, Confirmed]:
        lease = self.claim(after_s, renew)
        return lease, self.confirm(lease, after_s)

    def held(self, after_s: float) -> int:
        return self.store.active("a", self.at(after_s), besides="another")


def test_giving_back_a_renewal_leaves_a_later_one_alone(deployment: Deployment) -> None:
    """Two renewals at once: the log fails for the first, and the second one's key is out."""
    leases = Leases(deployment)
    mine, confirmed = leases.take(0, None)
    failing = leases.take(10, mine.lease_id)
    leases.take(20, mine.lease_id)
    leases.store.undo(*failing)
    assert (leases.held(79), leases.held(81)) == (1, 0)
    leases.store.undo(mine, confirmed)
    assert leases.held(79) == 1
    # Alone, a renewal that is given back ends when the lease would have ended without it.
    leases.store.undo(*leases.take(30, mine.lease_id))
    assert (leases.held(79), leases.held(81)) == (1, 0)
    leases.store.undo(*leases.take(30, None))
    assert (leases.held(79), leases.held(81)) == (1, 0)
    leases.store.undo(leases.claim(30, None), None)
    assert leases.held(31) == 1


def interleavings() -> list[tuple[str, ...]]:
    """Two renewals A and B, each confirmed; then B fails, or both do."""
    steps = ("confirm A", "confirm B", "undo B", "undo A")
    return [
        order
        for n in (3, 4)
        for order in itertools.permutations(steps[:n])
        if order.index("confirm B") < order.index("undo B")
        and (n == 3 or order.index("confirm A") < order.index("undo A"))
    ]


@pytest.mark.parametrize("order", interleavings(), ids=", ".join)
@pytest.mark.parametrize(("a_s", "b_s"), [(10, 20), (20, 10), (10, 10)], ids="{}".format)
def test_undoing_a_renewal_takes_no_end_from_another(
    deployment: Deployment, order: tuple[str, ...], a_s: int, b_s: int
) -> None:
    """A lease may last too long where both fail, and never too short where a key is out."""
    leases = Leases(deployment)
    mine, _ = leases.take(0, None)
    claims = {"A": leases.claim(a_s, mine.lease_id), "B": leases.claim(b_s, mine.lease_id)}
    confirmed: dict[str, Confirmed] = {}
    lapsed = set()
    for step, name in (each.split() for each in order):
        if step == "confirm":
            try:
                confirmed[name] = leases.confirm(claims[name], 20)
            except UnavailableError:  # then no key comes out, which harms no other
                lapsed.add(name)
                leases.store.undo(claims[name], None)
        elif name not in lapsed:
            leases.store.undo(claims[name], confirmed[name])
    if "undo A" in order or "A" in lapsed:
        assert leases.held(59) == 1, "the lease as it was before both"
        assert leases.held(81) == 0
    else:
        assert leases.held(60 + a_s - 1) == 1, "A's key is out"


def test_undoing_a_new_lease_leaves_its_renewal_alone(deployment: Deployment) -> None:
    """Its holder may have read its name in the log, before its own key was there."""
    leases = Leases(deployment)
    new = leases.take(0, None)
    leases.take(0, new[0].lease_id)  # at once, so that it asks for the same end
    leases.store.undo(*new)
    leases.store.undo(new[0], None)
    assert leases.held(59) == 1


def test_one_of_two_renewals_at_once_fails_in_the_key_store(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have claimed before either is confirmed; the key was released under the first."""
    deployment = make_deployment(policy={"holders_max": 1})
    lease_id = deployment.granted(deployment.ask()).lease_id
    deployment.pass_time(300)
    renewal = Deviation(request={"lease_id": lease_id})
    inner = deployment.request(deployment.challenge(), renewal)
    unwrap, confirm = deployment.store.rewrap_logged, LeaseStore.confirm
    answers: list[int] = []

    def overtaken(self: LeaseStore, *args: Any) -> Confirmed:  # noqa: ANN401
        monkeypatch.setattr(LeaseStore, "confirm", confirm)
        answers.append(deployment.post("/v1/release", inner).status_code)
        monkeypatch.setattr(deployment.store, "rewrap_logged", broken)
        return confirm(self, *args)

    def broken(*_: object, **__: object) -> SecretBytes:
        raise ZeroDivisionError

    monkeypatch.setattr(LeaseStore, "confirm", overtaken)
    answers.append(deployment.ask(renewal).status_code)
    assert answers == [200, 500]
    monkeypatch.setattr(deployment.store, "rewrap_logged", unwrap)
    deployment.pass_time(310)  # the old end is over, and the one under which the key is out is not
    deployment.store.unwrapped.clear()
    other = Deviation(platform=deployment.guest(9))
    assert deployment.denied(deployment.ask(other)) == ["HOLDERS_EXHAUSTED"]


def test_a_lease_that_is_not_confirmed_does_not_last(deployment: Deployment) -> None:
    """The broker was killed between the lease and the log."""
    leases = Leases(deployment)
    mine = leases.claim(0, None)
    assert (leases.held(29), leases.held(31)) == (1, 0)
    with pytest.raises(UnavailableError, match="LEASE_LAPSED"):
        leases.store.confirm(mine, checkpoint(deployment), DIGEST, leases.at(31))
    renewed, _ = leases.take(31, None)
    leases.claim(60, renewed.lease_id)  # the old end stays, until the renewal is logged
    assert (leases.held(90.5), leases.held(91)) == (1, 0)


def test_renewals_of_one_lease_at_once_are_both_confirmed(deployment: Deployment) -> None:
    leases = Leases(deployment)
    mine, _ = leases.take(0, None)
    first, second = leases.claim(10, mine.lease_id), leases.claim(20, mine.lease_id)
    for renewal in (second, first):
        leases.confirm(renewal, 20)
    assert (leases.held(79), leases.held(81)) == (1, 0)
    for renewal in [leases.claim(30, mine.lease_id) for _ in range(2)]:  # at one moment
        leases.confirm(renewal, 30)
    assert (leases.held(89), leases.held(91)) == (1, 0)


def test_a_lease_is_locked_before_it_is_changed(deployment: Deployment) -> None:
    """On PostgreSQL; SQLite locks the whole database for a writer."""
    read: list[str] = []

    def note(_c: object, clause: Any, *_: object) -> None:  # noqa: ANN401 - any statement
        if isinstance(clause, sa.Select) and LEASES in clause.get_final_froms():
            read.append(str(clause.compile(dialect=postgresql.dialect())))

    leases = Leases(deployment)
    mine, _ = leases.take(0, None)
    sa.event.listen(deployment.state_engine, "before_execute", note)
    leases.store.undo(*leases.take(1, mine.lease_id))
    leases.store.begin_return(mine.lease_id, leases.at(1))
    counts = [text for text in read if "count(" not in text]
    # The renewal, its confirmation, what undid it, and the return.
    assert [text.endswith("FOR UPDATE") for text in counts] == [True] * 4


def test_ended_leases_are_kept_for_a_day(deployment: Deployment) -> None:
    leases = Leases(deployment)

    def rows() -> int:
        with deployment.state_engine.connect() as connection:
            query = sa.select(sa.func.count()).select_from(LEASES)
            return int(connection.execute(query).scalar_one())

    leases.take(0, None)
    leases.take(86_400, None)
    assert rows() == 2
    leases.take(86_461, None)
    assert rows() == 2  # the first one is gone
