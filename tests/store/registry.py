"""Starts a real registry, docker-registry of Debian, on loopback: one process, in a folder."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_S = 30.0
_SETTINGS = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}}}
"""
_HTPASSWD = "auth: {{htpasswd: {{realm: tests, path: {path}}}}}\n"


@dataclass(frozen=True)
class Registry:
    """A running registry."""

    host: str
    root: Path

    def address(self, repository: str, version: str = "") -> str:
        return f"oci://{self.host}/{repository}{version}"


@contextmanager
def running(folder: Path, *, htpasswd: str = "") -> Iterator[Registry]:
    """Start it, and end it by its process id. Skips where the package is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is absent: apt-get install docker-registry")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    folder.mkdir(parents=True, exist_ok=True)
    settings = _SETTINGS.format(root=folder / "data", port=port)
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
        settings += _HTPASSWD.format(path=folder / "htpasswd")
    (folder / "config.yml").write_text(settings)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")], stdout=log, stderr=log, cwd=folder
        )
    try:
        _wait(port, process, folder / "log")
        yield Registry(f"127.0.0.1:{port}", folder / "data")
    finally:
        process.kill()
        process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False, timeout=2)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"no answer in {START_S} s")
