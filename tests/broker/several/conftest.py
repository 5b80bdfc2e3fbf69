"""Brokers that share a real PostgreSQL server."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.tlog.database import open_engine
from regalia.tlog.log import Log
from regalia_testing.postgres import find_programs, postgres_server
from tests.broker.harness import ORIGIN, Deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia_testing.postgres import PostgresServer
    from tests.broker.harness import Shared


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres_server(programs) as running:
        yield running


class OnPostgres(Deployment):
    """A broker whose state and log lie in one database of the server."""

    url: str

    def open_databases(self) -> None:
        self.log_engine = open_engine(self.url)
        self.state_engine = open_engine(self.url)
        self.log = Log(self.log_engine, origin=ORIGIN, key=self.shared.log_signer)


@pytest.fixture
def make_deployment(
    shared: Shared, tmp_path: Path, server: PostgresServer
) -> Iterator[Callable[..., Deployment]]:
    """As for SQLite, each on a database of its own unless ``url`` names one."""
    made: list[Deployment] = []

    def make(url: str | None = None, **options: Any) -> Deployment:  # noqa: ANN401
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        kind = type("Here", (OnPostgres,), {"url": url or server.new_database()})
        made.append(kind(folder, shared, **options))
        return made[-1]

    yield make
    for deployment in made:
        deployment.close()
