"""Challenges: 32 random bytes, for one model and one policy, good once and for a minute.

Consuming comes before everything else, so a challenge is spent even if the rest fails. A spent
one is remembered for a while, so that a replay can be told from a guess.
"""

from __future__ import annotations

import secrets
from dataclasses import InitVar, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.codes import BrokerCode
from regalia.broker.state import CHALLENGES, from_us, state, to_us
from regalia.core.errors import AttestationError, UnavailableError
from regalia.wire.evidence import CHALLENGE_SIZE

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from regalia.core.errors import Code
    from regalia.core.types import ModelId, PolicyId

_KEEP = timedelta(minutes=10)  # after expiry

# Catches honest mistakes, such as an appraisal without a challenge; no wall against hostile code.
_MINT = object()


@dataclass(frozen=True, slots=True)
class IssuedFor:
    """What a challenge was issued for, and when."""

    model_id: str
    policy_id: str
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class ConsumedChallenge:
    """A challenge that was issued here, is fresh, and is now spent. Made by ``consume`` only."""

    challenge: bytes
    issued: IssuedFor
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("consumed challenges come from ChallengeStore.consume")


class ChallengeRefused(AttestationError):  # noqa: N818 - like PolicyDenied, it says what happened
    """The challenge is not good.

    Attributes:
        issued: what it was issued for, when this refusal belongs into the log; else None. A
            replay is logged once, and a challenge that was never issued is not: otherwise
            anybody could fill the log.
    """

    def __init__(self, code: Code, what: str, issued: IssuedFor | None) -> None:
        super().__init__(code, what)
        self.issued = issued


class ChallengeStore:
    """Issues challenges and consumes them. Several brokers may share one database."""

    def __init__(self, engine: Engine, *, ttl_s: int, open_max: int) -> None:
        self._engine = engine
        self._ttl = timedelta(seconds=ttl_s)
        self._open_max = open_max
        self.ttl_s = ttl_s

    def issue(self, model_id: ModelId, policy_id: PolicyId, now: datetime) -> bytes:
        """A new challenge.

        Args:
            model_id: of the model that will be asked for.
            policy_id: of the policy that is in force.
            now: aware.

        Raises:
            UnavailableError: CHALLENGES_EXHAUSTED or STATE_UNAVAILABLE.
        """
        challenge = secrets.token_bytes(CHALLENGE_SIZE)
        with state(self._engine, writes=True) as connection:
            connection.execute(
                CHALLENGES.delete().where(CHALLENGES.c.expires_us < to_us(now - _KEEP))
            )
            open_ = connection.execute(
                sa.select(sa.func.count())
                .select_from(CHALLENGES)
                .where(CHALLENGES.c.uses == 0, CHALLENGES.c.expires_us > to_us(now))
            ).scalar_one()
            if open_ >= self._open_max:
                raise UnavailableError(
                    BrokerCode.CHALLENGES_EXHAUSTED, f"{open_} challenges are open"
                )
            connection.execute(
                CHALLENGES.insert().values(
                    challenge=challenge,
                    model_id=str(model_id),
                    policy_id=str(policy_id),
                    issued_us=to_us(now),
                    expires_us=to_us(now + self._ttl),
                    uses=0,
                )
            )
        return challenge

    def consume(self, challenge: bytes, now: datetime) -> ConsumedChallenge:
        """Spend a challenge: whatever happens next, it cannot be used again.

        Args:
            challenge: untrusted.
            now: aware.

        Raises:
            ChallengeRefused: CHALLENGE_UNKNOWN, CHALLENGE_REUSED or CHALLENGE_EXPIRED.
            UnavailableError: STATE_UNAVAILABLE.
        """
        mine = CHALLENGES.c.challenge == challenge
        with state(self._engine, writes=True) as connection:
            # The update comes first: it locks the row, so of two requests one sees uses == 1.
            connection.execute(CHALLENGES.update().where(mine).values(uses=CHALLENGES.c.uses + 1))
            row = connection.execute(sa.select(CHALLENGES).where(mine)).first()
        if row is None:
            raise ChallengeRefused(
                BrokerCode.CHALLENGE_UNKNOWN, "the challenge was not issued here", None
            )
        issued = IssuedFor(row.model_id, row.policy_id, from_us(row.issued_us))
        if row.uses > 1:
            first_replay = row.uses == 1 + 1
            raise ChallengeRefused(
                BrokerCode.CHALLENGE_REUSED,
                f"the challenge was used before; this is use {row.uses}",
                issued if first_replay else None,
            )
        if to_us(now) >= row.expires_us:
            late = (to_us(now) - row.expires_us) / 1e6
            raise ChallengeRefused(
                BrokerCode.CHALLENGE_EXPIRED, f"the challenge expired {late:.1f} s ago", issued
            )
        return ConsumedChallenge(challenge, issued, _MINT)
