"""Records which checks a verifier made, for whoever must explain its answer.

A check_log decides nothing: verifiers raise whether or not anybody records. A check is entered
before it is made; entering the next one, or ``steps``, says that it passed, unless ``leave_open``
said that it was not made in full.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from regalia.appraisal.check import Step
from regalia.core.clock import rfc3339

if TYPE_CHECKING:
    from regalia.appraisal.check import Check
    from regalia.core.errors import RegaliaError


class CheckLog:
    """One appraisal's checks in order. Not shared between threads."""

    __slots__ = ("_made", "_open")

    def __init__(self) -> None:
        self._made: list[Step] = []
        self._open: tuple[Check, object, object, bool] | None = None

    def begin(self, check: Check, seen: object = "", wanted: object = "") -> None:
        """The next check begins; the one before it passed.

        Args:
            check: that is made now.
            seen: what the evidence says, for people; bytes are shown in hex.
            wanted: what it must say, likewise.
        """
        self._close("")
        self._open = (check, seen, wanted, True)

    def note(self, seen: object, wanted: object = "") -> None:
        """What the entered check sees, once it knows.

        Args:
            seen: what the evidence says.
            wanted: what it must say.
        """
        if self._open is not None:
            self._open = (self._open[0], seen, wanted, True)

    def leave_open(self, seen: object, wanted: object = "") -> None:
        """The entered check was not made, or not in full, so it has not passed.

        Args:
            seen: what there is.
            wanted: what is missing.
        """
        if self._open is not None:
            self._open = (self._open[0], seen, wanted, False)

    def steps(self) -> tuple[Step, ...]:
        """All checks, when the verifier has returned."""
        self._close("")
        return tuple(self._made)

    def failed(self, error: RegaliaError) -> tuple[Step, ...]:
        """All checks, when the verifier has raised: the last one is the refusal."""
        self._close(error.code.name, error.what)
        return tuple(self._made)

    def _close(self, code: str, why: str = "") -> None:
        if self._open is None:
            return
        check, seen, wanted, in_full = self._open
        has, must = _text(seen), _text(wanted)
        if code and has and has == must:
            # What was compared is equal, so something else failed: the refusal says what.
            has = why
        self._made.append(Step(check, has, must, code, in_full))
        self._open = None


def _text(value: object) -> str:
    """Only of what somebody records: verifiers that nobody listens to format nothing."""
    if isinstance(value, bytes):
        return value.hex()
    return rfc3339(value) if isinstance(value, datetime) else str(value)


class _NoLog(CheckLog):
    """Records nothing, so that one instance can serve everybody."""

    __slots__ = ()

    def begin(self, check: Check, seen: object = "", wanted: object = "") -> None:
        """Do nothing."""

    def note(self, seen: object, wanted: object = "") -> None:
        """Do nothing."""

    def leave_open(self, seen: object, wanted: object = "") -> None:
        """Do nothing."""


NO_LOG: CheckLog = _NoLog()
