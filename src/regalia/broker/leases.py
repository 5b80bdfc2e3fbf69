"""Leases: who may hold a model's key, and until when.

A lease belongs to one *holder*: one TEE instance, running one image with one configuration.
Holders are counted, not leases: a runtime that was started again in the same guest is no second
holder, so it need not wait for a lease that it cannot renew any more. A lease is taken before
the release is logged and given back if the release does not happen.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.appraisal.policy_codes import PolicyCode
from regalia.broker.codes import BrokerCode
from regalia.broker.state import FLOORS, LEASES, from_us, state, to_us
from regalia.core.codec import lp
from regalia.core.errors import PolicyDenied

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

    from regalia.appraisal.claims import Claims

_HOLDER_DOMAIN = b"regalia/lease-holder/v1"
_ID_SIZE = 16  # bytes


def holder_of(claims: Claims) -> str:
    """Names the TEE instance: SHA-256 over chip, REPORT_ID, measurement and HOST_DATA.

    REPORT_ID is chosen by the firmware at launch and stays for the guest's life, so a lease
    cannot be renewed from another guest, on the same chip or elsewhere.
    """
    parts = lp(claims.instance, claims.guest, claims.measurement, claims.config_binding)
    return hashlib.sha256(_HOLDER_DOMAIN + parts).hexdigest()


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as granted just now."""

    lease_id: str
    until: datetime
    before: datetime | None  # when it ended before it was renewed; None for a new one


class LeaseStore:
    """Counts holders. Several brokers may share one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def active(self, model_id: str, now: datetime, *, besides: str) -> int:
        """Holders with an unexpired lease of a model, not counting the holder ``besides``.

        Args:
            model_id: in text form.
            now: aware.
            besides: a holder that is not counted, as it asks for itself.
        """
        with state(self._engine, writes=False) as connection:
            return _active(connection, model_id, now, besides)

    def take(  # noqa: PLR0913 - each of them is a fact of the grant
        self,
        *,
        model_id: str,
        holder: str,
        policy_name: str,
        holders_max: int,
        lease_s: int,
        now: datetime,
        renew: str | None,
    ) -> Lease:
        """Take a new lease, or renew one, within the cap. Atomic over all brokers.

        Args:
            model_id: in text form.
            holder: who gets it: the guest, as evidence names it.
            policy_name: of the policy, which serializes its releases.
            holders_max: of unexpired leases.
            lease_s: seconds until the lease expires.
            now: aware.
            renew: id of the lease to renew, untrusted; None for a new one.

        Raises:
            PolicyDenied: HOLDERS_EXHAUSTED or LEASE_UNKNOWN.
            UnavailableError: STATE_UNAVAILABLE.
        """
        until = now + timedelta(seconds=lease_s)
        with state(self._engine, writes=True) as connection:
            # One release of a policy at a time. SQLite locks the whole database anyway.
            connection.execute(
                sa.select(FLOORS.c.name).where(FLOORS.c.name == policy_name).with_for_update()
            )
            connection.execute(LEASES.delete().where(LEASES.c.expires_us <= to_us(now)))
            active = _active(connection, model_id, now, holder)
            if active >= holders_max:
                raise PolicyDenied(
                    PolicyCode.HOLDERS_EXHAUSTED,
                    f"{active} others hold a lease; at most {holders_max}",
                )
            if renew is not None:
                return _renew(connection, renew, model_id, holder, until)
            lease_id = f"lease:{secrets.token_hex(_ID_SIZE)}"
            connection.execute(
                LEASES.insert().values(
                    lease_id=lease_id, model_id=model_id, holder=holder, expires_us=to_us(until)
                )
            )
        return Lease(lease_id, until, None)

    def undo(self, lease: Lease) -> None:
        """Give back a lease whose release did not happen; a renewed one ends when it would have.

        A lease that was renewed once more in the meantime is left alone: that key went out.
        """
        mine = sa.and_(
            LEASES.c.lease_id == lease.lease_id, LEASES.c.expires_us == to_us(lease.until)
        )
        with state(self._engine, writes=True) as connection:
            if lease.before is None:
                connection.execute(LEASES.delete().where(mine))
            else:
                connection.execute(
                    LEASES.update().where(mine).values(expires_us=to_us(lease.before))
                )


def _active(connection: Connection, model_id: str, now: datetime, besides: str) -> int:
    query = (
        sa.select(sa.func.count(sa.distinct(LEASES.c.holder)))
        .select_from(LEASES)
        .where(
            LEASES.c.model_id == model_id,
            LEASES.c.expires_us > to_us(now),
            LEASES.c.holder != besides,
        )
    )
    return int(connection.execute(query).scalar_one())


def _renew(
    connection: Connection, lease_id: str, model_id: str, holder: str, until: datetime
) -> Lease:
    row = connection.execute(sa.select(LEASES).where(LEASES.c.lease_id == lease_id)).first()
    # One answer for all three, so that nobody learns of other holders' leases by asking.
    if row is None or row.model_id != model_id or row.holder != holder:
        raise PolicyDenied(BrokerCode.LEASE_UNKNOWN, "there is no such lease of this attester")
    connection.execute(
        LEASES.update().where(LEASES.c.lease_id == lease_id).values(expires_us=to_us(until))
    )
    return Lease(lease_id, until, from_us(row.expires_us))
