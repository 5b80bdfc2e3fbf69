"""All processes of an engine are known and end, however they try to get away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import UnavailableError
from regalia.engines.hosted import Command
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime.hosted import processes as hosted_processes
from regalia.runtime.hosted import shared_memory
from regalia.runtime.hosted.child import CHILD_VARIABLE
from regalia.runtime.hosted.processes import EngineProcesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[[str], EngineProcesses]

ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.defpath}
# Each writes the numbers of its processes, one a line.
SAY = "import os, sys, time, signal\ndef say(): os.write(1, b'%d\\n' % os.getpid())\n"
SLEEP = "time.sleep(600)\n"


@pytest.fixture
def ends() -> list[str]:
    return []


@pytest.fixture
def start(ends: list[str]) -> Iterator[Start]:
    started: list[EngineProcesses] = []

    def begin(script: str) -> EngineProcesses:
        command = Command((sys.executable, "-u", "-c", SAY + script), ENVIRONMENT)
        engine = EngineProcesses(command, ends.append)
        started.append(engine)
        engine.start()
        engine.go_on()
        return engine

    yield begin
    for engine in started:
        assert engine.kill()


def said(engine: EngineProcesses, count: int) -> list[int]:
    """Numbers of processes, once so many have said theirs."""
    deadline = time.monotonic() + 20
    while len(lines := list(engine._lines)) < count:
        assert time.monotonic() < deadline, lines
        time.sleep(0.02)
    return [int(line) for line in lines]


def lives(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


FORK = "if os.fork() == 0:\n    {do}\n    say()\n    " + SLEEP
ESCAPES = {
    "no way": FORK.format(do="pass"),
    "a session of its own": FORK.format(do="os.setsid()"),
    "a group of its own": FORK.format(do="os.setpgid(0, 0)"),
    "deaf": FORK.format(do="[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 15)]"),
    "an orphan": FORK.format(do="os.fork() and os._exit(0)"),
    "an orphan in a session of its own": FORK.format(do="os.setsid(); os.fork() and os._exit(0)"),
    "an orphan twice, in sessions of its own": FORK.format(
        do="os.setsid(); os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0)"
    ),
    "another program, without environment": (
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n    say()\n"
        "    os.execve('/bin/sleep', ['x) S 1 1 1 (y', '600'], {})\n"
    ),
    "a child in a session of its own, of an orphan": (
        "if os.fork() == 0:\n    if os.fork(): os._exit(0)\n    if os.fork() == 0:\n"
        "        os.setsid()\n        say()\n    " + SLEEP
    ),
}


@pytest.mark.parametrize("how", ESCAPES)
def test_no_process_gets_away(start: Start, how: str, ends: list[str]) -> None:
    engine = start(ESCAPES[how] + "say()\n" + SLEEP)
    pids = said(engine, 2)
    assert set(pids) <= engine.members()
    assert all(engine.contains(pid) for pid in pids)
    assert engine.kill()
    assert not any(map(lives, pids))
    assert engine.members() == set()
    time.sleep(0.05)
    assert ends == ["its first process ended with signal 9"]


@pytest.mark.parametrize("how", ESCAPES)
def test_processes_are_found_after_the_first_has_ended(start: Start, how: str) -> None:
    engine = start(ESCAPES[how] + "time.sleep(0.3)\nsay()\n")
    pids = said(engine, 2)
    deadline = time.monotonic() + 10
    while not engine.ended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (left,) = [pid for pid in pids if lives(pid)]
    assert engine.members() >= {left}
    assert engine.kill()
    assert not lives(left)


def test_a_process_that_multiplies(start: Start) -> None:
    script = "while True:\n    if os.fork() == 0:\n        time.sleep(0.005)\n    say()\n"
    engine = start(script.replace("while True", "for n in range(7)") + SLEEP)
    said(engine, 30)
    began = time.monotonic()
    assert engine.kill()
    assert time.monotonic() - began < 10
    assert engine.members() == set()


def test_processes_of_others_are_none_of_the_engines(start: Start) -> None:
    sleep = ["/bin/sleep", "600"]
    before = subprocess.Popen(sleep, start_new_session=True)
    engine = start("say()\n" + SLEEP)
    said(engine, 1)
    after = subprocess.Popen(sleep)
    try:
        members = engine.members()
        assert not members & {before.pid, after.pid, os.getpid(), os.getppid(), 1}
        assert engine.kill()
        assert before.poll() is None
        assert after.poll() is None
    finally:
        for each in (before, after):
            each.kill()
            each.wait()


def test_two_engines_are_told_from_each_other(start: Start) -> None:
    one, other = (start(ESCAPES["no way"] + "say()\n" + SLEEP) for _ in range(2))
    pids = said(one, 2), said(other, 2)
    assert one.members() == set(pids[0])
    assert other.members() == set(pids[1])
    assert one.kill()
    assert all(map(lives, pids[1]))


def test_a_number_that_is_used_again_is_another_process(start: Start) -> None:
    engine = start("say()\n" + SLEEP)
    said(engine, 1)
    engine._known[os.getppid()] = 5
    assert os.getppid() not in engine.members()


def test_nothing_is_left_to_reap(start: Start) -> None:
    engine = start(ESCAPES["an orphan in a session of its own"] + "say()\n" + SLEEP)
    pids = said(engine, 2)
    assert engine.kill()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids if pid != engine._first.pid)


def test_what_it_is_given(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_RUNTIME", "1")
    engine = start("say()\nprint(sorted(os.environ))\nprint(os.listdir('/proc/self/fd'))\n" + SLEEP)
    deadline = time.monotonic() + 20
    while len(engine._lines) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    _, environment, files = engine._lines
    assert "SECRET_OF_THE_RUNTIME" not in environment
    assert CHILD_VARIABLE in environment
    assert files == "['0', '1', '2', '3']", "the last one lists them"
    assert Path(f"/proc/{engine._first.pid}/fd/0").readlink() == Path("/dev/null")


def test_a_deaf_process_is_killed(start: Start) -> None:
    deaf = start("signal.signal(15, signal.SIG_IGN)\nsay()\n" + SLEEP)
    said(deaf, 1)
    assert deaf.kill()
    assert deaf.members() == set()


def test_what_cannot_be_killed_is_said(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start("say()\n" + SLEEP)
    said(engine, 1)
    with monkeypatch.context() as patch:
        patch.setattr(hosted_processes, "KILL_S", 0.1)
        patch.setattr(os, "kill", lambda _pid, _signal: None)
        assert not engine.kill()
    assert engine.kill()


def test_a_program_that_does_not_exist(ends: list[str]) -> None:
    engine = EngineProcesses(Command(("/nonexistent/program",), ENVIRONMENT), ends.append)
    engine.start()
    engine.go_on()
    deadline = time.monotonic() + 10
    while not engine.ended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    error = engine.failure("it ended")
    assert isinstance(error, UnavailableError)
    assert error.code is HostedCode.ENGINE_PROCESS_FAILED
    assert engine.kill()


def test_before_it_is_started_it_has_no_processes() -> None:
    engine = EngineProcesses(Command(("x",), {}), lambda _: None)
    assert engine.members() == set()
    assert not engine.contains(os.getpid())
    assert engine.kill()


def test_output_is_bounded_printable_and_forgotten(start: Start) -> None:
    engine = start(
        "sys.stdout.buffer.write(b'\\x1b[2J\\xff' + b'x' * (1 << 20) + b'\\n')\n"
        "print('ValueError: the cause')\n[print('line', n) for n in range(2000)]\nsay()\n" + SLEEP
    )
    deadline = time.monotonic() + 20
    while not any(line.isdecimal() for line in list(engine._lines)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(engine._lines) <= hosted_processes._LINES
    assert all(len(line) <= 300 and line.isprintable() for line in engine._lines)
    assert len(str(engine.failure("x"))) < 5000
    engine.forget_output()
    assert "line" not in str(engine.failure("x"))


def test_it_dies_with_this_process(tmp_path: Path) -> None:
    out = tmp_path / "pids"
    inner = f"import os, time; open({str(out)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    script = (
        "import os, sys, time\n"
        "from regalia.engines.hosted import Command\n"
        "from regalia.runtime.hosted.processes import EngineProcesses\n"
        f"inner = {inner!r}\n"
        "command = Command((sys.executable, '-c', inner), dict(os.environ))\n"
        "engine = EngineProcesses(command, print)\n"
        "engine.start()\n"
        "engine.go_on()\n"
        "time.sleep(600)\n"
    )
    runtime = subprocess.Popen([sys.executable, "-c", script], env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 20
        while not (out.exists() and out.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pid = int(out.read_text())
        assert lives(pid)
        runtime.send_signal(signal.SIGKILL)
        runtime.wait()
        while lives(pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        runtime.kill()
        runtime.wait()


def test_shared_memory_of_the_engine_is_removed_when_all_are_gone(start: Start) -> None:
    prefix = shared_memory.prefix_of(os.getpid())
    engine = start(f"open('/dev/shm/{prefix}left', 'w').close()\nsay()\n" + SLEEP)
    said(engine, 1)
    assert list(shared_memory.FOLDER.glob(f"{prefix}*"))
    assert engine.kill()
    assert not list(shared_memory.FOLDER.glob(f"{prefix}*"))


# Before the model is there


@pytest.fixture
def waiting(ends: list[str], tmp_path: Path) -> Iterator[Callable[..., EngineProcesses]]:
    started: list[EngineProcesses] = []

    def begin(script: str, *preload: str) -> EngineProcesses:
        (tmp_path / "program.py").write_text(SAY + script)
        (tmp_path / "library.py").write_text(SAY + "say()\n")
        (tmp_path / "broken.py").write_text("raise ImportError('no such library')\n")
        path = os.pathsep.join((str(tmp_path), ENVIRONMENT["PYTHONPATH"]))
        argv = (sys.executable, "-m", "program", "--argument")
        command = Command(argv, {**ENVIRONMENT, "PYTHONPATH": path}, preload)
        engine = EngineProcesses(command, ends.append)
        started.append(engine)
        engine.start()
        return engine

    yield begin
    for engine in started:
        assert engine.kill()


def test_libraries_are_imported_before_the_program_may_run(
    waiting: Callable[..., EngineProcesses],
) -> None:
    script = (
        "import library\nsay()\nprint(__name__, sys.argv[1:], sys.stdin.read(), flush=True)\n"
        + SLEEP
    )
    engine = waiting(script, "library")
    (early,) = said(engine, 1)
    time.sleep(0.2)
    assert len(engine._lines) == 1, "the program does not run yet"
    engine.go_on()
    deadline = time.monotonic() + 20
    while len(engine._lines) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert list(engine._lines)[1:] == [str(early), "__main__ ['--argument']"]


def test_a_program_without_libraries_waits_as_well(
    waiting: Callable[..., EngineProcesses],
) -> None:
    engine = waiting("say()\n" + SLEEP)
    time.sleep(0.5)
    assert list(engine._lines) == []
    engine.go_on()
    assert len(said(engine, 1)) == 1


def test_a_first_process_that_nobody_lets_go_on_ends_with_its_input(
    waiting: Callable[..., EngineProcesses], ends: list[str]
) -> None:
    engine = waiting("say()\n", "library")
    said(engine, 1)
    assert engine._first is not None
    assert engine._first.stdin is not None
    engine._first.stdin.close()
    deadline = time.monotonic() + 10
    while not engine.ended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert ends == ["its first process ended with status 1"]
    assert len(engine._lines) == 1, "the program never ran"


def test_a_library_that_does_not_import_is_told(waiting: Callable[..., EngineProcesses]) -> None:
    engine = waiting("say()\n", "broken")
    deadline = time.monotonic() + 10
    while not engine.ended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(UnavailableError, match="no such library") as caught:
        engine.go_on()
    assert caught.value.code is HostedCode.ENGINE_PROCESS_FAILED
