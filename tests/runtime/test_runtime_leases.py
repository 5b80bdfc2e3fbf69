"""Leases of a whole runtime: renewed, lost, and what is left then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from regalia.core.errors import KeyAccessError
from regalia.runtime import grant, service
from regalia.runtime.codes import RuntimeCode
from tests.runtime.live_deployment import LEASE_S, client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.live_deployment import LiveDeployment


@pytest.mark.slow
def test_a_lease_is_renewed_without_unwrapping(
    make_live: Callable[..., LiveDeployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = make_live(policy={"lease_s": LEASE_S})
    running = live.start()
    monkeypatch.setattr(grant, "unwrap", None)
    time.sleep(LEASE_S * 1.7)
    assert running.get("/health").status_code == 200
    (lease,) = running.runtime.leases
    assert lease.renewals >= 2
    metrics = running.get("/metrics").text
    assert "regalia_lease_renewals" in metrics
    with client(live, running.url) as chat:
        assert chat.models.list().data[0].id == "tiny"


@pytest.mark.slow
def test_losing_the_lease_wipes_and_stops(
    make_live: Callable[..., LiveDeployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LINGER_S", 1.5)
    live = make_live(policy={"lease_s": LEASE_S})
    running = live.start()
    assert not running.runtime.workload.wiped
    live.between.down = True
    began = time.monotonic()
    statuses = []
    while running.runtime._lost is None and time.monotonic() - began < 3 * LEASE_S:
        time.sleep(0.02)
    assert running.runtime.workload.wiped, "before anything else"
    statuses.append(running.get("/health").status_code)
    with pytest.raises(openai.APIConnectionError), client(live, running.url) as chat:
        chat.models.list()
    running.join()
    assert statuses == [503]
    assert isinstance(running.error, KeyAccessError)
    assert running.error.code is RuntimeCode.LEASE_LOST
    assert running.error.exit_status == 7
    assert "BROKER_REFUSED" in running.error.what, "it says why the lease was not renewed"
    with pytest.raises(httpx.ConnectError):
        running.get("/health")


@pytest.mark.slow
def test_losing_the_lease_cuts_a_running_answer(make_live: Callable[..., LiveDeployment]) -> None:
    live = make_live(policy={"lease_s": LEASE_S})
    running = live.start()
    with client(live, running.url) as chat:
        live.between.down = True
        seen: list[Any] = []

        def keep_asking() -> None:
            while True:
                seen.extend(
                    chat.completions.create(
                        model="tiny", prompt="x", max_tokens=450, temperature=1.3, stream=True
                    )
                )

        with pytest.raises(openai.APIError):
            keep_asking()
    assert running.runtime.workload.wiped
    assert seen, "it did answer before"
    running.join()
    assert isinstance(running.error, KeyAccessError)
