"""Issues challenges and consumes them: 32 bytes that are valid once, for about a minute.

    issued (8 bytes: milliseconds since 1970) | random (8) | tag (16)

The tag authenticates time, model and policy with a key of the broker's state, so issuing a
challenge stores nothing: whoever asks for a million of them fills no database. A challenge is
stored when it is answered, until it expires. It is consumed before anything else in a request is
looked at, so it cannot be used again even if the request fails.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import InitVar, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.codes import BrokerCode
from regalia.broker.state import SPENT, from_us, state, to_us
from regalia.broker.watermarks import CLOCK_TOLERANCE, read_watermarks, require_time
from regalia.core.codec import lp
from regalia.core.errors import AttestationError, UnavailableError
from regalia.wire.evidence import CHALLENGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

    from regalia.broker.watermarks import Watermarks
    from regalia.core.errors import Code
    from regalia.core.types import ModelId, PolicyId

KEY_SIZE = 32  # bytes
TIME_SIZE = 8  # bytes; a time in milliseconds has at most 48 bits until the year 10889
RANDOM_SIZE = 8  # bytes
TAG_SIZE = CHALLENGE_SIZE - TIME_SIZE - RANDOM_SIZE
_DOMAIN = b"regalia/challenge/v1"
_MS = 1000  # microseconds
_TIME_MAX_MS = 1 << 47  # far from the end of what a datetime can hold

# Catches honest mistakes, such as an appraisal without a challenge; no wall against hostile code.
_MINT = object()


@dataclass(frozen=True, slots=True)
class IssuedFor:
    """The model and policy that a challenge was issued for, and the time."""

    model_id: str
    policy_id: str
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class ConsumedChallenge:
    """A challenge that was issued here, was fresh, and is now used. Only ``consume`` makes one."""

    challenge: bytes
    issued: IssuedFor
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("consumed challenges come from ChallengeStore.consume")


class ChallengeRefused(AttestationError):  # noqa: N818 - like PolicyDenied, it says what happened
    """The challenge is unknown, was used before, or has expired.

    Attributes:
        issued: what the challenge was issued for, if this refusal must be logged, and None
            otherwise. Only the first replay is logged. An unknown challenge is none, and an
            expired one costs nothing to collect, so either would let any client fill the log.
    """

    def __init__(self, code: Code, what: str, issued: IssuedFor | None) -> None:
        super().__init__(code, what)
        self.issued = issued


class ChallengeStore:
    """Issues and consumes challenges. Several brokers may share one state.

    A broker that starts may give the state a new key: see ``reconcile``. Those that are running
    then take it over, and what they issued before is unknown.

    Args:
        engine: the broker's state.
        key: 32 bytes, secret, of that state as it is now.
        audience: the log's origin.
        ttl_s: seconds until a challenge expires.
    """

    def __init__(self, engine: Engine, *, key: bytes, audience: str, ttl_s: int) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"the key of challenges has {KEY_SIZE} bytes")
        self._engine = engine
        self._key = key
        self._audience = audience
        self._ttl = timedelta(seconds=ttl_s)
        self.ttl_s = ttl_s

    def issue(self, model_id: ModelId, policy_id: PolicyId, now: datetime) -> bytes:
        """Issue a new challenge. Stores nothing.

        Args:
            model_id: the model that will be requested.
            policy_id: the policy that is in force for it.
            now: current time, timezone-aware.

        Returns:
            The challenge, 32 bytes.
        """
        head = (to_us(now) // _MS).to_bytes(TIME_SIZE, "big") + secrets.token_bytes(RANDOM_SIZE)
        return head + tag_of(self._key, self._audience, model_id, policy_id, head)

    def consume(
        self, challenge: bytes, offers: Iterable[tuple[ModelId, PolicyId]], now: datetime
    ) -> ConsumedChallenge:
        """Mark a challenge as used, so that it cannot be used again even if the request fails.

        Args:
            challenge: 32 bytes, untrusted.
            offers: models and policies that it may have been issued for. They may be untrusted,
                because the tag says which of them it was.
            now: current time, timezone-aware.

        Raises:
            ChallengeRefused: CHALLENGE_UNKNOWN, CHALLENGE_REUSED or CHALLENGE_EXPIRED.
            IntegrityError: STATE_LOST.
            UnavailableError: STATE_UNAVAILABLE or CLOCK_WENT_BACK.
        """
        issued, key = self._authenticated(challenge, tuple(offers))
        expires = issued.issued_at + self._ttl
        if now >= expires:
            late = (now - expires).total_seconds()
            raise ChallengeRefused(
                BrokerCode.CHALLENGE_EXPIRED, f"the challenge expired {late:.1f} s ago", None
            )
        if issued.issued_at > now + CLOCK_TOLERANCE:
            raise UnavailableError(
                BrokerCode.CLOCK_WENT_BACK, "a challenge was issued later than it is now"
            )
        with state(self._engine, writes=True) as connection:
            self._require_key(key, require_time(connection, now))
            uses = _spend(connection, challenge, to_us(expires), to_us(now))
        if uses > 1:
            first_replay = uses == 1 + 1
            raise ChallengeRefused(
                BrokerCode.CHALLENGE_REUSED,
                f"the challenge was used before; this is use {uses}",
                issued if first_replay else None,
            )
        return ConsumedChallenge(challenge, issued, _MINT)

    def _authenticated(
        self, challenge: bytes, offers: tuple[tuple[ModelId, PolicyId], ...]
    ) -> tuple[IssuedFor, bytes]:
        """Find out what a challenge was issued for, and with which key.

        Raises ChallengeRefused CHALLENGE_UNKNOWN.
        """
        head, tag = challenge[:-TAG_SIZE], challenge[-TAG_SIZE:]
        issued_ms = int.from_bytes(head[:TIME_SIZE], "big")
        for key in self._keys():
            for model_id, policy_id in offers:
                mine = tag_of(key, self._audience, model_id, policy_id, head)
                if hmac.compare_digest(tag, mine):
                    issued_at = from_us(min(issued_ms, _TIME_MAX_MS) * _MS)
                    return IssuedFor(str(model_id), str(policy_id), issued_at), key
        raise _unknown()

    def _keys(self) -> Iterator[bytes]:
        """The key that is known here, and then the state's, if that is another one by now."""
        mine = self._key
        yield mine
        with state(self._engine, writes=False) as connection:
            seen = read_watermarks(connection, lock=False)
        if seen is not None and seen.challenge_key != mine:
            self._key = seen.challenge_key
            yield seen.challenge_key

    def _require_key(self, key: bytes, seen: Watermarks) -> None:
        """Check that the state's key is still the one that a challenge was issued with."""
        if not hmac.compare_digest(key, seen.challenge_key):
            self._key = seen.challenge_key
            raise _unknown()


