"""Bounds what connections cost: time of a head, pieces of a body, unread answers, requests.

A connection waits until a request has arrived whole, then carries it. Silent and slow clients are
cut by deadlines. If all places are taken, the connection that has waited longest is closed, of the
peer that has most of them; if none waits, the oldest of a peer that has more than the newcomer. So
neither silent connections, nor slow bodies, nor answers that a peer does not read lock out others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from regalia.host.events import ServiceEvent, emit
from regalia.host.pace import Pace
from regalia.host.peers import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable


# Reasons that are a peer's own doing. Whoever makes room for others has done nothing.
OFFENSES = frozenset({"slow", "unread", "pieces", "bytes", "answers", "fields", "malformed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Bounds of one listener.

    Attributes:
        connections: number of connections at a time.
        head_size: bytes of a request's head, or of what stands behind a body in chunks.
        fields: number of fields there. Each costs more than the bytes that it has.
        head_s: seconds until the head of a request is complete, from the connection or from the
            first byte after an answer.
        unread_s: seconds that a client may leave an answer unread once its buffers are full.
        pieces: number of pieces of a body, beyond one for each ``piece_size`` bytes.
        piece_size: bytes in a piece that is no burden, on average.
        buffered: bytes of bodies that have not arrived whole, over all connections.
        unread: bytes of answers that wait for clients to read, over all connections.
        offenses: number of connections of one peer that are cut for what they do, in ``offense_s``;
            then its new connections are closed at once until that time is over.
        offense_s: seconds after which a peer begins anew.
        requests_per_s: requests that one peer may begin in a second; the next ones wait.
        report_s: seconds between two events that tell of connections which were dropped.
    """

    connections: int = 256
    head_size: int = 8192
    fields: int = 64
    head_s: float = 10.0
    unread_s: float = 30.0
    pieces: int = 256
    piece_size: int = 128
    buffered: int = 64 << 20
    unread: int = 64 << 20
    offenses: int = 16
    offense_s: float = 10.0
    requests_per_s: float = 1000.0
    report_s: float = 10.0


def fields_in(data: bytes) -> int:
    """Number of lines in the head that these bytes begin, whole or not."""
    ends = [end for end in (data.find(b"\n\r\n"), data.find(b"\n\n")) if end >= 0]
    return data.count(b"\n", 0, min(ends, default=len(data)))


class Door:
    """The connections of one listener."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.pace = Pace(limits.requests_per_s)
        self._inside: dict[GuardedProtocol, None] = {}  # in the order in which they came
        self._waiting: dict[GuardedProtocol, None] = {}  # in the order in which they began to wait
        self._unread: dict[GuardedProtocol, None] = {}  # whose answers are not read as they come
        self._dropped: Counter[str] = Counter()
        self._offenses: Counter[str] = Counter()  # by peer, since the time below
        self._offenses_since = 0.0
        self._reported = -limits.report_s

    def protocol(self) -> Callable[..., GuardedProtocol]:
        """What uvicorn makes connections with."""

        def make(*arguments: Any, **named: Any) -> GuardedProtocol:  # noqa: ANN401 - uvicorn's
            return GuardedProtocol(self, *arguments, **named)

        return make

    def enter(self, connection: GuardedProtocol) -> None:
        """Take a place, that of another connection if there is no free one."""
        if len(self._inside) >= self.limits.connections:
            victim = self._longest_waiting() or self._oldest_of_many(connection) or connection
            victim.drop("full")
        if connection.open:
            self._inside.setdefault(connection)

    def leave(self, connection: GuardedProtocol) -> None:
        """Give the place back. May be called again."""
        self.pace.leave(connection)
        self._inside.pop(connection, None)
        self._waiting.pop(connection, None)
        self._unread.pop(connection, None)

    def waits(self, connection: GuardedProtocol) -> None:
        """The connection waits for a request, or for the rest of one."""
        self._waiting.setdefault(connection)

    def works(self, connection: GuardedProtocol) -> None:
        """The connection carries a request that has arrived whole."""
        self._waiting.pop(connection, None)

    def buffers(self) -> None:
        """More of a body has arrived: close the largest one if all together are too large."""
        if sum(connection.buffered for connection in self._waiting) > self.limits.buffered:
            max(self._waiting, key=lambda connection: connection.buffered).drop("bytes")

    def reads(self, connection: GuardedProtocol) -> None:
        """The client has read what there was."""
        self._unread.pop(connection, None)

    def stalls(self, connection: GuardedProtocol) -> None:
        """A client does not read: if all that wait are too much, close the peer's with most."""
        self._unread.setdefault(connection)
        peers: Counter[str] = Counter()
        for each in self._unread:
            peers[each.peer] += each.unread
        if peers.total() > self.limits.unread:
            peer = max(peers, key=peers.__getitem__)
            next(each for each in self._unread if each.peer == peer).drop("answers")

    def shuts_out(self, peer: str) -> bool:
        """Whether a peer has had so many connections cut that new ones are not worth their cost."""
        now = asyncio.get_running_loop().time()
        if now - self._offenses_since >= self.limits.offense_s:
            self._offenses_since = now
            self._offenses.clear()
        return self._offenses[peer] >= self.limits.offenses

    def count(self, reason: str, peer: str) -> None:
        """Count a dropped connection, and tell of it from time to time.

        Args:
            reason: why it was dropped.
            peer: whose it was.
        """
        self._dropped[reason] += 1
        if reason in OFFENSES:
            self._offenses[peer] += 1
        now = asyncio.get_running_loop().time()
        if now - self._reported >= self.limits.report_s:
            self._reported = now
            emit(ServiceEvent.CONNECTIONS_DROPPED, **self._dropped)
            self._dropped.clear()

    def _longest_waiting(self) -> GuardedProtocol | None:
        peers = Counter(connection.peer for connection in self._waiting)
        if not peers:
            return None
        peer = max(peers, key=peers.__getitem__)
        theirs = [connection for connection in self._waiting if connection.peer == peer]
        # Of one peer, whoever has sent nothing goes before whoever has begun a request.
        return next((each for each in theirs if not each.begun), theirs[0])

    def _oldest_of_many(self, newcomer: GuardedProtocol) -> GuardedProtocol | None:
        peers = Counter(connection.peer for connection in self._inside)
        peer = max(peers, key=peers.__getitem__)
        if peers[peer] <= peers[newcomer.peer] + 1:
            return None
        return next(connection for connection in self._inside if connection.peer == peer)


