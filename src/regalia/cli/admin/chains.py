"""Reads the statements of a tenant, from a folder or from a broker, and verifies all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.cli.admin.peer import AdminPeer
from regalia.control.fold import apply, begin
from regalia.control.verify import read_unverified, verify_statement
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import CoreCode, IntegrityError, UsageError
from regalia.core.types import Digest
from regalia.host.clock import system_clock
from regalia.host.numbered import read_numbered
from regalia.wire.statement import ENVELOPE_LIMIT, check_tenant, parse_log_statement

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.cli.admin.options import ChainOptions
    from regalia.control.state import ControlState
    from regalia.control.verify import SignedStatement


@dataclass(frozen=True, slots=True)
class Accepted:
    """A statement of a chain, and when it was accepted."""

    signed: SignedStatement
    at: datetime


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of which every statement was verified; ``state`` is None if there is none yet."""

    accepted: tuple[Accepted, ...]
    state: ControlState | None


def read_chain(where: ChainOptions) -> Chain:
    """Read and verify a tenant's statements.

    Args:
        where: a folder, whose own statement 1 is believed unless a digest is given; or a broker,
            whose is not; or nothing, which is an empty chain.

    Raises:
        RegaliaError: they cannot be read, or are no chain that the owners signed.
        UsageError: BAD_USAGE, both or too little is given.
    """
    charter = None if where.charter is None else Digest.parse(where.charter)
    if where.chain is not None and where.url is not None:
        raise UsageError(CoreCode.BAD_USAGE, "give --chain or --url, not both")
    if where.chain is not None:
        if not where.chain.exists():
            return Chain((), None)
        return _fold(_of_folder(read_numbered(where.chain, limit=ENVELOPE_LIMIT)), charter)
    if where.url is None:
        return Chain((), None)
    if where.tenant is None or charter is None:
        raise UsageError(CoreCode.BAD_USAGE, "--url needs --tenant and --charter")
    check_tenant(where.tenant)
    with AdminPeer(where.url) as peer:
        return fold_entries(peer.entries(where.tenant), charter)


def fold_entries(entries: list[bytes], charter: Digest) -> Chain:
    """Verify statements as a log has them.

    Args:
        entries: of one tenant, in their order, untrusted.
        charter: the digest by which the tenant is known.

    Raises:
        RegaliaError: they are no chain that the owners signed.
    """
    found = []
    for data in entries:
        entry = parse_log_statement(data)
        found.append((entry.signed(), parse_rfc3339(entry.time)))
    return _fold(found, charter)


def _of_folder(files: list[bytes]) -> list[tuple[bytes, datetime]]:
    """A folder keeps no moments of acceptance: the proposers' times stand for them."""
    found = []
    for data in files:
        _, statement = read_unverified(data)
        found.append((data, parse_rfc3339(statement.time)))
    return found


def _fold(statements: list[tuple[bytes, datetime]], charter: Digest | None) -> Chain:
    state: ControlState | None = None
    accepted = []
    for data, at in statements:
        owners = () if state is None else tuple(state.charter.owners)
        signed = verify_statement(data, owners)
        if state is None:
            state = begin(signed, signed.digest if charter is None else charter, at)
        else:
            state = apply(state, signed, at)
        accepted.append(Accepted(signed, at))
    return Chain(tuple(accepted), state)


def require_tenant(chain: Chain, tenant: str | None) -> str:
    """The tenant's name. Raises UsageError or IntegrityError if it is not known or another one.

    Args:
        chain: that was read.
        tenant: as it was given; None if it was not.

    Raises:
        UsageError: BAD_USAGE.
        IntegrityError: WRONG_FILE.
    """
    if chain.state is None:
        if tenant is None:
            raise UsageError(CoreCode.BAD_USAGE, "there is no chain yet: give --tenant")
        return tenant
    if tenant is not None and tenant != chain.state.tenant:
        raise IntegrityError(
            CoreCode.WRONG_FILE, f"the chain is of {chain.state.tenant}, not of {tenant}"
        )
    return chain.state.tenant


def now() -> datetime:
    """The time, in whole seconds as statements have it."""
    return system_clock().replace(microsecond=0)
