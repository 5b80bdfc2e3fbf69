"""A second signal does not cut what a service still has to do; a third one ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from regalia.cli.progress import termination_interrupts

SERVICE = """
import time
from regalia.host.listen import bind, serve

async def app(scope, receive, send):
    pass

def ready(stop):
    print("ready", flush=True)

serve(app, bind("127.0.0.1:0"), drain_s=1, on_ready=ready)
print("stopped", flush=True)
for _ in range({ticks}):  # as a runtime gives back its lease
    time.sleep(0.05)
print("given back", flush=True)
"""
NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def service(ticks: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SERVICE.format(ticks=ticks)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert line(started) == "ready"
    return started


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("first", NUMBERS)
@pytest.mark.parametrize("second", NUMBERS)
def test_a_second_signal_is_let_pass(first: signal.Signals, second: signal.Signals) -> None:
    with service(ticks=20) as process:
        process.send_signal(first)
        assert line(process) == "stopped"
        process.send_signal(second)
        assert line(process) == "given back"
        assert process.wait() == 0


@pytest.mark.parametrize("number", NUMBERS)
def test_a_third_signal_ends_the_process(number: signal.Signals) -> None:
    with service(ticks=1000) as process:
        process.send_signal(number)
        assert line(process) == "stopped"
        process.send_signal(number)
        threading.Event().wait(0.3)  # signals of one kind are not counted while one waits
        process.send_signal(number)
        assert process.wait() == -number
        assert line(process) == ""


def interrupted(number: signal.Signals, *, more: int) -> list[int]:
    """The numbers of further signals that cut the tidying after the first one."""
    cut = []
    with termination_interrupts():
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            cut.append(1)
        for further in range(2, 2 + more):
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                cut.append(further)
    return cut


@pytest.mark.parametrize("number", NUMBERS)
def test_a_command_tidies_up_at_the_first_of_two_signals(number: signal.Signals) -> None:
    assert interrupted(number, more=1) == [1]
    assert interrupted(number, more=3) == [1, 3, 4]


def test_signals_are_handled_afterwards_as_they_were_before() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with termination_interrupts():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with termination_interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, ignored)
