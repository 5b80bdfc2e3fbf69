"""A tenant's owners with their keys, who sign statements: for tests of chains and of brokers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from regalia.control.fold import apply, begin, settled
from regalia.control.verify import verify_statement
from regalia.core.clock import rfc3339
from regalia.core.codec import b64
from regalia.crypto import dsse
from regalia.crypto.sign import SigningKey
from regalia.wire.statement import (
    FORMAT,
    NO_STATEMENT,
    PAYLOAD_TYPE,
    Charter,
    Owner,
    Statement,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.control.state import ControlState
    from regalia.wire.statement import Action, Delayed

BEGAN = datetime(2026, 12, 1, 12, 0, 0, tzinfo=UTC)
GATHERED = timedelta(days=3)


def owner_key(name: str) -> SigningKey:
    """A key whose seed is published: it protects nothing."""
    seed = hashlib.sha256(f"owner {name}".encode()).digest()
    return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))


def charter_of(
    names: Iterable[str], threshold: int, delays: dict[Delayed, int] | None = None
) -> Charter:
    """A charter of these owners.

    Args:
        names: of the owners, whose keys are ``owner_key``.
        threshold: how many must sign.
        delays: seconds by kind of act.
    """
    owners = [
        Owner(key=b64(owner_key(name).verify_key.spki), name=name, role=f"answers for {name}")
        for name in sorted(names)
    ]
    return Charter(owners=owners, threshold=threshold, delays=delays or {})


def envelope(statement: Statement, by: Iterable[str]) -> bytes:
    """A statement with the signatures of these owners.

    Args:
        statement: that is signed.
        by: names.
    """
    keys = tuple(owner_key(name) for name in by)
    return dsse.sign(PAYLOAD_TYPE, statement.encode(), keys).encode()


@dataclass
class Tenant:
    """One tenant and the chain of its statements. ``now`` is the time for all of it."""

    name: str = "acme"
    owners: tuple[str, ...] = ("ann", "ben", "cyd")
    threshold: int = 2
    delays: dict[Delayed, int] = field(default_factory=dict)
    now: datetime = BEGAN
    state: ControlState | None = None
    chain: list[bytes] = field(default_factory=list)

    def charter(self) -> Statement:
        """Statement 1."""
        return self.statement(charter_of(self.owners, self.threshold, self.delays))

    def statement(self, action: Action, *, not_before: datetime | None = None) -> Statement:
        """The next statement.

        Args:
            action: what it does.
            not_before: when it takes effect; None: at once.
        """
        state = self.state
        return Statement(
            action=action,
            expires=rfc3339(self.now + GATHERED),
            format=FORMAT,
            not_before=None if not_before is None else rfc3339(not_before),
            previous=str(NO_STATEMENT if state is None else state.head),
            sequence=1 if state is None else state.sequence + 1,
            tenant=self.name,
            time=rfc3339(self.now),
        )

    def found(self) -> ControlState:
        """Accept the charter."""
        statement = self.charter()
        data = envelope(statement, self.owners)
        self.state = begin(verify_statement(data, ()), statement.digest(), self.now)
        self.chain.append(data)
        return self.state

    def accept(self, data: bytes) -> ControlState:
        """Accept a signed statement now. Raises RegaliaError, and then nothing has changed."""
        state = self.at_now()
        signed = verify_statement(data, tuple(state.charter.owners))
        self.state = apply(state, signed, self.now)
        self.chain.append(data)
        return self.state

    def act(self, action: Action, *by: str, not_before: datetime | None = None) -> ControlState:
        """Sign the next statement and accept it.

        Args:
            action: what it does.
            by: names of the owners who sign; nobody: the first of them that are enough.
            not_before: when it takes effect; None: at once.
        """
        signers = by or self.owners[: self.threshold]
        return self.accept(envelope(self.statement(action, not_before=not_before), signers))

    def at_now(self) -> ControlState:
        """The state now."""
        if self.state is None:
            raise ValueError("there is no charter yet")
        self.state = settled(self.state, self.now)
        return self.state

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def copy(self) -> Tenant:
        """Another tenant with the same history."""
        return replace(self, chain=list(self.chain))
