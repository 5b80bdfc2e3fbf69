"""Prometheus metrics of the runtime. They hold totals only, and nothing about a single request.

No metric carries a client's name or text. Tokens are not counted: whoever reads an exact counter
before and after a request of somebody else learns how long prompt and answer were, and rounding
does not help against somebody who can send requests of known length in between. Clients learn
the counts of their own requests inside the sealed channel.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """One runtime's metrics, in a registry of their own so that several can share a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "regalia_requests",
            "Requests that came through the sealed channel and were answered.",
            ["route", "status"],
            registry=self.registry,
        )
        self.refused = Counter(
            "regalia_requests_refused",
            "Requests that were refused before the inner service saw them.",
            ["code"],
            registry=self.registry,
        )
        self.evidence = Counter("regalia_evidence", "Challenges answered.", registry=self.registry)
        self.waiting = Gauge(
            "regalia_queue_waiting", "Generations that wait.", registry=self.registry
        )
        self.abandoned = Counter(
            "regalia_answers_abandoned",
            "Answers that were given up: not read, or not complete in time.",
            ["code"],
            registry=self.registry,
        )
        self.lease_remaining = Gauge(
            "regalia_lease_remaining_seconds",
            "Seconds until the lease ends unless it is renewed.",
            registry=self.registry,
        )
        self.lease_renewals = Gauge(
            "regalia_lease_renewals", "Renewals since the start.", registry=self.registry
        )
