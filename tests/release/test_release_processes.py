"""``regalia broker`` and ``regalia serve`` as their operators run them, on other TEEs than SEV-SNP.

Real processes, their configuration files, plug-ins by name, a policy that was pinned and signed by
command, a client that holds its own policy; a tiny model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from regalia.client.transport import RegaliaTransport
from regalia.client.trust import load_trust
from regalia.client.verify import verify_runtime
from regalia.wire.release import device_names
from regalia_testing.models import tiny_llama
from tests.release.deployments import MachineDeployment
from tests.runtime.live_deployment import SealedDeployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.runtime.keys import RuntimeKeys
    from regalia_testing.machines import SimulatedMachine
    from tests.broker.harness import Shared

pytestmark = pytest.mark.slow
START_S = 120


class SealedMachineDeployment(MachineDeployment):
    """With a sealed model that can be loaded."""

    make_manifest = SealedDeployment.make_manifest

    def __init__(
        self,
        folder: Path,
        shared: Shared,
        keys: RuntimeKeys,
        machine: SimulatedMachine,
        model: Path,
    ) -> None:
        self.model, self.sealed = model, folder / "sealed"
        super().__init__(folder, shared, keys, machine)


def regalia(*args: object) -> list[str]:
    return [sys.executable, "-m", "regalia", *(str(item) for item in args), "--json"]


def run(*args: object, status: int = 0) -> Any:  # noqa: ANN401 - JSON
    done = subprocess.run(
        regalia(*args), capture_output=True, text=True, check=False, timeout=START_S
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(errors: Path, *args: object) -> Iterator[dict[str, Any]]:
    """A service, until the end of the block; gives the facts that it prints when it is ready."""
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            regalia(*args),
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, errors.read_text()
        facts: dict[str, Any] = json.loads(line)["serving"]
        yield facts
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


class Site:
    """The files of owner, broker operator, runtime operator and client."""

    def __init__(self, deployment: SealedMachineDeployment, folder: Path) -> None:
        self.deployment, self.folder = deployment, folder
        self.collateral, self.roots = deployment.machine.write(folder)
        self.verify_with = ("--collateral", self.collateral)
        self.verify_with += ("--dangerous-simulated-anchor", self.roots)
        (folder / "measured.json").write_bytes(deployment.runtime_config().encode())
        owner = deployment.shared.owner
        (folder / "owner.key").write_bytes(owner.to_pem(None))
        (folder / "owner.key").chmod(0o600)
        (folder / "owner.pub").write_bytes(owner.verify_key.to_pem())

    def runtime(self, broker: str, *, defects: str = "") -> Path:
        path = self.folder / f"runtime{bool(defects)}.toml"
        settings = {
            "store": str(self.deployment.sealed),
            "broker": broker,
            "measured_config": "measured.json",
            "listen": "127.0.0.1:0",
            "served_name": "tiny",
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        lines += ["dangerous_simulated_tee = true", self.deployment.machine.section() + defects]
        path.write_text("\n".join(lines) + "\n")
        return path

    def pin(self) -> None:
        """The owner's two policies, from the runtime's own evidence."""
        source = self.folder / "evidence.json"
        facts = run(
            *("serve", "--config", self.runtime("http://127.0.0.1:9"), "--evidence-only", source)
        )
        assert facts["model_id"] == str(self.deployment.model_id)
        run(
            *("policy", "pin", "--evidence", source, "--challenge", facts["report_data"]),
            *("--model", self.deployment.sealed, "--signer", self.folder / "owner.pub"),
            *("--sign", self.folder / "owner.key", "--out", self.folder / "policy.json"),
            *("--client-out", self.folder / "client.json", "--pin-chip", *self.verify_with),
            *("--revocation", self.deployment.machine.revocation),
        )

    def broker(self) -> Path:
        config = self.deployment.write_config(
            self.folder / "broker",
            **{
                "attest.collateral": json.dumps(str(self.collateral)),
                "attest.dangerous_simulated_anchor": json.dumps(str(self.roots)),
            },
        )
        (config.parent / "policy.json").write_bytes((self.folder / "policy.json").read_bytes())
        return config


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(params=["tdx", "sev-snp+gpus+switches"])
def site(  # noqa: PLR0917 - fixtures
    request: pytest.FixtureRequest,
    machine_of: Callable[[str], SimulatedMachine],
    shared: Shared,
    keys: RuntimeKeys,
    tiny: Path,
    tmp_path: Path,
) -> Iterator[Site]:
    deployment = SealedMachineDeployment(tmp_path, shared, keys, machine_of(request.param), tiny)
    (tmp_path / "site").mkdir()
    yield Site(deployment, tmp_path / "site")
    deployment.close()


def test_pin_release_serve_and_chat(site: Site) -> None:
    site.pin()
    with ExitStack() as stack:
        config = site.broker()
        facts = stack.enter_context(
            running(site.folder / "broker.err", "broker", "serve", "--config", config)
        )
        broker = f"http://{facts['listen']}"
        refused = run(
            *("serve", "--config", site.runtime(broker, defects="defects = {debug = true}\n")),
            status=6,
        )
        assert refused["error"]["code"] == "RELEASE_DENIED"
        assert "DEBUG_ENABLED" in json.dumps(refused)

        facts = stack.enter_context(
            running(site.folder / "runtime.err", "serve", "--config", site.runtime(broker))
        )
        url = f"http://{facts['listen']}"
        trust = load_trust(
            site.folder / "client.json",
            collateral=site.collateral,
            dangerous_simulated_anchor=site.roots,
        )
        with httpx.HTTPTransport() as inner:
            runtime = verify_runtime(inner, httpx.URL(url), trust)
        machine = site.deployment.machine
        assert runtime.claims.tee is machine.tee
        assert runtime.logged is not None
        record = runtime.logged.record
        assert (record.tee, record.hardware) == (machine.tee, "simulated")
        assert record.devices == device_names(site.deployment.claims.devices)
        with httpx.Client(transport=RegaliaTransport(url, trust)) as http:
            chat = openai.OpenAI(
                base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0
            )
            answer = chat.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "Hello"}], max_tokens=4
            )
        assert answer.usage is not None
        assert answer.usage.completion_tokens
