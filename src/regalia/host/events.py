"""Structured logs: a closed set of event names, JSON lines on standard error, no secrets.

An event is logged with ``emit(ServiceEvent.X, field=value)``. A value that is a secret, raw bytes
or of an unknown type raises ``TypeError`` instead of being formatted: what cannot be written cannot
leak. Callers turn digests, ids and fingerprints into text first.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum

from regalia.core.clock import rfc3339
from regalia.host.clock import system_clock

Field = str | int | float | bool | None | list[str]


class ServiceEvent(StrEnum):
    """Everything that Regalia's services log."""

    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    CONNECTIONS_DROPPED = "service.connections.dropped"
    DANGEROUS_SETTING = "dangerous.setting"
    HARDENING = "runtime.hardening"
    COLLATERAL_LOADED = "collateral.loaded"
    COLLATERAL_INSTALLED = "collateral.installed"
    COLLATERAL_REFUSED = "collateral.refused"
    CHALLENGE_ISSUED = "broker.challenge.issued"
    RELEASE_GRANTED = "broker.release.granted"
    RELEASE_DENIED = "broker.release.denied"
    RELEASE_FAILED = "broker.release.failed"
    KEY_RECEIVED = "runtime.key.received"
    MODEL_LOADED = "runtime.model.loaded"
    LEASE_RENEWED = "runtime.lease.renewed"
    LEASE_LOST = "runtime.lease.lost"
    WIPED = "runtime.wiped"
    REQUEST_SERVED = "runtime.request.served"
    REQUEST_REFUSED = "runtime.request.refused"


def _line(event: ServiceEvent, fields: dict[str, Field]) -> str:
    for name, value in fields.items():
        if isinstance(value, list):
            if not all(isinstance(item, str) for item in value):
                raise TypeError(f"event field {name!r}: a list holds text only")
        elif value is not None and not isinstance(value, str | int | float | bool):
            raise TypeError(f"event field {name!r}: {type(value).__name__} is not logged")
    record = {"time": rfc3339(system_clock()), "event": str(event), **fields}
    return json.dumps(record, ensure_ascii=False)


def emit(event: ServiceEvent, **fields: Field) -> None:
    """Write one event to standard error."""
    sys.stderr.write(_line(event, fields) + "\n")
    sys.stderr.flush()
