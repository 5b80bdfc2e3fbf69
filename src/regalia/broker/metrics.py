"""Prometheus metrics of the broker: counts and durations, but no keys, ids or addresses."""

from __future__ import annotations

import math
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_RENDERED_S = 1.0  # rendering takes milliseconds, and anybody may ask
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)  # seconds


class Metrics:
    """One broker's metrics, in a registry of their own. Implements ``watch.Watch``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rendered, self._rendered_at = b"", -math.inf
        self._stages = Histogram(
            "regalia_broker_stage_seconds",
            "Duration of each step of a release.",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._decisions = Counter(
            "regalia_broker_decisions",
            "Decisions; counted: a denial without an entry in the log.",
            ["decision"],
            registry=self.registry,
        )
        self._reasons = Counter(
            "regalia_broker_denial_reasons",
            "Reasons of denials; one denial may have several.",
            ["code"],
            registry=self.registry,
        )
        self._answers = Counter(
            "regalia_broker_answers",
            "Answers to challenge and release requests by HTTP status.",
            ["path", "status"],
            registry=self.registry,
        )
        self._log_size = Gauge(
            "regalia_broker_log_size", "Entries in the transparency log.", registry=self.registry
        )

    def stage(self, name: str, seconds: float) -> None:
        """See ``watch.Watch``.

        Args:
            name: name of the step.
            seconds: duration of the step.
        """
        self._stages.labels(name).observe(seconds)

    def decision(self, decision: str, codes: tuple[str, ...]) -> None:
        """See ``watch.Watch``.

        Args:
            decision: ``release``, ``denial`` or ``counted``.
            codes: codes of the reasons; empty for a release.
        """
        self._decisions.labels(decision).inc()
        for code in codes:
            self._reasons.labels(code).inc()

    def answer(self, path: str, status: int) -> None:
        """Count an answered request.

        Args:
            path: path of the matched route. Arbitrary request paths would create labels without
                bound.
            status: HTTP status of the answer.
        """
        self._answers.labels(path, str(status)).inc()

    def rendered(self) -> bytes | None:
        """What was rendered within the last second; None if that is longer ago."""
        fresh = time.monotonic() - self._rendered_at < _RENDERED_S
        return self._rendered if fresh else None

    def forget_rendered(self) -> None:
        """Render anew at the next call."""
        self._rendered_at = -math.inf

    def render(self, log_size: int) -> bytes:
        """Render all metrics in Prometheus' text format; ``log_size`` is the number of entries."""
        self._log_size.set(log_size)
        self._rendered = generate_latest(self.registry)
        self._rendered_at = time.monotonic()
        return self._rendered
