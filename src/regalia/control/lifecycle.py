"""The life cycle of images and model versions: staged, current, retiring, revoked. No way back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.control.codes import StatementCode
from regalia.core.errors import PolicyDenied

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.wire.statement import Transition


class Stage(StrEnum):
    """Where something stands in its life."""

    STAGED = "staged"
    CURRENT = "current"
    RETIRING = "retiring"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Life:
    """A stage, and for one that is retiring the last second in which it holds."""

    stage: Stage
    until: datetime | None = None

    def ended(self, now: datetime) -> bool:
        """Whether it was retired and its last second has passed.

        Args:
            now: current time, timezone-aware.
        """
        return self.stage is Stage.RETIRING and (self.until is None or passed(self.until, now))

    def __str__(self) -> str:
        return self.stage.value


def passed(last: datetime, now: datetime) -> bool:
    """Whether a last second has passed: all of it counts.

    Args:
        last: of whole seconds.
        now: current time, timezone-aware.
    """
    # Not ``last + 1 s``: the last second that a date can name has none behind it.
    return now - timedelta(seconds=1) >= last


_FROM: dict[Transition, tuple[Stage | None, ...]] = {
    "stage": (None,),
    "promote": (Stage.STAGED,),
    "retire": (Stage.CURRENT,),
    "revoke": (None, Stage.STAGED, Stage.CURRENT, Stage.RETIRING),
}
_TO: dict[Transition, Stage] = {
    "stage": Stage.STAGED,
    "promote": Stage.CURRENT,
    "retire": Stage.RETIRING,
    "revoke": Stage.REVOKED,
}


def moved(life: Life | None, transition: Transition, until: datetime | None, what: str) -> Life:
    """The life after a transition.

    Args:
        life: before it; None if it is not known yet.
        transition: what is asked for.
        until: of ``retire``: the last second in which it holds.
        what: names it in error messages.

    Raises:
        PolicyDenied: STATEMENT_NOT_IN_THIS_STATE.
    """
    before = None if life is None else life.stage
    if before not in _FROM[transition]:
        raise PolicyDenied(
            StatementCode.STATEMENT_NOT_IN_THIS_STATE,
            f"{what} is {'unknown' if life is None else life}; it cannot {transition}",
        )
    return Life(_TO[transition], until)
