"""Policy and broker of the demo: what the owner pins, and who holds to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.host.localfs import write_new
from regalia_demo.deployment import ORIGIN, PASSPHRASE

if TYPE_CHECKING:
    from regalia_demo.deployment import Deployment

_HOLDERS = 8  # room for the thieves: they must fail for their own reasons


def owner_pins_policy(deployment: Deployment) -> None:
    """Evidence of the intended workload becomes the policy that demands exactly it."""
    with deployment.screen.working("the runtime shows evidence, before it has any key"):
        deployment.regalia(
            *("serve", "--config", "runtime/runtime.toml"),
            *("--evidence-only", "runtime/evidence.json"),
        )
    deployment.regalia(
        *("policy", "pin", "--evidence", "runtime/evidence.json", "--challenge", "any"),
        *("--model", "store", "--signer", "owner/owner.pub"),
        *("--collateral", "platform/collateral"),
        *("--dangerous-simulated-anchor", "platform/collateral/ark.der"),
        *("--lease", str(deployment.lease_s), "--holders", str(_HOLDERS)),
        *("--out", "owner/policy.json", "--client-out", "owner/client-policy.json"),
        *("--sign", "owner/owner.key", "--passphrase-file", PASSPHRASE),
    )


def broker_starts(deployment: Deployment) -> None:
    """The broker, with its log and the (development) key store."""
    write_new(deployment.root / "broker" / "broker.toml", broker_toml(deployment).encode())
    broker = deployment.start(
        "broker", ["broker", "serve", "--config", "broker/broker.toml"], deployment.broker_address
    )
    broker.wait_ready()


def broker_toml(deployment: Deployment) -> str:
    """The broker's settings; paths are relative to its own folder."""
    return f"""listen = "{deployment.broker_address}"

[state]
database = "sqlite:///state.db"

[log]
database = "sqlite:///log.db"
origin = "{ORIGIN}"
key = "../owner/log.key"
passphrase_file = "../owner/passphrase"

[keys]
store = "dev-file:../owner/development-keys.json"
passphrase_file = "../owner/passphrase"

[attest]
collateral = "../platform/collateral"
dangerous_simulated_anchor = "../platform/collateral/ark.der"

[[models]]
manifest = "../store/manifest.json"
policy = "../owner/policy.json"
owner_keys = ["../owner/owner.pub"]
"""
