"""Many runtimes ask several brokers on one database for few places."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.broker.harness import Deviation

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.postgres import PostgresServer
    from tests.broker.harness import Deployment

BROKERS = 3
RUNTIMES = 60
MANY = 500
PLACES = 10


@pytest.mark.parametrize("runtimes", [RUNTIMES, pytest.param(MANY, marks=pytest.mark.slow)])
def test_exactly_as_many_holders_as_places(
    server: PostgresServer, make_deployment: Callable[..., Deployment], runtimes: int
) -> None:
    url = server.new_database()
    policy = {"holders_max": PLACES}
    brokers = [make_deployment(url, policy=policy) for _ in range(BROKERS)]

    def ask(number: int) -> str:
        broker = brokers[number % BROKERS]
        platform = broker.shared.platform
        guest = replace(platform, report_id=number.to_bytes(32))
        answer = broker.ask(Deviation(platform=guest))
        if answer.status_code == 200:
            broker.open(answer)
            return "granted"
        return broker.refused(answer).code

    with ThreadPoolExecutor(12) as pool:
        answers = Counter(pool.map(ask, range(runtimes)))
    assert answers == {"granted": PLACES, "HOLDERS_EXHAUSTED": runtimes - PLACES}
    records = brokers[0].records()
    assert [record.decision for record in records].count("release") == PLACES
