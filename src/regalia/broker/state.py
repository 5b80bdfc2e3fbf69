"""The broker's tables, and transactions on them. The log has its own database or tables."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from regalia.broker.codes import BrokerCode
from regalia.core.errors import UnavailableError
from regalia.tlog.database import cause, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

METADATA = sa.MetaData()

CHALLENGES = sa.Table(
    "broker_challenges",
    METADATA,
    sa.Column("challenge", sa.LargeBinary, primary_key=True),
    sa.Column("model_id", sa.Text, nullable=False),
    sa.Column("policy_id", sa.Text, nullable=False),
    sa.Column("issued_us", sa.BigInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("uses", sa.Integer, nullable=False),
)
LEASES = sa.Table(
    "broker_leases",
    METADATA,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("model_id", sa.Text, nullable=False, index=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=False),
)
FLOORS = sa.Table(
    "broker_floors",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),  # of the policy, chosen and signed by the owner
    sa.Column("policy_version", sa.BigInteger, nullable=False),
    sa.Column("policy_id", sa.Text, nullable=False),
    sa.Column("model_version", sa.BigInteger, nullable=False),
)
COLLATERAL_FLOORS = sa.Table(
    "broker_collateral_floors",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),  # of the site, signed in the bundle
    sa.Column("serial", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("tcb_evaluation_data_number", sa.BigInteger, nullable=False),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(value: int) -> datetime:
    """Inverse of ``to_us``."""
    return _EPOCH + value * _MICROSECOND


def create_tables(engine: Engine) -> None:
    """Create what is missing. Raises UnavailableError STATE_UNAVAILABLE."""
    with state(engine, writes=True) as connection:
        METADATA.create_all(connection)


@contextmanager
def state(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """One transaction. Any failure is UnavailableError STATE_UNAVAILABLE, and nothing is kept.

    Args:
        engine: of the broker's database.
        writes: take the write lock at once.
    """
    try:
        with transaction(engine, writes=writes) as connection:
            yield connection
    except SQLAlchemyError as exc:
        raise UnavailableError(BrokerCode.STATE_UNAVAILABLE, cause(exc)) from exc
