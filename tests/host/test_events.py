"""Events never hold up what they report, and say how many of them were lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from regalia.host.events import LINES_PER_S, ServiceEvent, emit

MANY = 20_000
PROGRAM = f"""
import sys
from regalia.host.events import ServiceEvent, emit
for number in range({MANY}):
    emit(ServiceEvent.WIPED, bytes=number)
print("done", flush=True)
sys.stdin.readline()
emit(ServiceEvent.SERVICE_STOPPED, service="test")
"""
TIMEOUT = 60


def lines_of(data: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in data.splitlines()]


def output_with(errors: int) -> bytes:
    """What the program prints, with its standard error going there."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=b"\n",
        stdout=subprocess.PIPE,
        stderr=errors,
        timeout=TIMEOUT,
        check=True,
    ).stdout


def test_a_reader_that_stops_holds_nothing_up() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"done\n", "although nobody reads its errors"
        errors = os.read(process.stderr.fileno(), 1 << 20)  # so that the last event has room
        _, rest = process.communicate(b"\n", timeout=TIMEOUT)
        errors += rest
    *events, dropped, last = lines_of(errors)
    assert last["event"] == "service.stopped"
    assert dropped["event"] == "service.events.dropped"
    assert [event["bytes"] for event in events] == list(range(len(events))), "in order and whole"
    assert dropped["count"] == MANY - len(events)


def test_a_stopped_terminal_holds_nothing_up() -> None:
    """As after Ctrl-S, or in a session that froze: nobody reads, and the terminal seems ready."""
    controller, terminal = os.openpty()
    try:
        output = output_with(terminal)
        seen = os.read(controller, 1 << 16)
    finally:
        os.close(controller)
        os.close(terminal)
    assert output == b"done\n"
    assert json.loads(seen.splitlines()[0])["event"] == "runtime.wiped"


def test_what_peers_cause_is_bounded(capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(LINES_PER_S * 20):
        emit(ServiceEvent.REQUEST_REFUSED, code="X")
    emit(ServiceEvent.SERVICE_STOPPED, service="test")
    *refused, dropped, last = lines_of(capfd.readouterr().err.encode())
    assert last["event"] == "service.stopped"
    assert dropped["event"] == "service.events.dropped"
    assert len(refused) < LINES_PER_S * 10
    counts = [event["count"] for event in [*refused, dropped] if "count" in event]
    kept = [event for event in refused if event["event"] == "runtime.request.refused"]
    assert len(kept) + sum(int(str(count)) for count in counts) == LINES_PER_S * 20


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_nowhere_to_write(how: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {how}', sys.executable, PROGRAM],
        input=b"\n",
        stdout=subprocess.PIPE,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout == b"done\n"


def test_a_reader_that_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        output = output_with(writer)
    finally:
        os.close(writer)
    assert output == b"done\n"


def test_one_line_for_each_event(capfd: pytest.CaptureFixture[str]) -> None:
    emit(ServiceEvent.SERVICE_STARTED, service="a\nb\ud800", codes=["x"] * 2000)
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["service"] == "a\nb\ud800"


@pytest.mark.parametrize("value", [b"bytes", object(), [1], {"a": 1}])
def test_what_is_not_logged(value: object) -> None:
    with pytest.raises(TypeError):
        emit(ServiceEvent.WIPED, bytes=value)  # type: ignore[arg-type]
