"""Prometheus metrics of the runtime. They hold totals only, and nothing about a single request.

No metric carries a client's name, text or the length of a single prompt.
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
        self.prompt_tokens = Counter(
            "regalia_prompt_tokens", "Tokens read.", registry=self.registry
        )
        self.completion_tokens = Counter(
            "regalia_completion_tokens", "Tokens written.", registry=self.registry
        )
        self.evidence = Counter("regalia_evidence", "Challenges answered.", registry=self.registry)
        self.waiting = Gauge(
            "regalia_queue_waiting", "Generations that wait.", registry=self.registry
        )
        self.lease_remaining = Gauge(
            "regalia_lease_remaining_seconds",
            "Seconds until the lease ends unless it is renewed.",
            registry=self.registry,
        )
        self.lease_renewals = Gauge(
            "regalia_lease_renewals", "Renewals since the start.", registry=self.registry
        )
