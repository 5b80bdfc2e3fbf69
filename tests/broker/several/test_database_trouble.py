"""What happens to brokers when their database is new, gone, back or slow."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from regalia.tlog.database import SESSION, open_engine
from tests.broker.harness import Deviation

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.postgres import PostgresServer
    from tests.broker.harness import Deployment


def test_brokers_that_start_together(
    server: PostgresServer, make_deployment: Callable[..., Deployment]
) -> None:
    """Each of them would make the tables and the log's first checkpoint."""
    url = server.new_database()
    together = threading.Barrier(4)

    def start(_: int) -> Deployment:
        together.wait()
        return make_deployment(url)

    with ThreadPoolExecutor(4) as pool:
        brokers = list(pool.map(start, range(4)))
    for number, broker in enumerate(brokers[:2]):
        broker.open(broker.ask(Deviation(platform=broker.guest(number))))
    assert len(brokers[3].records()) == 2


def test_a_server_that_crashes_and_comes_back(
    server: PostgresServer, make_deployment: Callable[..., Deployment]
) -> None:
    broker = make_deployment()
    broker.open(broker.ask(Deviation(platform=broker.guest(1))))
    asked = broker.challenge()
    server.stop("immediate")
    try:
        answer = broker.post("/v1/release", broker.request(asked))
        assert (answer.status_code, broker.refused(answer).code) == (503, "STATE_UNAVAILABLE")
        assert broker.store.unwrapped[1:] == []
    finally:
        server.start()
    # No restart of the broker, and no failure because of connections that were open before.
    broker.open(broker.ask(Deviation(platform=broker.guest(2))))
    assert [record.decision for record in broker.records()] == ["release", "release"]


def test_a_row_that_somebody_else_holds(
    server: PostgresServer, make_deployment: Callable[..., Deployment]
) -> None:
    """A session that was forgotten in a transaction must not hold up releases for ever."""
    url = server.new_database()
    broker = make_deployment(url)
    with psycopg.connect(url.replace("+psycopg", "")) as other:
        other.execute("SELECT * FROM broker_state FOR UPDATE")
        answer = broker.ask()
        assert (answer.status_code, broker.refused(answer).code) == (503, "STATE_UNAVAILABLE")
    broker.open(broker.ask())


def test_the_page_names_every_setting() -> None:
    """The how-to is for administrators, who set what a session would not."""
    page = Path(__file__).parents[3] / "docs" / "howto" / "several-brokers.md"
    text = page.read_text(encoding="utf-8")
    for name in (*SESSION, "connect_timeout", "tcp_user_timeout"):
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    ("setting", "want"), [("synchronous_commit", "on"), ("lock_timeout", "5s")]
)
def test_settings_of_a_session(server: PostgresServer, setting: str, want: str) -> None:
    """They do not depend on what the server's administrator chose for others."""
    url = server.new_database()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
        other.execute("ALTER ROLE postgres SET synchronous_commit = off")
    engine = open_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"SHOW {setting}").scalar() == want
    engine.dispose()
