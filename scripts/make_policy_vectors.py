"""Write the policy's test vectors: python scripts/make_policy_vectors.py [--check].

``conditions.json``, ``ill-formed.json`` and ``ill-formed-base.json`` beside them are written by
hand.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vector_files import write_or_compare

from regalia.core.clock import rfc3339
from regalia.core.codec import b64
from regalia.core.types import Digest, PolicyId
from regalia.crypto.sign import SigningKey
from regalia.policy.signed import sign_release_policy
from regalia.policy.verdict import Deny
from regalia.tees.snp.claims import Firmware, Tcb
from regalia_testing.policy_defects import DEFECTS, SNP
from regalia_testing.policy_scenario import PolicyScenario

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "tests" / "vectors" / "policy"
SEED = hashlib.sha256(b"regalia/test-vectors/policy/owner").digest()
EMPTY = ("products", "measurements", "host_data", "id_blocks", "vmpl", "signing_keys", "chip_ids")


def plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON holds
    """A claim as JSON: bytes as hex, versions as objects, enumerations as their words."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, Tcb):
        return value.components()
    if isinstance(value, Firmware):
        return {"major": value.major, "minor": value.minor, "build": value.build}
    return str(value) if isinstance(value, str) else value


def facts(scenario: PolicyScenario) -> dict[str, Any]:
    """Policy, claims and context of one case."""
    context = scenario.context()
    return {
        "policy": json.loads(scenario.policy.encode()),
        "claims": {
            field.name: plain(getattr(scenario.claims, field.name))
            for field in fields(scenario.claims)
        },
        "context": {
            "now": rfc3339(context.now),
            "challenge_age_s": context.challenge_age_s,
            "runtime_config": json.loads(context.runtime_config.encode()),
            "model_id": str(context.model_id),
            "model_version": context.model_version,
            "active_holders": context.active_holders,
            "approvals": sorted(context.approvals),
            "custody": context.custody,
        },
    }


def changes(base: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Dotted paths at which two documents differ; whole values except for equal-keyed objects."""
    if isinstance(base, dict) and isinstance(other, dict) and base.keys() == other.keys():
        for key in base:
            yield from changes(base[key], other[key], f"{path}.{key}" if path else key)
    elif base != other:
        yield path, other


def cases() -> dict[str, PolicyScenario]:
    """By name."""
    base = PolicyScenario()
    out = {name: defect(base) for name, (_, defect) in DEFECTS.items()}
    out |= {f"empty_{name}": base.demand(f"{SNP}.{name}", []) for name in EMPTY}
    out |= {
        f"empty_{name}": base.demand(f"placement.{name}", [])
        for name in ("regions", "sites", "tiers")
    }
    out["empty_custody"] = base.demand("custody", [])
    out["several"] = DEFECTS["debug"][1](DEFECTS["vmpl"][1](DEFECTS["holders"][1](base)))
    return out


def evaluation() -> dict[str, Any]:
    """One case that is allowed, and many that differ from it and are denied."""
    base = PolicyScenario()
    before = facts(base)
    table: dict[str, Any] = {}
    for name, scenario in cases().items():
        verdict = scenario.verdict()
        if not isinstance(verdict, Deny):
            raise TypeError(f"{name} is allowed")
        difference = dict(changes(before, facts(scenario)))
        if math.isfinite(scenario.age_s):  # JSON has no word for the others
            table[name] = {
                "changes": difference,
                "codes": [each.code.name for each in verdict.reasons],
            }
    return {"base": before, "denied": table}


def files() -> dict[str, bytes]:
    """Contents by name."""
    scenario = PolicyScenario()
    owner = SigningKey(Ed25519PrivateKey.from_private_bytes(SEED))
    signed = sign_release_policy(scenario.policy, (owner,))
    about = {
        "seed": SEED.hex(),
        "public_key": b64(owner.verify_key.spki),
        "fingerprint": str(owner.verify_key.fingerprint),
        "policy_id": str(scenario.policy.policy_id()),
        "client_policy_id": str(PolicyId.of(scenario.client_policy().encode())),
    }
    return {
        "release-policy.json": scenario.policy.encode(),
        "client-policy.json": scenario.client_policy().encode(),
        "signed-policy.json": signed,
        "signed-policy.key.json": json.dumps(about, indent=1).encode() + b"\n",
        "evaluation.json": json.dumps(evaluation(), indent=1).encode() + b"\n",
    }


def main() -> int:
    """Write the files, or compare them."""
    return write_or_compare(FOLDER, files())


if __name__ == "__main__":
    sys.exit(main())
