"""The files that the how-to on pinning reference values starts from, of simulated machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.crypto.sign import SigningKey
from regalia.host.localfs import os_errors, write_new
from regalia.wire.runtime_config import FORMAT, Placement, RuntimeConfig
from regalia_testing.machines import MACHINES
from regalia_testing.tees.intel.quotes import pem_chain

if TYPE_CHECKING:
    from pathlib import Path

_SETTINGS = """\
listen = "127.0.0.1:0"
store = "store"
broker = "http://127.0.0.1:9"
measured_config = "measured.json"
dangerous_simulated_tee = true

"""


def write_pin_files(folder: Path) -> None:
    """A TDX machine with a runtime's configuration, its bare quote, and a GPU.

    Raises:
        LocalError: the folder is there, or cannot be written.
    """
    with os_errors(folder):
        folder.mkdir()
    owner = SigningKey.generate_ed25519().verify_key
    config = _config(str(owner.fingerprint))
    machine = MACHINES["tdx"](folder / "machine/machine")
    machine.write(folder / "machine")
    gpus = MACHINES["sev-snp+gpus"](folder / "gpus/machine")
    gpus.write(folder / "gpus")
    evidence = machine.open().collect(bytes(range(64)), config)
    device = gpus.open().collect_devices(bytes(range(32)))[0]
    for name, data in {
        "owner.pub": owner.to_pem(),
        "measured.json": config,
        "runtime.toml": (_SETTINGS + machine.section()).encode(),
        "quote.bin": evidence.report,
        "ccel.bin": evidence.event_log,
        "gpu.txt": device.report.hex().encode(),
        "gpu-chain.pem": pem_chain(*device.endorsements),
    }.items():
        write_new(folder / name, data)


def _config(owner_key: str) -> bytes:
    """A measured configuration of a model that nobody has."""
    return RuntimeConfig(
        format=FORMAT,
        model_id=f"model:{'ab' * 32}",
        owner_key=owner_key,
        log_key="log.example+0badc0de+AQID",
        placement=Placement(region="eu", site="one", tier="own"),
        egress=[],
    ).encode()
