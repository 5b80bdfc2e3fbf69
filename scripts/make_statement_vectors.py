"""Write the vectors of signed statements.

Usage: ``python scripts/make_statement_vectors.py [--check]``.

Spec: docs/spec/statements.md. Every owner's key comes from a published seed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from statement_refusals import REFUSALS
from vector_files import VECTORS, as_json, differing, fixed, write_or_compare

from regalia.control.findings import ReleaseFacts, findings
from regalia.core.clock import rfc3339
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.wire.statement import (
    ModelVersion,
    PublishPolicy,
    ReferenceValue,
    RegisterModel,
    Resume,
    Revoke,
    Rotate,
    Stop,
    Terms,
    log_statement,
    parse_statement,
)
from regalia_testing.statements import Tenant, charter_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.statement import Statement

FOLDER = VECTORS / "statements"
MODEL = str(ModelId(fixed("statements: model")))
POLICY = str(PolicyId(fixed("statements: policy")))
MANIFEST = str(Digest(fixed("statements: manifest")))
MEASUREMENT = fixed("statements: measurement", 48).hex()
CHIP = fixed("statements: chip", 64).hex()
KEY = f"key:{fixed('statements: runtime').hex()}"
ENDS = "2027-06-30T23:59:59Z"
TERMS = Terms(
    ends=ENDS, sites=["one", "two"], jurisdictions=["eu"], roles=["own"], derivatives="none"
)
REGISTERED = RegisterModel(manifest=MANIFEST, model_id=MODEL, terms=TERMS, version=3)
STAGED = ReferenceValue(measurement=MEASUREMENT, tee="sev-snp", transition="stage", until=None)
PROMOTED = msgspec.structs.replace(STAGED, transition="promote")
VERSION = ModelVersion(model_id=MODEL, transition="promote", until=None, version=3)
SERVED = (
    REGISTERED,
    VERSION,
    PublishPolicy(model_id=MODEL, policy_id=POLICY),
    STAGED,
    PROMOTED,
)
FACTS = ReleaseFacts(
    model_id=MODEL,
    model_version=3,
    policy_id=POLICY,
    measurement=f"sev-snp:{MEASUREMENT}",
    machines=frozenset({f"sev-snp:{CHIP}"}),
    runtime=KEY,
    manifest=Digest.parse(MANIFEST),
    signer=f"key:{fixed('statements: signer').hex()}",
    kek="kek-1",
    site="one",
    region="eu",
    tier="own",
    adapters=False,
)


def served() -> Tenant:
    """A tenant whose model is released."""
    tenant = Tenant()
    tenant.found()
    for action in SERVED:
        tenant.act(action)
    return tenant


def documents() -> dict[str, Any]:
    """Statements that are well-formed, and documents that differ from one in one thing."""
    tenant = Tenant(delays={"charter": 86400})
    first = tenant.charter()
    tenant.found()
    retired = msgspec.structs.replace(PROMOTED, transition="retire", until=ENDS)
    open_terms = Terms(
        ends=None, sites=None, jurisdictions=None, roles=None, derivatives="adapters"
    )
    actions = {
        "register_model": REGISTERED,
        "register_model_open": msgspec.structs.replace(REGISTERED, terms=open_terms),
        "publish_policy": SERVED[2],
        "reference_value": STAGED,
        "reference_value_retired": retired,
        "model_version": VERSION,
        "rotate": Rotate(new="kek-2", old="kek-1"),
        "revoke_measurement": Revoke(subject="measurement", value=f"sev-snp:{MEASUREMENT}"),
        "revoke_chip": Revoke(subject="chip", value=f"sev-snp:{CHIP}"),
        "revoke_device": Revoke(subject="chip", value=f"nvidia-gpu:{CHIP[:32]}"),
        "revoke_signer": Revoke(subject="signer", value=FACTS.signer),
        "revoke_runtime": Revoke(subject="runtime", value=KEY),
        "revoke_model_version": Revoke(subject="model-version", value=f"{MODEL}@3"),
        "stop": Stop(model_id=None),
        "stop_model": Stop(model_id=MODEL),
        "resume": Resume(model_id=None),
        "new_charter": charter_of(("ben", "cyd", "dan"), 2),
    }
    accepted = {"charter": first} | {
        name: tenant.statement(action) for name, action in actions.items()
    }
    return {
        "accepted": {
            name: {"payload": each.encode().decode(), "digest": str(each.digest())}
            for name, each in accepted.items()
        },
        "refused": {name: refused(accepted, *row) for name, row in REFUSALS.items()},
    }


def refused(
    accepted: dict[str, Statement], base: str, differs: dict[str, Any], code: str
) -> dict[str, Any]:
    """One refused document, checked to be refused for what it differs in alone."""
    text = accepted[base].encode().decode()
    if "action" in differs:
        action = json.loads(text)["action"] | differs["action"]
        for name in differs.get("removed_of_action", ()):
            del action[name]
        differs = {"members": {"action": action}}
    if differing(text, differs) == text:
        raise ValueError(f"{base} {differs} differs in nothing")
    return {"of": base, **differs, "code": code}


def chain() -> dict[str, Any]:
    """A chain of log entries, from charter to stop, and what is refused behind it."""
    tenant = Tenant(delays={"charter": 86400})
    tenant.found()
    entries = [_entry(tenant)]
    for action in (*SERVED, Revoke(subject="chip", value=f"sev-snp:{CHIP}"), Stop(model_id=None)):
        tenant.wait(60)
        by = ("cyd",) if isinstance(action, Revoke | Stop) else ()
        tenant.act(action, *by)
        entries.append(_entry(tenant))
    state = tenant.at_now()
    return {
        "tenant": tenant.name,
        "charter": str(state.founded),
        "entries": entries,
        "sequence": state.sequence,
        "head": str(state.head),
    }


def _entry(tenant: Tenant) -> str:
    entry = log_statement(tenant.chain[-1], broker="log.example", time=rfc3339(tenant.now))
    return entry.encode().decode()


def _revoked(subject: Any, value: str) -> Callable[[Tenant], object]:  # noqa: ANN401
    return lambda tenant: tenant.act(Revoke(subject=subject, value=value), "cyd")


# What happens behind a chain that permits the release, and what the facts differ in.
CASES: dict[str, tuple[Callable[[Tenant], object], dict[str, Any]]] = {
    "permitted": (lambda _: None, {}),
    "stopped": (lambda tenant: tenant.act(Stop(model_id=None), "cyd"), {}),
    "model_stopped": (lambda tenant: tenant.act(Stop(model_id=MODEL), "ann"), {}),
    "measurement_revoked": (_revoked("measurement", f"sev-snp:{MEASUREMENT}"), {}),
    "chip_revoked": (_revoked("chip", f"sev-snp:{CHIP}"), {}),
    "signer_revoked": (_revoked("signer", FACTS.signer), {}),
    "runtime_revoked": (_revoked("runtime", KEY), {}),
    "model_version_revoked": (_revoked("model-version", f"{MODEL}@3"), {}),
    "another_chip_revoked": (_revoked("chip", "sev-snp:00"), {}),
    "kek_rotated": (lambda tenant: tenant.act(Rotate(new="kek-2", old="kek-1")), {}),
    "another_version": (lambda _: None, {"model_version": 4}),
    "another_policy": (lambda _: None, {"policy_id": str(PolicyId(bytes(32)))}),
    "another_manifest": (lambda _: None, {"manifest": Digest(bytes(32))}),
    "another_measurement": (lambda _: None, {"measurement": "sev-snp:00"}),
    "another_site": (lambda _: None, {"site": "three"}),
    "another_region": (lambda _: None, {"region": "us"}),
    "another_tier": (lambda _: None, {"tier": "reseller"}),
    "adapters": (lambda _: None, {"adapters": True}),
    "terms_ended": (lambda tenant: tenant.wait(365 * 86400), {}),
    "three_reasons": (
        lambda tenant: tenant.act(Stop(model_id=None), "cyd"),
        {"site": "three", "region": "us"},
    ),
}


def judged() -> dict[str, Any]:
    """Releases, and every reason against each of them in its order."""
    found = {}
    for name, (happens, differs) in CASES.items():
        tenant = served()
        happens(tenant)
        facts = replace(FACTS, **differs)
        reasons = findings(tenant.at_now(), facts, tenant.now)
        found[name] = {
            "behind": [_entry(tenant)] if len(tenant.chain) > len(SERVED) + 1 else [],
            "now": rfc3339(tenant.now),
            "facts": {key: _plain(value) for key, value in differs.items()},
            "codes": [code.name for code, _ in reasons],
        }
    tenant = Tenant()
    tenant.found()
    entries = [_entry(tenant)]
    for action in SERVED:
        tenant.act(action)
        entries.append(_entry(tenant))
    names = FACTS.__dataclass_fields__
    facts = {name: _plain(getattr(FACTS, name)) for name in names}
    return {"entries": entries, "facts": facts, "cases": found}


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    return str(value) if isinstance(value, Digest) else value


def files() -> dict[str, bytes]:
    """Contents by name."""
    made = {"documents.json": documents(), "chain.json": chain(), "releases.json": judged()}
    for each in made["documents.json"]["accepted"].values():
        parse_statement(each["payload"].encode())
    return {name: as_json(each) for name, each in made.items()}


if __name__ == "__main__":
    sys.exit(write_or_compare(FOLDER, files()))
