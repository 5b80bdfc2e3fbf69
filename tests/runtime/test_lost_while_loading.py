"""A lease that ends while the model loads, memory that is wiped, and starts that are refused."""

from __future__ import annotations

import resource
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import KeyAccessError, LocalError, UnavailableError, UsageError
from regalia.engines.codes import EngineCode
from regalia.runtime import grant, inprocess, service
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.memory import LockedMemory, MemoryKind
from regalia.runtime.process_end import ProcessEnd
from regalia.store.local import LocalBlobs
from tests.runtime.live_deployment import LEASE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.live_deployment import LiveDeployment

MIB = 1 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.slow
def test_losing_the_lease_stops_the_readers(
    make_live: Callable[..., LiveDeployment],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    live = make_live(policy={"lease_s": LEASE_S})
    keys: list[Any] = []
    reads: list[float] = []
    unwrap, read_into = grant.unwrap, LocalBlobs.read_into

    def watched(*args: Any) -> Any:  # noqa: ANN401
        keys.append(unwrap(*args))
        return keys[-1]

    def slowly(self: LocalBlobs, name: str, offset: int, buffer: memoryview) -> None:
        if name.startswith("shard") and offset > 4096:
            live.between.down = True  # nothing renews from here on
            while live.started[-1].runtime._lost is None:
                time.sleep(0.05)
            reads.append(time.monotonic())
        read_into(self, name, offset, buffer)

    monkeypatch.setattr(grant, "unwrap", watched)
    monkeypatch.setattr(LocalBlobs, "read_into", slowly)
    running = live.start()
    running.join()
    assert isinstance(running.error, KeyAccessError)
    assert running.error.code is RuntimeCode.LEASE_LOST
    assert running.runtime.workload.size > 0, "it had begun"
    assert running.runtime.workload.wiped
    assert bytes(keys[0]._buf) == bytes(32)
    lines = [line for line in capfd.readouterr().err.splitlines() if '"runtime.' in line]
    names = [line.split('"event": "')[1].split('"')[0] for line in lines]
    assert names.index("runtime.lease.lost") < names.index("runtime.wiped")
    assert names.count("runtime.wiped") == 1
    assert "runtime.model.loaded" not in names
    before = len(reads)
    time.sleep(1)
    assert len(reads) == before, "the readers have ended"


def test_a_key_that_is_closed_under_the_loader_is_told_as_the_lost_lease(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[Any] = []
    load = inprocess.load

    def lose_first(config: Any, source: Any, *rest: Any) -> Any:  # noqa: ANN401
        runtime = live.started[-1].runtime
        runtime._lose("the test says so")
        running.append(runtime)
        return load(config, source, *rest)

    monkeypatch.setattr(inprocess, "load", lose_first)
    error = live.start()
    error.join()
    assert isinstance(error.error, KeyAccessError)
    assert error.error.code is RuntimeCode.LEASE_LOST
    assert running[0].workload.size == 0, "nothing was allocated any more"


def test_a_process_that_does_not_end_is_ended(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LEAVE_S", 0.1)
    left = threading.Event()
    statuses: list[int] = []
    running = live.start()

    class Ending(ProcessEnd):
        def __init__(self) -> None:
            """Leave the signals of this process alone."""

        @staticmethod
        def now(status: int) -> None:
            statuses.append(status)
            left.set()

        @staticmethod
        def never() -> None:
            pytest.fail("a process whose lease was lost may not take its time")

    running.runtime._ending = Ending()
    running.runtime._lose("the test says so")
    assert left.wait(5)
    assert statuses == [7]
    running.join()
    assert any("LEASE_LOST" in line for line in running.shown)


# -- memory ----------------------------------------------------------------------------------


def test_wiping_touches_only_what_was_written() -> None:
    memory = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=True)
    view = memory.allocate(256 * MIB)
    if not memory.locked:
        pytest.skip("memory of this size cannot be locked here")
    page = 4096
    view[5 * page] = view[70 * page] = view[71 * page + 1] = view[256 * MIB - 1] = 7
    before = resident()
    memory.wipe()
    assert resident() - before < 16 * MIB
    assert memory.wiped


def test_memory_that_is_not_locked_is_overwritten_whole() -> None:
    memory = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=True)
    view = memory.allocate(MIB)
    view[:] = b"x" * MIB
    memory.locked = False
    memory.wipe()
    assert memory.wiped


def test_closed_memory_takes_no_more() -> None:
    memory = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=True)
    memory.allocate(MIB)[0] = 1
    memory.close()
    assert memory.wiped
    with pytest.raises(KeyAccessError):
        memory.allocate(MIB)


# -- refused before the key is asked for -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[engine]\noptions = { treads = 1 }", EngineCode.ENGINE_OPTION_UNKNOWN),
        ('[engine]\nname = "nope"', None),
    ],
)
def test_an_engine_that_cannot_be_had(
    text: str, code: EngineCode | None, live: LiveDeployment
) -> None:
    error = live.refused(text=text)
    assert isinstance(error, UsageError)
    assert code is None or error.code is code
    assert live.between.releases == 0


def test_libraries_that_are_not_installed(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    error = live.refused()
    assert error.code is EngineCode.ENGINE_NOT_INSTALLED
    assert live.between.releases == 0


def test_memory_that_cannot_be_had(live: LiveDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: LockedMemory, size: int) -> memoryview:
        raise LocalError(RuntimeCode.MEMORY_NOT_LOCKABLE, f"{size} bytes")

    monkeypatch.setattr(LockedMemory, "allocate", refuse)
    assert live.refused().code is RuntimeCode.MEMORY_NOT_LOCKABLE
    assert live.between.releases == 0


# -- a busy broker ---------------------------------------------------------------------------


def busy(times: int, live: LiveDeployment) -> list[int]:
    """Let the broker say for a while that it has too much to do."""
    asked: list[int] = []
    answer = type(live.between).__call__

    async def refuse_first(self: Any, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        asked.append(1)
        if len(asked) > times:
            await answer(self, scope, receive, send)
            return
        body = b'{"code":"BROKER_BUSY","fix":"","log":null,"reasons":[],"what":"many","why":""}'
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    live.between.__class__ = type("Busy", (type(live.between),), {"__call__": refuse_first})
    return asked


def test_a_busy_broker_is_asked_again(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grant, "BUSY_PAUSES_S", (0.01, 0.01, 0.01))
    busy(2, live)
    running = live.start()
    assert running.error is None
    told = [line for line in running.shown if "asking again" in line]
    assert len(told) == 2
    assert "BROKER_BUSY" in told[0]


def test_a_broker_that_stays_busy_is_given_up(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grant, "BUSY_PAUSES_S", (0.01, 0.01))
    asked = busy(100, live)
    error = live.refused()
    assert isinstance(error, UnavailableError)
    assert len(asked) == 3
