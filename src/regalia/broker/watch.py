"""What a broker tells its metrics."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Observes durations and decisions, for metrics. It is never given a secret."""

    def stage(self, name: str, seconds: float) -> None:
        """Observe the duration of a step.

        Args:
            name: name of the step.
            seconds: duration of the step.
        """

    def decision(self, decision: str, codes: tuple[str, ...]) -> None:
        """Observe a decision.

        Args:
            decision: ``release``, ``denial``, or ``counted`` for a denial without an entry.
            codes: codes of the reasons; empty for a release.
        """
