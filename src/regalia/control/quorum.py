"""Whose signatures a statement needs, and whose it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.wire.statement import ALONE, Charter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.wire.statement import Owner, Statement


@dataclass(frozen=True, slots=True)
class Quorum:
    """Owners of whom a number must sign.

    Attributes:
        of: which owners, for people.
        threshold: how many of them.
        signed: names of those who have.
        missing: names of the others.
    """

    of: str
    threshold: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def reached(self) -> bool:
        """Whether enough have signed."""
        return len(self.signed) >= self.threshold

    def __str__(self) -> str:
        missing = "" if self.reached else f"; not {', '.join(self.missing)}"
        return f"{len(self.signed)} of {self.threshold} of {self.of}{missing}"


def quorums(
    statement: Statement, charter: Charter | None, signers: Iterable[str]
) -> tuple[Quorum, ...]:
    """Every quorum that a statement needs. Never empty.

    Args:
        statement: the statement.
        charter: in force; None if there is none.
        signers: fingerprints of the keys that signed; verified, where the result is to decide.
    """
    by = frozenset(signers)
    action = statement.action
    if charter is None:
        owners = action.owners if isinstance(action, Charter) else []
        # Without a charter nobody can be asked, so one signature is always missing.
        return (_quorum("the charter's owners", max(1, len(owners)), owners, by),)
    if isinstance(action, Charter):
        return (
            _quorum("the old owners", charter.threshold, charter.owners, by),
            _quorum("the new owners", action.threshold, action.owners, by),
        )
    threshold = 1 if isinstance(action, ALONE) else charter.threshold
    return (_quorum("the owners", threshold, charter.owners, by),)


def _quorum(of: str, threshold: int, owners: list[Owner], by: frozenset[str]) -> Quorum:
    signed = tuple(owner.name for owner in owners if owner.fingerprint in by)
    missing = tuple(owner.name for owner in owners if owner.fingerprint not in by)
    return Quorum(of, threshold, signed, missing)
