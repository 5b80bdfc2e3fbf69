"""Rollback protection: remembers the highest policy and model versions over restarts.

Versions are kept by the policy's name, which the owner chooses and signs. A broker serves at most
one policy of each name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.codes import BrokerCode
from regalia.broker.state import FLOORS, state
from regalia.core.errors import IntegrityError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that belong to one policy name."""

    name: str
    policy_version: int
    policy_id: str
    model_version: int


class FloorStore:
    """Remembers the highest versions in the broker's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def raise_to(self, versions: Versions) -> None:
        """Adopt these versions at the start of the broker.

        Raises:
            IntegrityError: POLICY_ROLLBACK, POLICY_VERSION_REUSED or MODEL_ROLLBACK.
            UnavailableError: STATE_UNAVAILABLE.
        """
        with state(self._engine, writes=True) as connection:
            floor = _floor(connection, versions.name, lock=True)
            values = {
                "name": versions.name,
                "policy_version": versions.policy_version,
                "policy_id": versions.policy_id,
                "model_version": versions.model_version,
            }
            if floor is None:
                connection.execute(FLOORS.insert().values(values))
                return
            _compare(versions, floor)
            connection.execute(FLOORS.update().where(FLOORS.c.name == versions.name).values(values))

    def require_current(self, versions: Versions) -> None:
        """Check that no other broker on this database has adopted higher versions since.

        Raises:
            IntegrityError: as ``raise_to``, or POLICY_ROLLBACK if the floor was deleted.
            UnavailableError: STATE_UNAVAILABLE.
        """
        with state(self._engine, writes=False) as connection:
            floor = _floor(connection, versions.name, lock=False)
        if floor is None:
            raise IntegrityError(
                BrokerCode.POLICY_ROLLBACK, f"the floor of policy {versions.name!r} is gone"
            )
        _compare(versions, floor)


def _floor(connection: Connection, name: str, *, lock: bool) -> Versions | None:
    query = sa.select(FLOORS).where(FLOORS.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        return None
    return Versions(row.name, row.policy_version, row.policy_id, row.model_version)


def _compare(versions: Versions, floor: Versions) -> None:
    if versions.policy_version < floor.policy_version:
        raise IntegrityError(
            BrokerCode.POLICY_ROLLBACK,
            f"policy {versions.name!r} is at version {floor.policy_version}, "
            f"not {versions.policy_version}",
        )
    # Two policies with one version number could be exchanged for each other unnoticed.
    same = versions.policy_version == floor.policy_version
    if same and versions.policy_id != floor.policy_id:
        raise IntegrityError(
            BrokerCode.POLICY_VERSION_REUSED,
            f"version {floor.policy_version} of policy {versions.name!r} is {floor.policy_id}, "
            f"not {versions.policy_id}",
        )
    if versions.model_version < floor.model_version:
        raise IntegrityError(
            BrokerCode.MODEL_ROLLBACK,
            f"the model under policy {versions.name!r} is at version {floor.model_version}, "
            f"not {versions.model_version}",
        )
