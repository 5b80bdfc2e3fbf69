"""The kernel ends a process whose threads cannot: nothing of a lease outlives it for long."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from regalia.runtime.process_end import STATUS

# One call of a library, of some minutes: all other threads stand still.
_STUCK = """
import re, signal
from regalia.runtime.process_end import ProcessEnd
{before}
end = ProcessEnd()
end.after(0.1)
re.match("(a|aa)+$", "a" * 60 + "b")
"""


def run(before: str) -> int:
    code = _STUCK.format(before=before)
    return subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode


@pytest.mark.parametrize(
    "before",
    [
        "",
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})",
    ],
)
def test_a_process_that_stands_still_is_ended(before: str) -> None:
    assert run(before) == STATUS


def test_the_first_process_of_a_container_is_ended_too() -> None:
    """The kernel does not end it for a signal whose action is the default one."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is absent: install util-linux")
    code = _STUCK.format(before="")
    command = [unshare, "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c", code]
    done = subprocess.run(command, timeout=60, check=False, capture_output=True)
    if b"unshare" in done.stderr:
        pytest.skip(f"no PID namespace can be made here: {done.stderr.decode()[:80]}")
    assert done.returncode == STATUS


def test_a_renewal_moves_the_end() -> None:
    then = "end.after(3600); import os; threading.Timer(1.5, lambda: os._exit(3)).start()"
    code = "import threading, time\nfrom regalia.runtime.process_end import ProcessEnd\n"
    code += f"end = ProcessEnd()\nend.after(0.1)\n{then}\ntime.sleep(60)"
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 3


def test_after_the_wipe_it_may_take_its_time() -> None:
    code = "import time\nfrom regalia.runtime.process_end import ProcessEnd\n"
    code += "end = ProcessEnd()\nend.after(0.1)\nend.never()\ntime.sleep(1.5)\nend.now(4)"
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 4
