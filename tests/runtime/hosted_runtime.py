"""Runtimes whose engine runs in processes of its own, and what is left of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regalia.runtime.hosted import shared_memory
from regalia.runtime.hosted.workload import Hosted
from tests.runtime.live_deployment import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.live_deployment import LiveDeployment, Running

    Start = Callable[..., tuple[LiveDeployment, Running]]

SHARED = shared_memory.FOLDER


def start_echo(
    make_live: Callable[..., LiveDeployment],
    mode: str = "serves",
    workers: int = 1,
    more: str = "",
    attempts: int = 0,
    **options: Any,  # noqa: ANN401
) -> tuple[LiveDeployment, Running]:
    """A deployment, and a runtime with the test's own engine.

    Args:
        make_live: makes the deployment.
        mode: of the engine.
        workers: number of its workers.
        more: lines of the configuration that stand before its sections.
        attempts: how often the engine may be started again.
        options: of the deployment.
    """
    live = make_live(**options)
    text = (
        f"{more}\n[engine]\nname = 'echo'\noptions = {{mode = '{mode}', workers = {workers}}}"
        f"\n[restart]\nattempts = {attempts}\npause_s = 0\n"
    )
    return live, live.start(text=text, within_s=60)


def hosted(running: Running) -> Hosted:
    """The runtime's workload."""
    workload = running.runtime.workload
    assert isinstance(workload, Hosted)
    return workload


def members(running: Running) -> set[int]:
    """Processes of the engine's present life."""
    processes = hosted(running).life.processes
    return set() if processes is None else processes.members()


def left_behind() -> list[Path]:
    """What engines of this process have left in memory files."""
    mine = shared_memory.prefix_of(os.getpid())
    return [
        *SHARED.glob(f"{mine}*"),
        *SHARED.glob(f"regalia-engine-{os.getpid()}-*"),
    ]


def chat(live: LiveDeployment, running: Running, **more: Any) -> Any:  # noqa: ANN401
    """One answer, through the sealed channel."""
    with client(live, running.url) as asker:
        messages: Any = [{"role": "user", "content": "hello"}]
        return asker.chat.completions.create(model="tiny", messages=messages, extra_body=more)


def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait for a condition, which has to become true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it does not become true"
        time.sleep(0.02)


def alive(pids: set[int]) -> set[int]:
    """Those of some processes that still exist."""
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}
