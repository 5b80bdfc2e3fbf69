"""Starts an engine again that has ended by itself: some times, with pauses, and not for ever.

Nothing of the engine that ended is used again, and no key was kept for it. Each start asks the
broker with fresh evidence, so whoever was denied meanwhile stays without a key.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import chain, repeat
from typing import TYPE_CHECKING, TypeVar

from regalia.core.errors import RegaliaError, UnavailableError
from regalia.engines.hosted_codes import HostedCode
from regalia.host.events import ServiceEvent, emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.runtime.config import RestartSection

T = TypeVar("T")
PAUSE_MAX_S = 60.0
_ASK_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
_DOUBLINGS_MAX = 16  # more would be longer than the longest pause in any case


class Restarts:
    """Keeps an engine running.

    Args:
        settings: how often, and with which pauses.
        start: gets the key and starts the engine; raises RegaliaError. What it left of a start that
            failed is wiped.
        on_given_up: called once, from a thread of this class, when the engine stays ended; its
            argument is why.
    """

    def __init__(
        self,
        settings: RestartSection,
        start: Callable[[], None],
        on_given_up: Callable[[RegaliaError], None],
    ) -> None:
        self._settings = settings
        self._start = start
        self._on_given_up = on_given_up
        self._failures: deque[float] = deque()  # monotonic times, within the window
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def engine_failed(self, why: str) -> None:
        """Start the engine again, in a thread. Call it when all of the engine is wiped.

        Args:
            why: it ended.
        """
        with self._lock:
            if not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, args=(why,), daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Begin no start any more. One that runs fails, once what it makes is wiped."""
        with self._lock:
            self._stopped.set()

    def join(self, seconds: float) -> None:
        """Wait until no start runs any more, or so many ``seconds``."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def ask(self, broker: Callable[[], T], require_lease: Callable[[], None]) -> T:
        """Ask a broker that may be busy or away, again and again while the lease lasts.

        Args:
            broker: is asked, and raises UnavailableError if it cannot answer.
            require_lease: raises once the lease is lost.

        Raises:
            UnavailableError: the runtime ends.
            RegaliaError: of ``require_lease``, or what else ``broker`` raises.
        """
        pauses = chain(_ASK_PAUSES_S, repeat(_ASK_PAUSES_S[-1]))
        while True:
            require_lease()
            try:
                answer = broker()
            except UnavailableError as exc:
                pause_s = next(pauses)
                emit(ServiceEvent.BROKER_BUSY, again_s=pause_s)
                if self._stopped.wait(pause_s):
                    raise UnavailableError(exc.code, exc.what) from exc
            else:
                if self._stopped.is_set():
                    raise _failed("the runtime has ended")
                return answer

    def _run(self, why: str) -> None:
        while True:
            pause_s = self._pause()
            if pause_s is None:
                self._give_up(self._too_often(why))
                return
            attempt = len(self._failures)
            emit(ServiceEvent.ENGINE_RESTARTING, attempt=attempt, in_s=pause_s)
            if self._stopped.wait(pause_s):
                return
            began = time.monotonic()
            try:
                self._start()
            except UnavailableError as exc:
                why = exc.what
                if not self._stopped.is_set():
                    emit(ServiceEvent.ENGINE_ENDED, why=why)
            except RegaliaError as exc:
                self._give_up(exc)
                return
            except Exception as exc:  # noqa: BLE001 - a runtime that never serves again must end
                self._give_up(_failed(f"{type(exc).__name__} while it was started again"))
                return
            else:
                seconds = round(time.monotonic() - began, 3)
                emit(ServiceEvent.ENGINE_RESTARTED, attempt=attempt, seconds=seconds)
                return

    def _pause(self) -> float | None:
        """Seconds before the next start; None if there were too many."""
        now = time.monotonic()
        while self._failures and now - self._failures[0] > self._settings.window_s:
            self._failures.popleft()
        if len(self._failures) >= self._settings.attempts:
            return None
        self._failures.append(now)
        doublings = min(len(self._failures) - 1, _DOUBLINGS_MAX)
        return min(float(self._settings.pause_s << doublings), PAUSE_MAX_S)

    def _too_often(self, why: str) -> UnavailableError:
        count, window_s = len(self._failures), self._settings.window_s
        return _failed(f"{why}; it was started again {count} times within {window_s} s")

    def _give_up(self, error: RegaliaError) -> None:
        if not self._stopped.is_set():
            emit(ServiceEvent.ENGINE_GIVEN_UP, code=error.code.name)
            self._on_given_up(error)


def _failed(what: str) -> UnavailableError:
    return UnavailableError(HostedCode.ENGINE_PROCESS_FAILED, what)
