"""Leases: they limit how many holders may have a model's key, and for how long.

A *holder* is one TEE instance that runs one image with one configuration. The cap counts holders
and not leases: a runtime that restarts in the same guest is the same holder, where evidence tells
guests apart, so it does not have to wait until the lease that it can no longer renew expires. A
lease is taken before the release is logged, and given back if the release does not happen.
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


def holder_of(claims: Claims, hpke_public_key: bytes) -> str:
    """Identifier of the TEE instance: SHA-256 over chip, guest, measurement and configuration.

    On SNP the guest is the REPORT_ID, which the firmware chooses at launch and keeps for the
    guest's lifetime, so a lease cannot be renewed from another guest, even on the same chip. The
    configuration is HOST_DATA there.

    Evidence of SGX, and of TDX before body type 4, tells two guests of one image on one machine
    apart by nothing but the key that it attests. There the key is a part of the holder: otherwise
    any number of guests would count as one.

    Args:
        claims: verified, and bound to the request.
        hpke_public_key: the key that the request's evidence attests.
    """
    # Length prefixes keep the concatenation unambiguous: no two sets of parts hash alike.
    parts = lp(claims.instance, claims.guest, claims.measurement, claims.config_binding)
    if not claims.guest:
        parts += lp(hpke_public_key)
    return hashlib.sha256(_HOLDER_DOMAIN + parts).hexdigest()


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was just granted or renewed."""

    lease_id: str
    until: datetime
    before: datetime | None  # its end before this renewal; None for a new lease


class LeaseStore:
    """Grants leases within a cap on holders. Several brokers may share one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def active(self, model_id: str, now: datetime, *, besides: str) -> int:
        """Count the holders with an unexpired lease of a model, except ``besides``.

        Args:
            model_id: the model, in text form.
            now: current time, timezone-aware.
            besides: the requesting holder, which must not count against itself.
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
        """Take a new lease or renew one, within the cap, atomically across all brokers.

        Args:
            model_id: the model, in text form.
            holder: the requesting holder; see ``holder_of``.
            policy_name: name of the policy, whose floor row serializes the releases under it.
            holders_max: maximum number of holders with an unexpired lease.
            lease_s: seconds until the lease expires.
            now: current time, timezone-aware.
            renew: identifier of the lease to renew, untrusted; None for a new lease.

        Raises:
            PolicyDenied: HOLDERS_EXHAUSTED or LEASE_UNKNOWN.
            UnavailableError: STATE_UNAVAILABLE.
        """
        until = now + timedelta(seconds=lease_s)
        with state(self._engine, writes=True) as connection:
            # Lock the policy's row, so that two brokers cannot both count a free place and take
            # it. SQLite ignores FOR UPDATE, but locks the whole database for a writer.
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
        """Give back a lease whose release did not happen; a renewal is reverted to its old end.

        A lease that was renewed again in the meantime is left alone, because the key was released
        under that renewal.
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
    # The same error in all three cases, so that a client cannot probe for leases of others.
    if row is None or row.model_id != model_id or row.holder != holder:
        raise PolicyDenied(BrokerCode.LEASE_UNKNOWN, "there is no such lease of this attester")
    connection.execute(
        LEASES.update().where(LEASES.c.lease_id == lease_id).values(expires_us=to_us(until))
    )
    return Lease(lease_id, until, from_us(row.expires_us))
