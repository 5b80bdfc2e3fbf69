"""Why the statements of a tenant forbid a release. No finding: they permit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.control.codes import ControlCode
from regalia.control.fold import settled
from regalia.control.lifecycle import Life, Stage, passed
from regalia.control.state import EVERYTHING
from regalia.core.clock import parse_rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from regalia.control.state import ControlState
    from regalia.core.errors import Code
    from regalia.core.types import Digest
    from regalia.wire.statement import Terms

Reason = tuple["Code", str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFacts:
    """What the record of a release says of it.

    Attributes:
        model_id: the model, in text form.
        model_version: its version.
        policy_id: the policy that was applied, in text form.
        measurement: ``<tee>:<hex>``.
        machines: ``<tee>:<hex>`` of the chip, ``<kind>:<hex>`` of each device.
        runtime: fingerprint of the key that was attested.
    """

    model_id: str
    model_version: int
    policy_id: str
    measurement: str
    machines: frozenset[str]
    runtime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFacts(RecordedFacts):
    """All that a release is judged by.

    Attributes:
        manifest: digest of the manifest's payload.
        signer: fingerprint of the key that the manifest names as its signer.
        kek: name of the key-encryption key that wraps the model key.
        site: of the measured placement, and so are the next two.
        region: compared with the jurisdictions of the terms.
        tier: compared with the roles of the terms.
        adapters: whether the runtime merges adapters into the model.
    """

    manifest: Digest
    signer: str
    kek: str
    site: str
    region: str
    tier: str
    adapters: bool


def findings(state: ControlState, facts: ReleaseFacts, now: datetime) -> list[Reason]:
    """Every reason against a release. Empty: the owners permit it.

    Args:
        state: of the tenant's statements.
        facts: of the release; verified.
        now: current time, timezone-aware.
    """
    state = settled(state, now)
    return [*_of_record(state, facts, now), *_of_the_rest(state, facts)]


def recorded_findings(state: ControlState, facts: RecordedFacts, now: datetime) -> list[Reason]:
    """The reasons that show in a record of a release. There may be more: see ``ReleaseFacts``.

    Args:
        state: of the tenant's statements.
        facts: as the record says.
        now: current time, timezone-aware.
    """
    return list(_of_record(settled(state, now), facts, now))


def _of_record(state: ControlState, facts: RecordedFacts, now: datetime) -> Iterator[Reason]:
    yield from _stops(state, facts.model_id)
    yield from _model(state, facts, now)
    yield from _policy(state, facts)
    yield from _measurement(state, facts.measurement, now)
    for machine in sorted(facts.machines):
        if ("chip", machine) in state.revoked:
            yield ControlCode.CHIP_REVOKED, f"{machine} is revoked"
    if ("runtime", facts.runtime) in state.revoked:
        yield ControlCode.RUNTIME_REVOKED, f"the runtime with {facts.runtime} is revoked"


def _stops(state: ControlState, model_id: str) -> Iterator[Reason]:
    for target, name in ((EVERYTHING, "everything"), (model_id, model_id)):
        if target in state.stops:
            what = f"statement {state.stops[target]} of {state.tenant} stopped {name}"
            yield ControlCode.EMERGENCY_STOPPED, what


def _model(state: ControlState, facts: RecordedFacts, now: datetime) -> Iterator[Reason]:
    what = f"version {facts.model_version} of {facts.model_id}"
    found = state.models.get((facts.model_id, facts.model_version))
    if ("model-version", f"{facts.model_id}@{facts.model_version}") in state.revoked:
        yield ControlCode.MODEL_VERSION_REVOKED, f"{what} is revoked"
    elif found is None:
        yield ControlCode.MODEL_UNREGISTERED, f"{what} is not registered by {state.tenant}"
        return
    elif found.life.stage is Stage.STAGED:
        yield ControlCode.MODEL_VERSION_STAGED, f"{what} is staged"
    elif found.life.stage is Stage.REVOKED:
        yield ControlCode.MODEL_VERSION_REVOKED, f"{what} is revoked"
    elif found.life.ended(now):
        yield ControlCode.MODEL_VERSION_RETIRED, f"{what} was retired until {found.life.until}"
    ends = None if found is None else found.terms.ends
    if ends is not None and passed(parse_rfc3339(ends), now):
        yield ControlCode.TERM_ENDED, f"the terms of {what} ended at {ends}"


def _policy(state: ControlState, facts: RecordedFacts) -> Iterator[Reason]:
    published = state.policies.get(facts.model_id)
    if published != facts.policy_id:
        what = f"published is {published or 'none'}; this is {facts.policy_id}"
        yield ControlCode.POLICY_UNPUBLISHED, what


def _measurement(state: ControlState, name: str, now: datetime) -> Iterator[Reason]:
    life = state.references.get(name)
    if ("measurement", name) in state.revoked:
        life = Life(Stage.REVOKED)
    if life is None:
        yield ControlCode.MEASUREMENT_UNLISTED, f"{name} is none of {state.tenant}'s images"
    elif life.stage is Stage.STAGED:
        yield ControlCode.MEASUREMENT_STAGED, f"{name} is staged"
    elif life.stage is Stage.REVOKED:
        yield ControlCode.MEASUREMENT_REVOKED, f"{name} is revoked"
    elif life.ended(now):
        yield ControlCode.MEASUREMENT_RETIRED, f"{name} was retired until {life.until}"


def _of_the_rest(state: ControlState, facts: ReleaseFacts) -> Iterator[Reason]:
    if ("signer", facts.signer) in state.revoked:
        yield ControlCode.SIGNER_REVOKED, f"the manifest is signed by {facts.signer}"
    if facts.kek in state.rotated:
        what = f"{facts.kek} was replaced by {state.rotated[facts.kek]}"
        yield ControlCode.KEK_ROTATED, what
    found = state.models.get((facts.model_id, facts.model_version))
    if found is None:
        return
    if found.manifest != facts.manifest:
        what = f"registered is {found.manifest}; this is {facts.manifest}"
        yield ControlCode.MANIFEST_UNREGISTERED, what
    yield from _terms(found.terms, facts)


def _terms(terms: Terms, facts: ReleaseFacts) -> Iterator[Reason]:
    for code, name, allowed, seen in (
        (ControlCode.TERM_SITE, "sites", terms.sites, facts.site),
        (ControlCode.TERM_JURISDICTION, "jurisdictions", terms.jurisdictions, facts.region),
        (ControlCode.TERM_ROLE, "roles", terms.roles, facts.tier),
    ):
        if allowed is not None and seen not in allowed:
            yield code, f"the runtime says {seen[:80]!r}; {name} are {', '.join(allowed)}"
    if facts.adapters and terms.derivatives == "none":
        yield ControlCode.TERM_DERIVATIVES, "the runtime merges an adapter; derivatives are none"
