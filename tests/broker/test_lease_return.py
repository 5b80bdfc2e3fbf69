"""A holder gives its lease back: the place is free at once, and nobody else can do it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sqlalchemy as sa

from regalia.broker.config import LimitsSection
from regalia.broker.reconcile import begin, decisions_of
from regalia.broker.recover import Loss, recover
from regalia.broker.state import LEASES, METADATA, RETURNS, create_tables
from regalia.core.codec import b64, canonical_json, unb64
from regalia.crypto import hpke
from regalia.tlog.verify import verify_proof
from regalia.wire.release import LeaseReturned, LogNotice, release_info
from tests.broker.harness import HEALTHY_RUNTIME, Deviation

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from regalia.wire.release import ReleaseResponse
    from tests.broker.harness import Deployment

ONE_PLACE = {"holders_max": 1}


def token_of(deployment: Deployment, response: ReleaseResponse) -> bytes:
    """What the runtime derives, here from the page: section 7 of the release exchange."""
    info = release_info(
        model_id=str(deployment.model_id),
        lease_id=response.lease_id,
        record_index=verify_proof(response.log, log_key=deployment.shared.log_key).index,
    )
    enc = unb64(response.encapsulated_key, what="enc")
    channel = hpke.setup_recipient(deployment.key, enc, info)
    with channel.export(b"regalia/lease-return/v1", 32) as token:
        return bytes(token.view())


def returned(
    deployment: Deployment,
    response: ReleaseResponse,
    **changes: Any,  # noqa: ANN401
) -> httpx.Response:
    deployment.store.unwrapped.clear()  # what is refused from here on unwraps nothing
    message = {"lease_id": response.lease_id, "token": b64(token_of(deployment, response))}
    return deployment.post("/v1/lease/return", message | changes)


def notices(deployment: Deployment) -> list[LogNotice]:
    return [entry for entry in deployment.entries() if isinstance(entry, LogNotice)]


def leases_of(deployment: Deployment) -> int:
    return deployment.broker.leases.active(str(deployment.model_id), deployment.now, besides="")


@pytest.fixture
def one_place(make_deployment: Callable[..., Deployment]) -> Deployment:
    return make_deployment(policy=ONE_PLACE)


def test_a_place_is_free_at_once(one_place: Deployment) -> None:
    first = one_place.granted(one_place.ask())
    one_place.store.unwrapped.clear()
    other = Deviation(platform=one_place.guest(7))
    assert one_place.denied(one_place.ask(other)) == ["HOLDERS_EXHAUSTED"]
    answer = returned(one_place, first)
    assert answer.status_code == 200, answer.text
    assert msgspec.json.decode(answer.content, type=LeaseReturned).lease_id == first.lease_id
    one_place.open(one_place.ask(other))
    (notice,) = notices(one_place)
    assert (notice.kind, notice.what, notice.count) == ("lease-returned", first.lease_id, 1)


def test_a_lease_that_was_given_back_is_not_renewed(one_place: Deployment) -> None:
    first = one_place.granted(one_place.ask())
    returned(one_place, first)
    again = Deviation(request={"lease_id": first.lease_id})
    assert one_place.denied(one_place.ask(again), status=409) == ["LEASE_UNKNOWN"]


def test_twice_is_as_good_as_once(one_place: Deployment) -> None:
    first = one_place.granted(one_place.ask())
    assert [returned(one_place, first).status_code for _ in range(3)] == [200] * 3
    assert len(notices(one_place)) == 1, "nobody can fill the log with a lease"
    one_place.pass_time(10_000)
    assert returned(one_place, first).status_code == 200
    assert len(notices(one_place)) == 1


def test_a_renewal_does_not_change_the_token(one_place: Deployment) -> None:
    """Its answer may be lost, and then only the broker would know the new one."""
    first = one_place.granted(one_place.ask())
    again = one_place.granted(one_place.ask(Deviation(request={"lease_id": first.lease_id})))
    refused = returned(one_place, again)
    assert (refused.status_code, one_place.refused(refused).code) == (409, "LEASE_UNKNOWN")
    assert leases_of(one_place) == 1
    assert returned(one_place, first).status_code == 200
    assert leases_of(one_place) == 0


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"token": b64(bytes(32))}, 409, "LEASE_UNKNOWN"),
        ({"lease_id": f"lease:{'0' * 32}"}, 409, "LEASE_UNKNOWN"),
        ({"token": b64(bytes(31))}, 400, "MALFORMED"),
        ({"token": "?"}, 400, "MALFORMED"),
        ({"lease_id": "lease:x"}, 400, "MALFORMED"),
        ({"more": 1}, 400, "MALFORMED"),
    ],
)
def test_nobody_else_ends_a_lease(
    one_place: Deployment, changes: dict[str, Any], status: int, code: str
) -> None:
    first = one_place.granted(one_place.ask())
    refused = returned(one_place, first, **changes)
    assert (refused.status_code, one_place.refused(refused).code) == (status, code)
    assert leases_of(one_place) == 1
    assert notices(one_place) == []


def test_the_token_of_one_lease_ends_no_other(make_deployment: Callable[..., Deployment]) -> None:
    deployment = make_deployment(policy={"holders_max": 2})
    first = deployment.granted(deployment.ask())
    second = deployment.granted(deployment.ask(Deviation(platform=deployment.guest(7))))
    crossed = returned(deployment, first, lease_id=second.lease_id)
    assert deployment.refused(crossed).code == "LEASE_UNKNOWN"
    assert leases_of(deployment) == 2


def test_guessing_is_charged_to_the_peer(make_deployment: Callable[..., Deployment]) -> None:
    deployment = make_deployment(limits=LimitsSection(peer_refusals=2))
    message = {"lease_id": f"lease:{'0' * 32}", "token": b64(bytes(32))}
    answers = [deployment.post("/v1/lease/return", message) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [409, 409, 429, 429]


def test_a_log_that_cannot_be_written_keeps_the_lease(one_place: Deployment) -> None:
    first = one_place.granted(one_place.ask())
    with one_place.log_engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE tlog_entries"))
    assert returned(one_place, first).status_code == 503
    assert leases_of(one_place) == 1


def test_a_renewal_that_is_under_way_does_not_bring_the_lease_back(one_place: Deployment) -> None:
    first = one_place.granted(one_place.ask())
    leases, now = one_place.broker.leases, one_place.now
    with one_place.state_engine.connect() as connection:
        holder = connection.execute(sa.select(LEASES.c.holder)).scalar_one()
    renewal = leases.take(
        model_id=str(one_place.model_id),
        holder=holder,
        peer="peer",
        holders_max=1,
        lease_s=60,
        now=now,
        renew=first.lease_id,
    )
    returned(one_place, first)
    checkpoint = one_place.broker.log.checkpoint_of(first.log)
    with pytest.raises(Exception, match="LEASE_LAPSED"):
        leases.confirm(renewal, checkpoint, bytes(32), now)
    assert leases_of(one_place) == 0


def test_a_renewal_that_began_before_the_return_finds_no_lease(one_place: Deployment) -> None:
    """Its time is that of its request, when the lease still ran."""
    first = one_place.granted(one_place.ask())
    asked = Deviation(request={"lease_id": first.lease_id})
    earlier = one_place.now
    one_place.pass_time(5)
    returned(one_place, first)
    one_place.now = earlier
    assert one_place.denied(one_place.ask(asked), status=409) == ["LEASE_UNKNOWN"]
    one_place.pass_time(5)
    one_place.open(one_place.ask(Deviation(platform=one_place.guest(7))))


def test_returns_at_once_have_one_notice(one_place: Deployment) -> None:
    first = one_place.granted(one_place.ask())
    body = canonical_json({"lease_id": first.lease_id, "token": b64(token_of(one_place, first))})
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(one_place.broker.take_back, body, "peer") for _ in range(16)]
        assert {each.result().lease_id for each in done} == {first.lease_id}
    assert len(notices(one_place)) == 1


def test_a_release_behind_the_notice_counts(one_place: Deployment) -> None:
    """Of a renewal that was logged too late; a set of returned leases would forget it."""
    first = one_place.granted(one_place.ask())
    returned(one_place, first)
    (record,) = one_place.records()
    one_place.log.append(record)
    found = decisions_of(one_place.log.reader, 0, 3)
    assert [(each.index, each.returned) for each in found] == [(0, True), (2, False)]


def test_a_state_that_is_rebuilt_knows_what_was_given_back(one_place: Deployment) -> None:
    first = one_place.granted(one_place.ask())
    returned(one_place, first)
    second = one_place.granted(one_place.ask(Deviation(platform=one_place.guest(7))))
    METADATA.drop_all(one_place.state_engine)
    create_tables(one_place.state_engine)
    recover(one_place.state_engine, one_place.log, Loss.STATE, one_place.now)
    held = one_place.broker.leases.held(one_place.now)
    assert [lease.lease_id for lease in held] == [second.lease_id]
    assert first.lease_id != second.lease_id
    begin(one_place.state_engine, one_place.log, one_place.now)
    one_place.restart()


def test_state_and_log_agree_after_a_return(one_place: Deployment) -> None:
    returned(one_place, one_place.granted(one_place.ask()))
    begin(one_place.state_engine, one_place.log, one_place.now)
    one_place.restart()
    assert leases_of(one_place) == 0


def test_tokens_are_forgotten_with_their_leases(one_place: Deployment) -> None:
    one_place.granted(one_place.ask(HEALTHY_RUNTIME))
    one_place.pass_time(3 * 86_400)
    one_place.granted(one_place.ask())
    with one_place.state_engine.connect() as connection:
        rows = connection.execute(sa.select(sa.func.count()).select_from(RETURNS)).scalar_one()
    assert rows == 1