def _unknown() -> ChallengeRefused:
    return ChallengeRefused(BrokerCode.CHALLENGE_UNKNOWN, "the challenge was not issued here", None)


def tag_of(key: bytes, audience: str, model_id: ModelId, policy_id: PolicyId, head: bytes) -> bytes:
    """Tag of a challenge. Spec: docs/spec/release-exchange.md, section 5.

    Args:
        key: 32 bytes, secret, of the broker's state.
        audience: the log's origin.
        model_id: the model that the challenge is for.
        policy_id: the policy that the challenge is for.
        head: time and random bytes of the challenge.
    """
    message = _DOMAIN + lp(audience.encode(), model_id.raw, policy_id.raw, head)
    return hmac.digest(key, message, "sha256")[:TAG_SIZE]


def _spend(connection: Connection, challenge: bytes, expires_us: int, now_us: int) -> int:
    """Count a use of a challenge. Expired challenges are refused without this, so forget them."""
    tolerance_us = CLOCK_TOLERANCE // timedelta(microseconds=1)
    connection.execute(SPENT.delete().where(SPENT.c.expires_us < now_us - tolerance_us))
    mine = SPENT.c.challenge == challenge
    used = connection.execute(sa.select(SPENT.c.uses).where(mine)).scalar()
    if used is None:
        connection.execute(
            SPENT.insert().values(challenge=challenge, expires_us=expires_us, uses=1)
        )
        return 1
    connection.execute(SPENT.update().where(mine).values(uses=used + 1))
    return int(used) + 1
