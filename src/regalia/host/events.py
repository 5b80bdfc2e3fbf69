"""Structured logs: a closed set of event names, JSON lines on standard error, no secrets.

An event is logged with ``emit(ServiceEvent.X, field=value)``. A value that is a secret, raw bytes
or of an unknown type raises ``TypeError`` instead of being formatted: what cannot be written cannot
leak. Callers turn digests, ids and fingerprints into text first.

Reporting never holds up what is reported: if standard error is full or gone, or if somebody outside
causes too many events of one kind, events are dropped and counted, and the next one that is written
is preceded by the count.
"""

from __future__ import annotations

import io
import json
import os
import select
import sys
import threading
import time
from collections import Counter
from enum import StrEnum

from regalia.core.clock import rfc3339
from regalia.host.clock import system_clock

Field = str | int | float | bool | None | list[str]


class ServiceEvent(StrEnum):
    """Everything that Regalia's services log."""

    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    EVENTS_DROPPED = "service.events.dropped"
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
    STATEMENT_ACCEPTED = "broker.statement.accepted"
    LEASE_TAKEN_BACK = "broker.lease.taken_back"
    PEER_LIMITED = "broker.peer.limited"
    CLOCK_STEPPED = "runtime.clock.stepped"
    BROKER_BUSY = "runtime.broker.busy"
    KEY_RECEIVED = "runtime.key.received"
    MODEL_LOADED = "runtime.model.loaded"
    LEASE_RENEWED = "runtime.lease.renewed"
    LEASE_LOST = "runtime.lease.lost"
    LEASE_RETURNED = "runtime.lease.returned"
    LEASE_NOT_RETURNED = "runtime.lease.not_returned"
    WIPED = "runtime.wiped"
    WORKER_KEYED = "runtime.worker.keyed"
    WORKER_REFUSED = "runtime.worker.refused"
    WORKER_LOADED = "runtime.worker.loaded"
    ENGINE_ENDED = "runtime.engine.ended"
    ENGINE_RESTARTING = "runtime.engine.restarting"
    ENGINE_RESTARTED = "runtime.engine.restarted"
    ENGINE_GIVEN_UP = "runtime.engine.given_up"
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


# Of these a peer can cause any number; more of them in a second are counted, and not written.
_BOUNDED = frozenset(
    {
        ServiceEvent.CHALLENGE_ISSUED,
        ServiceEvent.RELEASE_DENIED,
        ServiceEvent.RELEASE_FAILED,
        ServiceEvent.PEER_LIMITED,
        ServiceEvent.REQUEST_SERVED,
        ServiceEvent.REQUEST_REFUSED,
    }
)
LINES_PER_S = 50


class _EventLog:
    """Writes lines to standard error without ever waiting for a reader."""

    def __init__(self) -> None:
        self._dropped = 0
        self._lines: Counter[ServiceEvent] = Counter()  # in this second
        self._second = 0
        self._guard = threading.Lock()
        self._terminal: int | None = None

    def write(self, event: ServiceEvent, line: str) -> None:
        """Write a line, or count it as dropped."""
        with self._guard:
            if self._too_many(event):
                self._dropped += 1
                return
            text = line + "\n"
            if self._dropped:
                text = _line(ServiceEvent.EVENTS_DROPPED, {"count": self._dropped}) + "\n" + text
            try:
                written = self._write(text.encode(errors="backslashreplace"))
            except (OSError, ValueError):  # closed, broken, or on a disk that is full
                written = False
            self._dropped = 0 if written else self._dropped + 1

    def _too_many(self, event: ServiceEvent) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._lines.clear()
        self._lines[event] += 1
        return event in _BOUNDED and self._lines[event] > LINES_PER_S

    def _write(self, data: bytes) -> bool:
        """Write to standard error as far as it takes bytes now. Returns whether it took all."""
        stream = sys.stderr
        if stream is None:
            return False
        try:
            fd = stream.fileno()
        except (OSError, ValueError, io.UnsupportedOperation):  # not a file, as in tests
            stream.write(data.decode())
            return True
        if os.isatty(fd):
            return os.write(self._own_terminal(fd), data) == len(data)
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        for start in range(0, len(data), select.PIPE_BUF):
            # A pipe that is ready takes at least PIPE_BUF bytes without blocking (pipe(7)).
            ready = poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                return False
            os.write(fd, data[start : start + select.PIPE_BUF])
        return True

    def _own_terminal(self, fd: int) -> int:
        """The terminal, opened for ourselves: a stopped one blocks, although it seems ready.

        The flag must not be set on what other processes share with us.
        """
        if self._terminal is None:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            self._terminal = os.open(os.ttyname(fd), flags)
        return self._terminal


_LOG = _EventLog()  # of this process, as its standard error is


def emit(event: ServiceEvent, **fields: Field) -> None:
    """Write one event to standard error. Raises TypeError for a value that is not logged."""
    _LOG.write(event, _line(event, fields))