class GuardedProtocol(H11Protocol):
    """uvicorn's connection, with deadlines."""

    def __init__(self, door: Door, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **named)
        self._door = door
        self._limits = door.limits
        self._head: asyncio.TimerHandle | None = None
        self._head_left_s = door.limits.head_s
        self._unread: asyncio.TimerHandle | None = None
        self._pieces = 0
        self.buffered = 0  # bytes of the body that is arriving
        self._next_event = self.conn.next_event
        self.conn.next_event = self._counted_event  # type: ignore[method-assign] # see there
        self.peer = ""
        self.open = True

    @property
    def begun(self) -> bool:
        """Whether the head of a request is here, and its answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def unread(self) -> int:
        """Bytes of the answer that wait for the client to read."""
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, and wait for a request."""
        super().connection_made(transport)
        self.peer = peer_of(self.client[0] if self.client else "")
        if self._door.shuts_out(self.peer):
            self.drop("shut out")
            return
        self._door.enter(self)
        if self.open:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self.open = False
        self._stop_waiting()
        self._cancel_unread()
        self._door.leave(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Read what has arrived, unless it begins a request and the peer has to wait for its turn.

        The bytes of a next request may have come with those of the last one, so that this is called
        after each answer too.
        """
        data = b"" if self.begun else self.conn.trailing_data[0]
        arrived = bool(data)
        if fields_in(data) > self._limits.fields:
            self.drop("fields")
            return
        if arrived and not self._door.pace.may_begin(self):
            self._unset_keepalive_if_required()
            self._pause_head()
            self.flow.pause_reading()
            self._door.waits(self)
            return
        self._read(arrived=arrived)

    def go_on(self) -> None:
        """See ``pace.Waiter``."""
        self.flow.resume_reading()
        self._read(arrived=True)

    def _read(self, *, arrived: bool) -> None:
        """Take what has arrived; the deadline for the head ends with it."""
        try:
            super().handle_events()
        except h11.ProtocolError:  # what came behind an answer that was given early
            self.drop("malformed")
        if not self.open or self.transport.is_closing():
            return
        if not self.begun:
            self._door.waits(self)
            if arrived:  # if nothing did, keep-alive has its own time
                self._wait()
        elif self.cycle.more_body:
            # The application has a deadline for the body. The place is kept until another needs it.
            self._cancel_head()
            self._door.waits(self)
            self._door.buffers()
        else:
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP. It costs as much as a request, and takes no token."""
        self._door.count("malformed", self.peer)
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        """The next request begins to count."""
        self._pieces = self.buffered = 0
        super().on_response_complete()
        if self.open and not self.transport.is_closing() and not self.begun:
            self._door.waits(self)

    def pause_writing(self) -> None:
        """The client does not read as fast as the answer comes."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self._limits.unread_s, self.drop, "unread")
        self._door.stalls(self)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._cancel_unread()
        self._door.reads(self)

    def drop(self, reason: str) -> None:
        """Close without an answer: the peer would not read it, or would take its time."""
        self.open = False
        self._stop_waiting()
        self._door.leave(self)
        self._door.count(reason, self.peer)
        self.transport.abort()

    def _counted_event(self) -> Any:  # noqa: ANN401 - h11's events have no common type
        """The next event of the connection. Each costs much more than the byte that it may hold."""
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._door.pace.began(self.peer)
        elif isinstance(event, h11.EndOfMessage) and len(event.headers) > self._limits.fields:
            self.drop("fields")
            return h11.NEED_DATA
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self.buffered += len(event.data)
            if self._pieces > self._limits.pieces + self.buffered // self._limits.piece_size:
                self.drop("pieces")
                return h11.NEED_DATA
        return event

    def _wait(self) -> None:
        self._door.waits(self)
        if self._head is None:
            self._head = self.loop.call_later(self._head_left_s, self.drop, "slow")

    def _pause_head(self) -> None:
        """Waiting for a turn is nobody's fault, and gives no more time either."""
        if self._head is not None:
            self._head_left_s = max(0.0, self._head.when() - self.loop.time())
            self._head.cancel()
            self._head = None

    def _stop_waiting(self) -> None:
        self._door.works(self)
        self._cancel_head()

    def _cancel_head(self) -> None:
        self._head_left_s = self._limits.head_s
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _cancel_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
