"""Rollback protection: the newest statement of each tenant that was followed, over restarts.

The log holds the statements, and a table in its database says which they are. Whoever can write to
that database could leave the last of them out of the table. So the broker's state remembers how far
each chain had come, as it remembers the size of the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.state import STATEMENT_FLOORS, state
from regalia.core.errors import LogError
from regalia.tlog.codes import TlogCode

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

    from regalia.control.state import ControlState


@dataclass(frozen=True, slots=True)
class Floor:
    """The newest statement of a tenant that was followed; 0 and the empty text for none."""

    sequence: int
    digest: str

    def require_on(self, followed: ControlState) -> None:
        """Check that a chain has this statement, whatever stands behind it.

        Args:
            followed: the chain, up to any statement.

        Raises:
            LogError: STATEMENT_CHAIN_BROKEN.
        """
        if followed.sequence == self.sequence and str(followed.head) != self.digest:
            raise LogError(
                TlogCode.STATEMENT_CHAIN_BROKEN,
                f"statement {self.sequence} of {followed.tenant} was {self.digest}, and the log "
                f"shows {followed.head}",
            )


@dataclass(frozen=True, slots=True)
class StatementFloors:
    """Remembers the newest statements in the broker's state."""

    engine: Engine

    def of(self, tenant: str) -> Floor | None:
        """How far a tenant's chain had come; None if it was never followed.

        Raises:
            UnavailableError: STATE_UNAVAILABLE.
        """
        query = sa.select(STATEMENT_FLOORS).where(STATEMENT_FLOORS.c.tenant == tenant)
        with state(self.engine, writes=False) as connection:
            row = connection.execute(query).first()
        return None if row is None else Floor(row.sequence, row.digest)

    def raise_to(self, followed: ControlState | None, tenant: str) -> None:
        """Remember how far a chain has come, or refuse it if it had come further.

        Args:
            followed: the chain that was verified; None if there is none.
            tenant: its name.

        Raises:
            LogError: STATEMENT_CHAIN_BROKEN.
            UnavailableError: STATE_UNAVAILABLE.
        """
        sequence = 0 if followed is None else followed.sequence
        digest = "" if followed is None else str(followed.head)
        mine = STATEMENT_FLOORS.c.tenant == tenant
        with state(self.engine, writes=True) as connection:
            query = sa.select(STATEMENT_FLOORS).where(mine).with_for_update()
            row = connection.execute(query).first()
            if row is None:
                values = {"tenant": tenant, "sequence": sequence, "digest": digest}
                connection.execute(STATEMENT_FLOORS.insert().values(values))
                return
            if sequence < row.sequence or (sequence == row.sequence and digest != row.digest):
                raise LogError(
                    TlogCode.STATEMENT_CHAIN_BROKEN,
                    f"{tenant} had {row.sequence} statements up to {row.digest}, and the log "
                    f"shows {sequence} up to {digest or 'none'}",
                )
            values = {"sequence": sequence, "digest": digest}
            connection.execute(STATEMENT_FLOORS.update().where(mine).values(values))


def forget_floors(connection: Connection) -> None:
    """Forget how far chains had come, where an operator accepts that the log was lost.

    Args:
        connection: in a writing transaction on the broker's state.
    """
    connection.execute(STATEMENT_FLOORS.delete())
