"""What must never go back: the log that was seen last, and the highest time that was seen.

Both stand in one row of the broker's state, so that state and log watch each other: see
``reconcile`` for what is compared at the start.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.codes import BrokerCode
from regalia.broker.state import STATE, from_us, state, to_us
from regalia.core.errors import IntegrityError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

    from regalia.tlog.note import Checkpoint

# Clocks of several brokers differ a little, and time synchronization steps back a little.
CLOCK_TOLERANCE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Watermarks:
    """The single row of ``broker_state``.

    Attributes:
        challenge_key: 32 bytes, secret: authenticates the challenges of this state's brokers.
        log_size: number of entries of the log that was seen last.
        log_root: root of these entries.
        highest: the highest time that was seen.
    """

    challenge_key: bytes
    log_size: int
    log_root: bytes
    highest: datetime

    def __repr__(self) -> str:
        return f"<watermarks: log of {self.log_size} entries, {self.highest}>"


def read_watermarks(connection: Connection, *, lock: bool) -> Watermarks | None:
    """Read the row; None if there is none.

    Args:
        connection: in a transaction on the broker's state.
        lock: whether other brokers must wait with it until the transaction ends.
    """
    query = sa.select(STATE)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        return None
    return Watermarks(row.challenge_key, row.log_size, row.log_root, from_us(row.highest_us))


def require_time(connection: Connection, now: datetime) -> Watermarks:
    """Check that the clock did not go back, and keep its highest value. Returns what stood there.

    Also serializes the requests of all brokers on this state until the transaction ends.

    Args:
        connection: in a writing transaction on the broker's state.
        now: current time, timezone-aware.

    Raises:
        IntegrityError: STATE_LOST, somebody emptied the state of a broker that runs.
        UnavailableError: CLOCK_WENT_BACK.
    """
    seen = read_watermarks(connection, lock=True)
    if seen is None:
        raise IntegrityError(BrokerCode.STATE_LOST, "the broker's state is empty")
    require_not_before(seen.highest, now)
    if now > seen.highest:
        connection.execute(STATE.update().values(highest_us=to_us(now)))
    return seen


def require_not_before(highest: datetime, now: datetime) -> None:
    """Compare the clock with a time that was seen.

    Args:
        highest: the highest time that was seen.
        now: current time, timezone-aware.

    Raises:
        UnavailableError: CLOCK_WENT_BACK.
    """
    if now < highest - CLOCK_TOLERANCE:
        back = (highest - now).total_seconds()
        raise UnavailableError(
            BrokerCode.CLOCK_WENT_BACK, f"the clock is {back:.0f} s behind a time that was seen"
        )


def note_log(connection: Connection, checkpoint: Checkpoint) -> None:
    """Keep the size and root of the log, unless a larger log was seen.

    Args:
        connection: in a writing transaction on the broker's state.
        checkpoint: verified.
    """
    connection.execute(
        STATE.update()
        .where(STATE.c.log_size < checkpoint.size)
        .values(log_size=checkpoint.size, log_root=checkpoint.root)
    )


class LogWatch:
    """Keeps what was seen of the log last, in the broker's state.

    A state that lags too far behind its log is refused at the next start. So what the state could
    not be told is owed to it, and nothing more is logged until that is made good.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._owed: Checkpoint | None = None
        self._lock = threading.Lock()

    def saw(self, checkpoint: Checkpoint) -> None:
        """Keep a verified checkpoint. Raises UnavailableError STATE_UNAVAILABLE."""
        with self.owing(checkpoint), state(self._engine, writes=True) as connection:
            note_log(connection, checkpoint)

    @contextmanager
    def owing(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Remember a verified checkpoint for ``catch_up``, if the block fails to keep it."""
        try:
            yield
        except BaseException:
            with self._lock:
                if self._owed is None or self._owed.size < checkpoint.size:
                    self._owed = checkpoint
            raise

    def catch_up(self) -> None:
        """Keep what could not be kept before. To be called before anything that may log more.

        Raises:
            UnavailableError: STATE_UNAVAILABLE.
        """
        with self._lock:
            owed = self._owed
        if owed is None:
            return
        with state(self._engine, writes=True) as connection:
            note_log(connection, owed)
        with self._lock:
            if self._owed is owed:
                self._owed = None
