"""Leases: they limit how many holders may have a model's key, and for how long.

A *holder* is one TEE instance that runs one image with one configuration. The cap counts holders
and not leases: a runtime that restarts in the same guest is the same holder, where evidence tells
guests apart, so it does not have to wait until the lease that it can no longer renew expires.

    take         a place, claimed for half a minute
    confirm      the release stands in the log, so the place is taken until the lease ends
    undo         the release did not happen
    begin_return the holder gives it back, and the log is to be told; it counts, and is not renewed
    keep         the log could not be told, so it runs on
    end          the log was told

A broker that is killed between lease and log leaves a claim, which ends by itself. One that is
killed between log and ``confirm`` leaves a lease that lasts, from the next start on. Ended leases
are kept for a day: with them, ``reconcile`` tells a state that is older than its log.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.appraisal.policy_codes import PolicyCode
from regalia.broker.codes import BrokerCode
from regalia.broker.state import FLOORS, LEASES, RETURNING, RETURNS, from_us, state, to_us
from regalia.broker.watermarks import note_log
from regalia.core.codec import lp
from regalia.core.errors import PolicyDenied, UnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

    from regalia.appraisal.claims import Claims
    from regalia.tlog.note import Checkpoint

_HOLDER_DOMAIN = b"regalia/lease-holder/v1"
_ID_SIZE = 16  # bytes
CLAIM = timedelta(seconds=30)  # longer than a database is waited for
KEPT = timedelta(days=1)  # after a lease has ended


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
    """A lease that was just taken or renewed; it counts when it is confirmed."""

    lease_id: str
    until: datetime
    before: datetime | None  # its end when this renewal was asked for; None for a new lease
    claim_us: int  # end of the claim, which tells this renewal from others


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What confirming did to a lease's end, so that ``undo`` can revert that and nothing else."""

    end_us: int  # of no other confirmation of this lease that is in force
    replaced_us: int


@dataclass(frozen=True, slots=True)
class HeldLease:
    """An unexpired lease, and the address that it was granted to."""

    lease_id: str
    peer: str
    until: datetime


