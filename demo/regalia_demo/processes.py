"""Service processes of the demo: started, awaited, stopped by process id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import httpx

from regalia.core.errors import Code, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

START_LIMIT_S = 120
STOP_LIMIT_S = 15
_POLL_S = 0.1
_LAST_LINES = 6  # of a service's log, when it did not start


class DemoCode(Code):
    """What can keep the demo from running."""

    SERVICE_DID_NOT_START = (
        "The demo needs all of its services.",
        "Read the log file that the message names.",
    )
    DEMO_TOOL_MISSING = (
        "One of the attacks needs this program to be a real attack.",
        "Install the Debian package that the message names.",
    )
    DEMO_STEP_FAILED = (
        "A step of the demo, run as you would type it, did not succeed.",
        "Read the command's own message above.",
    )
    DEMO_FAILED = (
        "Something that Regalia promises did not hold.",
        "Look at the rows of the table that are marked; run again with --keep for the files.",
    )


def free_address() -> str:
    """A loopback address that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass
class DemoService:
    """One running process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    url: str

    @classmethod
    def start(  # noqa: PLR0913 - a process has that many sides, all by name
        cls,
        name: str,
        arguments: list[str],
        *,
        address: str,
        log: Path,
        folder: Path,
        source: Path | None = None,
    ) -> Self:
        """Start ``python -m regalia ARGUMENTS`` on a loopback address.

        Args:
            name: for messages.
            arguments: of the command line.
            address: host:port where /health will answer.
            log: file for standard output and error.
            folder: where it runs.
            source: folder to import ``regalia`` from instead of the installed one.
        """
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if source is not None:
            environment["PYTHONPATH"] = str(source)
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "regalia", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        return cls(name, process, log, f"http://{address}")

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def wait_ready(self) -> None:
        """Return once /health answers. Raises UnavailableError if the process ends before."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=2).status_code == httpx.codes.OK:
                    return
            time.sleep(_POLL_S)
        self.stop()
        raise UnavailableError(
            DemoCode.SERVICE_DID_NOT_START,
            f"{self.name} did not start (exit {self.process.returncode}); {self.log} ends with:\n"
            + "\n".join(self.output().splitlines()[-_LAST_LINES:]),
        )

    def wait_exit(self, limit_s: float = START_LIMIT_S) -> int:
        """Wait for the process to end by itself; returns its exit status."""
        return self.process.wait(limit_s)

    def output(self) -> str:
        """Everything that it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End this process, and only this one."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
