"""The broker's database tables, and transactions on them. The log has tables of its own."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from regalia.broker.codes import BrokerCode
from regalia.core.errors import UnavailableError
from regalia.tlog.database import cause, create_missing, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

METADATA = sa.MetaData()

STATE = sa.Table(  # exactly one row; see ``watermarks``
    "broker_state",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("challenge_key", sa.LargeBinary, nullable=False),
    sa.Column("log_size", sa.BigInteger, nullable=False),
    sa.Column("log_root", sa.LargeBinary, nullable=False),
    sa.Column("highest_us", sa.BigInteger, nullable=False),
    sa.CheckConstraint("id = 1"),
)
SPENT = sa.Table(  # challenges that were answered, until they expire
    "broker_spent_challenges",
    METADATA,
    sa.Column("challenge", sa.LargeBinary, primary_key=True),
    sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("uses", sa.BigInteger, nullable=False),
)
LEASES = sa.Table(
    "broker_model_leases",
    METADATA,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("model_id", sa.Text, nullable=False, index=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("peer", sa.Text, nullable=False),  # address that it was granted to
    sa.Column("asked_us", sa.BigInteger, nullable=False),  # latest end that was asked for
    sa.Column("expires_us", sa.BigInteger, nullable=False),  # end that stands in the log
    sa.Column("claim_us", sa.BigInteger, nullable=False),  # end of a place that waits for the log
)
RETURNS = sa.Table(  # of leases that their holders may give back
    "broker_lease_returns",
    METADATA,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("token_digest", sa.LargeBinary, nullable=False),
)
RETURNING = sa.Table(  # leases whose return has begun; the log is told of each at most once
    "broker_lease_returns_begun",
    METADATA,
    sa.Column("lease_id", sa.Text, primary_key=True),
)
FLOORS = sa.Table(
    "broker_model_floors",
    METADATA,
    sa.Column("model_id", sa.Text, primary_key=True),
    sa.Column("policy_version", sa.BigInteger, nullable=False),
    sa.Column("policy_id", sa.Text, nullable=False),
    sa.Column("model_version", sa.BigInteger, nullable=False),
)
COLLATERAL_FLOORS = sa.Table(
    "broker_collateral_floors",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),  # site name, signed in the bundle
    sa.Column("serial", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("tcb_evaluation_data_number", sa.BigInteger, nullable=False),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Convert a timezone-aware time to microseconds since 1970, without rounding by floats."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(value: int) -> datetime:
    """Inverse of ``to_us``."""
    return _EPOCH + value * _MICROSECOND


def create_tables(engine: Engine) -> None:
    """Create the missing tables. Raises UnavailableError STATE_UNAVAILABLE."""
    with state(engine, writes=True) as connection:
        create_missing(connection, METADATA)


@contextmanager
def state(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Run one transaction, which is rolled back on any exception.

    Args:
        engine: the broker's database.
        writes: whether to take the write lock at the start. A lock that is upgraded later could
            deadlock with another transaction.

    Raises:
        UnavailableError: STATE_UNAVAILABLE.
    """
    try:
        with transaction(engine, writes=writes) as connection:
            yield connection
    except SQLAlchemyError as exc:
        raise UnavailableError(BrokerCode.STATE_UNAVAILABLE, cause(exc)) from exc