class LeaseStore:
    """Grants leases within a cap on holders. Several brokers may share one state."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.returning = threading.Lock()  # held from ``runs`` to ``end``, for one notice

    def active(self, model_id: str, now: datetime, *, besides: str) -> int:
        """Count the holders with an unexpired lease of a model, except ``besides``.

        Args:
            model_id: the model, in text form.
            now: current time, timezone-aware.
            besides: the requesting holder, which must not count against itself.
        """
        with state(self._engine, writes=False) as connection:
            return _active(connection, model_id, now, besides)

    def held(self, now: datetime) -> list[HeldLease]:
        """All unexpired leases. Raises UnavailableError STATE_UNAVAILABLE."""
        query = sa.select(LEASES).where(LEASES.c.expires_us > to_us(now))
        with state(self._engine, writes=False) as connection:
            rows = connection.execute(query).all()
        return [HeldLease(row.lease_id, row.peer, from_us(row.expires_us)) for row in rows]

    def take(  # noqa: PLR0913 - each of them is a fact of the grant
        self,
        *,
        model_id: str,
        holder: str,
        peer: str,
        holders_max: int,
        lease_s: int,
        now: datetime,
        renew: str | None,
    ) -> Lease:
        """Claim a place for a new lease or a renewal, within the cap, atomically across brokers.

        Args:
            model_id: the model, in text form; its floor row serializes the releases of it.
            holder: the requesting holder; see ``holder_of``.
            peer: address that asks.
            holders_max: maximum number of holders with an unexpired lease.
            lease_s: seconds until the lease expires.
            now: current time, timezone-aware.
            renew: identifier of the lease to renew, untrusted; None for a new lease.

        Raises:
            PolicyDenied: HOLDERS_EXHAUSTED or LEASE_UNKNOWN.
            UnavailableError: STATE_UNAVAILABLE.
        """
        until = now + timedelta(seconds=lease_s)
        claim_us = to_us(min(until, now + CLAIM))
        with state(self._engine, writes=True) as connection:
            # Lock the model's row, so that two brokers cannot both count a free place and take
            # it. SQLite ignores FOR UPDATE, but locks the whole database for a writer.
            connection.execute(
                sa.select(FLOORS.c.model_id).where(FLOORS.c.model_id == model_id).with_for_update()
            )
            _forget(connection, now)
            active = _active(connection, model_id, now, holder)
            if active >= holders_max:
                raise PolicyDenied(
                    PolicyCode.HOLDERS_EXHAUSTED,
                    f"{active} others hold a lease; at most {holders_max}",
                )
            values: dict[str, object] = {"peer": peer, "claim_us": claim_us}
            if renew is not None:
                before = _renewable(connection, renew, model_id, holder, now)
                values["asked_us"] = max(to_us(until), before.asked_us)
                # Renewals that are asked for at one moment have claims that differ, too.
                claim_us = values["claim_us"] = max(claim_us, before.claim_us + 1)
                mine = LEASES.c.lease_id == renew
                connection.execute(LEASES.update().where(mine).values(values))
                return Lease(renew, until, from_us(before.expires_us), claim_us)
            lease_id = f"lease:{secrets.token_hex(_ID_SIZE)}"
            values |= {"lease_id": lease_id, "model_id": model_id, "holder": holder}
            values |= {"asked_us": to_us(until), "expires_us": 0}
            connection.execute(LEASES.insert().values(values))
        return Lease(lease_id, until, None, claim_us)

    def confirm(
        self, lease: Lease, checkpoint: Checkpoint, token_digest: bytes, now: datetime
    ) -> Confirmed:
        """Let a lease last, whose release stands in the log under ``checkpoint``.

        Args:
            lease: as ``take`` returned it.
            checkpoint: verified; its log holds the release.
            token_digest: SHA-256 of the token that gives the lease back. That of the first
                release counts, so that a renewal whose answer is lost changes nothing.
            now: current time, timezone-aware.

        Returns:
            What ``undo`` needs if the release fails after all.

        Raises:
            UnavailableError: LEASE_LAPSED, the claim ended before the log was written, so others
                may have taken the place; or STATE_UNAVAILABLE.
        """
        until_us = to_us(lease.until)
        mine = LEASES.c.lease_id == lease.lease_id
        with state(self._engine, writes=True) as connection:
            note_log(connection, checkpoint)
            row = connection.execute(sa.select(LEASES).where(mine).with_for_update()).first()
            claimed = row is not None and row.claim_us >= lease.claim_us > to_us(now)
            lasts = claimed or (row is not None and row.expires_us >= until_us)
            if row is None or not lasts or _is_returning(connection, lease.lease_id):
                raise UnavailableError(
                    BrokerCode.LEASE_LAPSED,
                    "logging the release took longer than the lease waits, or it was given back",
                )
            claim_us = 0 if row.claim_us == lease.claim_us else row.claim_us
            # Later than what stands there, if only by a microsecond: so ``undo`` sees at the end
            # alone whether another renewal was confirmed in the meantime.
            end_us = max(until_us, row.expires_us + 1)
            connection.execute(
                LEASES.update().where(mine).values(expires_us=end_us, claim_us=claim_us)
            )
            if lease.before is None:
                values = {"lease_id": lease.lease_id, "token_digest": token_digest}
                connection.execute(RETURNS.insert().values(values))
        return Confirmed(end_us, row.expires_us)

    def runs(self, lease_id: str, token: bytes, now: datetime) -> bool:
        """Whether a lease has not ended, for whoever knows its token.

        Args:
            lease_id: untrusted.
            token: untrusted.
            now: current time, timezone-aware.

        Raises:
            PolicyDenied: LEASE_UNKNOWN, whether the lease or its token is wrong.
            UnavailableError: STATE_UNAVAILABLE.
        """
        kept = sa.select(RETURNS.c.token_digest).where(RETURNS.c.lease_id == lease_id)
        until = sa.select(LEASES.c.expires_us).where(LEASES.c.lease_id == lease_id)
        with state(self._engine, writes=False) as connection:
            digest = connection.execute(kept).scalar()
            expires_us = connection.execute(until).scalar()
        given = hashlib.sha256(token).digest()
        if digest is None or not hmac.compare_digest(digest, given):
            raise PolicyDenied(BrokerCode.LEASE_UNKNOWN, "there is no such lease of this attester")
        return expires_us is not None and expires_us > to_us(now)

    def begin_return(self, lease_id: str, now: datetime) -> bool:
        """Note that a lease is being given back. Until it ends it counts, and is not renewed.

        The state is written before the log is: a state that cannot be written, because its disk is
        full, stops a return before the log has grown. A return that began before and was cut off
        ends here, and the log is not told again.

        Args:
            lease_id: of a lease; see ``runs``.
            now: current time, timezone-aware.

        Returns:
            Whether the log is to be told, and then ``end`` to be called. If not, it has ended.

        Raises:
            UnavailableError: STATE_UNAVAILABLE.
        """
        mine = LEASES.c.lease_id == lease_id
        with state(self._engine, writes=True) as connection:
            query = sa.select(LEASES.c.expires_us).where(mine).with_for_update()
            until_us = connection.execute(query).scalar()
            if until_us is None or until_us <= to_us(now):
                return False
            if _is_returning(connection, lease_id):
                _end(connection, lease_id)
                return False
            connection.execute(RETURNING.insert().values(lease_id=lease_id))
            return True

    def keep(self, lease_id: str) -> None:
        """Let a lease run on whose return could not be logged, so that it can be tried again.

        Args:
            lease_id: of a lease whose return began.

        Raises:
            UnavailableError: STATE_UNAVAILABLE.
        """
        with state(self._engine, writes=True) as connection:
            connection.execute(RETURNING.delete().where(RETURNING.c.lease_id == lease_id))

    def end(self, lease_id: str, checkpoint: Checkpoint) -> None:
        """Free the place of a lease whose return stands in the log under ``checkpoint``.

        Args:
            lease_id: of a lease whose return began.
            checkpoint: verified; its log holds the notice.

        Raises:
            UnavailableError: STATE_UNAVAILABLE.
        """
        with state(self._engine, writes=True) as connection:
            note_log(connection, checkpoint)
            _end(connection, lease_id)

    def undo(self, lease: Lease, confirmed: Confirmed | None) -> None:
        """Give back a lease whose release did not happen; a renewal is reverted to its old end.

        The end stays as it is where another renewal was confirmed in the meantime, because the key
        was released under that one. If both fail, the lease may last as long as one of them asked
        for: that admits too few holders and never too many.

        Args:
            lease: as ``take`` returned it.
            confirmed: as ``confirm`` returned it; None if it returned nothing.

        Raises:
            UnavailableError: STATE_UNAVAILABLE.
        """
        mine = LEASES.c.lease_id == lease.lease_id
        if confirmed is None and lease.before is None:
            # The answer to a commit can be lost. Nothing but this confirms a new lease first.
            confirmed = Confirmed(to_us(lease.until), 0)
        with state(self._engine, writes=True) as connection:
            row = connection.execute(sa.select(LEASES).where(mine).with_for_update()).first()
            if row is None:
                return
            values = {}
            if row.claim_us == lease.claim_us:
                values["claim_us"] = 0
            if confirmed is not None and row.expires_us == confirmed.end_us:
                values["expires_us"] = confirmed.replaced_us
            if values:
                connection.execute(LEASES.update().where(mine).values(values))


def _forget(connection: Connection, now: datetime) -> None:
    """Forget leases that ended long ago."""
    gone = connection.execute(LEASES.delete().where(LEASES.c.asked_us <= to_us(now - KEPT)))
    if gone.rowcount:
        held = sa.select(LEASES.c.lease_id)
        for table in (RETURNS, RETURNING):
            connection.execute(table.delete().where(table.c.lease_id.not_in(held)))


def _is_returning(connection: Connection, lease_id: str) -> bool:
    mine = RETURNING.c.lease_id == lease_id
    return connection.execute(sa.select(RETURNING.c.lease_id).where(mine)).first() is not None


def _end(connection: Connection, lease_id: str) -> None:
    # Not the time: a renewal that began earlier would still find the lease running then.
    ended = LEASES.update().where(LEASES.c.lease_id == lease_id)
    connection.execute(ended.values(expires_us=0, claim_us=0))


def _active(connection: Connection, model_id: str, now: datetime, besides: str) -> int:
    query = (
        sa.select(sa.func.count(sa.distinct(LEASES.c.holder)))
        .select_from(LEASES)
        .where(
            LEASES.c.model_id == model_id,
            sa.or_(LEASES.c.expires_us > to_us(now), LEASES.c.claim_us > to_us(now)),
            LEASES.c.holder != besides,
        )
    )
    return int(connection.execute(query).scalar_one())


@dataclass(frozen=True, slots=True)
class _Ends:
    asked_us: int
    expires_us: int
    claim_us: int


def _renewable(
    connection: Connection, lease_id: str, model_id: str, holder: str, now: datetime
) -> _Ends:
    query = sa.select(LEASES).where(LEASES.c.lease_id == lease_id)
    row = connection.execute(query.with_for_update()).first()
    # The same error in all cases, so that a client cannot probe for leases of others.
    mine = row is not None and row.model_id == model_id and row.holder == holder
    gone = row is None or row.expires_us <= to_us(now) or _is_returning(connection, lease_id)
    if row is None or not mine or gone:
        raise PolicyDenied(BrokerCode.LEASE_UNKNOWN, "there is no such lease of this attester")
    return _Ends(row.asked_us, row.expires_us, row.claim_us)
