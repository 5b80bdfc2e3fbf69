"""Rollback protection: remembers the highest policy and model versions over restarts.

Versions are kept by the model's id, which the weights themselves determine: an owner who renames a
policy begins no new history. The floor of the policy rises when the broker adopts a document that
its owner signed. The floor of the model rises when its wrapped key has really opened under that
version, so that a mistake in a manifest cannot lock out the version before it. An owner who
withdraws a version says so in the policy: ``version_minimum``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.codes import BrokerCode
from regalia.broker.state import FLOORS, state
from regalia.core.errors import IntegrityError
from regalia.tlog.database import one_creates

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that belong to one model."""

    model_id: str
    policy_version: int
    policy_id: str
    model_version: int


class FloorStore:
    """Remembers the highest versions in the broker's state."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._opened: set[Versions] = set()
        self._lock = threading.Lock()

    def adopt(self, versions: Versions) -> None:
        """Adopt a policy at the start of the broker, and check the model's version.

        Raises:
            IntegrityError: POLICY_ROLLBACK, POLICY_VERSION_REUSED or MODEL_ROLLBACK.
            UnavailableError: STATE_UNAVAILABLE.
        """
        with state(self._engine, writes=True) as connection:
            one_creates(connection)
            floor = read_floor(connection, versions.model_id, lock=True)
            if floor is not None:
                _compare(versions, floor)
            write_floor(
                connection,
                Versions(
                    versions.model_id,
                    versions.policy_version,
                    versions.policy_id,
                    0 if floor is None else floor.model_version,
                ),
            )

    def opened(self, versions: Versions) -> None:
        """Raise the model's floor: its wrapped key has opened under this version.

        Raises:
            IntegrityError: as ``adopt``; another broker on this state has moved on.
            UnavailableError: STATE_UNAVAILABLE.
        """
        with self._lock:
            if versions in self._opened:
                return
        with state(self._engine, writes=True) as connection:
            floor = read_floor(connection, versions.model_id, lock=True)
            _compare(versions, _present(floor, versions))
            write_floor(connection, versions)
        with self._lock:
            self._opened.add(versions)

    def require_current(self, versions: Versions) -> None:
        """Check that no other broker on this state has adopted higher versions since.

        Raises:
            IntegrityError: as ``adopt``, or POLICY_ROLLBACK if the floor was deleted.
            UnavailableError: STATE_UNAVAILABLE.
        """
        with state(self._engine, writes=False) as connection:
            floor = read_floor(connection, versions.model_id, lock=False)
        _compare(versions, _present(floor, versions))


def read_floor(connection: Connection, model_id: str, *, lock: bool) -> Versions | None:
    """Read the floor of a model; None if it has none.

    Args:
        connection: in a transaction on the broker's state.
        model_id: the model, in text form.
        lock: whether other brokers must wait with it until the transaction ends.
    """
    query = sa.select(FLOORS).where(FLOORS.c.model_id == model_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        return None
    return Versions(row.model_id, row.policy_version, row.policy_id, row.model_version)


def write_floor(connection: Connection, versions: Versions) -> None:
    """Write the floor of a model, new or not.

    Args:
        connection: in a writing transaction on the broker's state.
        versions: the new floor; the caller has compared it with the old one.
    """
    values = {
        "policy_version": versions.policy_version,
        "policy_id": versions.policy_id,
        "model_version": versions.model_version,
    }
    mine = FLOORS.c.model_id == versions.model_id
    if connection.execute(FLOORS.update().where(mine).values(values)).rowcount == 0:
        connection.execute(FLOORS.insert().values(values | {"model_id": versions.model_id}))


def _present(floor: Versions | None, versions: Versions) -> Versions:
    if floor is None:
        raise IntegrityError(
            BrokerCode.POLICY_ROLLBACK, f"the floor of {versions.model_id} is gone"
        )
    return floor


def _compare(versions: Versions, floor: Versions) -> None:
    if versions.policy_version < floor.policy_version:
        raise IntegrityError(
            BrokerCode.POLICY_ROLLBACK,
            f"the policy of {versions.model_id} is at version {floor.policy_version}, "
            f"not {versions.policy_version}",
        )
    # Two policies with one version number could be exchanged for each other unnoticed.
    same = versions.policy_version == floor.policy_version
    if same and versions.policy_id != floor.policy_id:
        raise IntegrityError(
            BrokerCode.POLICY_VERSION_REUSED,
            f"version {floor.policy_version} of the policy of {versions.model_id} is "
            f"{floor.policy_id}, not {versions.policy_id}",
        )
    if versions.model_version < floor.model_version:
        raise IntegrityError(
            BrokerCode.MODEL_ROLLBACK,
            f"{versions.model_id} is at version {floor.model_version}, "
            f"not {versions.model_version}",
        )
