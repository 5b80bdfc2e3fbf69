"""What waits for its time: in order, exact at the second, and never against a stop."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from regalia.control.codes import ControlCode
from regalia.control.findings import ReleaseFacts, findings
from regalia.core.types import Digest
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
)
from regalia_testing.statements import Tenant, charter_of, envelope

MODEL = f"model:{'1' * 64}"
POLICY = f"policy:{'3' * 64}"
IMAGE = "ab" * 48
STAGE = ReferenceValue(measurement=IMAGE, tee="sev-snp", transition="stage", until=None)
PROMOTE = ReferenceValue(measurement=IMAGE, tee="sev-snp", transition="promote", until=None)
REVOKE = Revoke(subject="measurement", value=f"sev-snp:{IMAGE}")
STOP = Stop(model_id=None)
FACTS = ReleaseFacts(
    model_id=MODEL,
    model_version=1,
    policy_id=POLICY,
    measurement=f"sev-snp:{IMAGE}",
    machines=frozenset({"sev-snp:00"}),
    runtime=f"key:{'5' * 64}",
    manifest=Digest(b"4" * 32),
    signer=f"key:{'6' * 64}",
    kek="kek-1",
    site="one",
    region="eu",
    tier="own",
    adapters=False,
)


def served(ends: str | None = None) -> Tenant:
    """A tenant whose model is released."""
    tenant = Tenant()
    tenant.found()
    terms = Terms(ends=ends, sites=None, jurisdictions=None, roles=None, derivatives="none")
    tenant.act(RegisterModel(manifest=str(FACTS.manifest), model_id=MODEL, terms=terms, version=1))
    tenant.act(ModelVersion(model_id=MODEL, transition="promote", until=None, version=1))
    tenant.act(PublishPolicy(model_id=MODEL, policy_id=POLICY))
    tenant.act(STAGE)
    tenant.act(PROMOTE)
    return tenant


def codes(tenant: Tenant) -> list[str]:
    return [code.name for code, _ in findings(tenant.at_now(), FACTS, tenant.now)]


def test_what_the_owners_permit() -> None:
    assert codes(served()) == []


def test_each_step_toward_a_release_is_needed() -> None:
    tenant = Tenant()
    tenant.found()
    seen = [codes(tenant)]
    whole = served()
    for data in whole.chain[1:]:
        tenant.accept(data)
        seen.append(codes(tenant))
    assert seen == [
        ["MODEL_UNREGISTERED", "POLICY_UNPUBLISHED", "MEASUREMENT_UNLISTED"],
        ["MODEL_VERSION_STAGED", "POLICY_UNPUBLISHED", "MEASUREMENT_UNLISTED"],
        ["POLICY_UNPUBLISHED", "MEASUREMENT_UNLISTED"],
        ["MEASUREMENT_UNLISTED"],
        ["MEASUREMENT_STAGED"],
        [],
    ]


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (
            ReferenceValue(
                measurement=IMAGE, tee="sev-snp", transition="retire", until="2026-12-02T12:00:00Z"
            ),
            "MEASUREMENT_RETIRED",
        ),
        (
            ModelVersion(
                model_id=MODEL, transition="retire", until="2026-12-02T12:00:00Z", version=1
            ),
            "MODEL_VERSION_RETIRED",
        ),
    ],
    ids=["measurement", "version"],
)
def test_what_retires_holds_to_the_end_of_its_last_second(
    action: ReferenceValue | ModelVersion, code: str
) -> None:
    tenant = served()
    tenant.act(action)
    assert codes(tenant) == []
    tenant.wait(86400.9)
    assert codes(tenant) == []
    tenant.wait(0.1)
    assert codes(tenant) == [code]


def test_terms_end_with_their_last_second() -> None:
    tenant = served(ends="2026-12-02T12:00:00Z")
    tenant.wait(86400.9)
    assert codes(tenant) == []
    tenant.wait(0.1)
    assert codes(tenant) == ["TERM_ENDED"]


def test_what_was_revoked_meanwhile_never_takes_effect() -> None:
    tenant = Tenant()
    tenant.found()
    tenant.act(STAGE)
    tenant.act(PROMOTE, not_before=tenant.now + timedelta(hours=1))
    tenant.act(REVOKE, "cyd")
    tenant.wait(3600)
    state = tenant.at_now()
    assert "MEASUREMENT_REVOKED" in codes(tenant)
    assert [each.sequence for each in state.void] == [3]
    assert state.scheduled == ()


def test_a_stop_outlives_a_resumption_that_was_planned_before() -> None:
    tenant = served()
    tenant.act(STOP, "ann")
    tenant.act(Resume(model_id=None), not_before=tenant.now + timedelta(hours=1))
    tenant.act(STOP, "cyd")
    tenant.wait(3600)
    assert codes(tenant) == ["EMERGENCY_STOPPED"]
    tenant.act(Resume(model_id=None))
    assert codes(tenant) == []


def test_a_planned_resumption_lifts_the_stop_before_it() -> None:
    tenant = served()
    tenant.act(STOP, "ann")
    tenant.act(Resume(model_id=None), not_before=tenant.now + timedelta(hours=1))
    tenant.wait(3599)
    assert codes(tenant) == ["EMERGENCY_STOPPED"]
    tenant.wait(1)
    assert codes(tenant) == []


def test_one_model_stops_and_resumes_by_itself() -> None:
    tenant = served()
    tenant.act(Stop(model_id=f"model:{'9' * 64}"), "ann")
    assert codes(tenant) == []
    tenant.act(Stop(model_id=MODEL), "ann")
    assert codes(tenant) == ["EMERGENCY_STOPPED"]
    tenant.act(STOP, "ann")
    assert codes(tenant) == ["EMERGENCY_STOPPED"] * 2
    tenant.act(Resume(model_id=MODEL))
    assert codes(tenant) == ["EMERGENCY_STOPPED"]
    tenant.act(Resume(model_id=None))
    assert codes(tenant) == []
    assert tenant.at_now().stops == {}


def test_a_new_charter_replaces_one_that_waits() -> None:
    tenant = Tenant()
    tenant.found()
    later = tenant.now + timedelta(hours=1)
    tenant.act(charter_of(("dan", "eve"), 1), "ann", "ben", "dan", not_before=later)
    tenant.act(charter_of(("ann", "fay"), 1), "ann", "ben")
    tenant.wait(7200)
    state = tenant.at_now()
    assert [owner.name for owner in state.charter.owners] == ["ann", "fay"]
    assert [each.sequence for each in state.void] == [2]


def test_acts_that_wait_take_effect_in_the_order_of_their_times() -> None:
    tenant = Tenant()
    tenant.found()
    tenant.act(Rotate(new="c", old="b"), not_before=tenant.now + timedelta(hours=2))
    tenant.act(Rotate(new="b", old="a"), not_before=tenant.now + timedelta(hours=1))
    tenant.wait(3600)
    assert tenant.at_now().rotated == {"a": "b"}
    tenant.wait(3600)
    assert tenant.at_now().rotated == {"a": "b", "b": "c"}


def test_a_policy_that_waits_does_not_count_yet() -> None:
    tenant = served()
    other = PublishPolicy(model_id=MODEL, policy_id=f"policy:{'7' * 64}")
    tenant.act(other, not_before=tenant.now + timedelta(hours=1))
    assert codes(tenant) == []
    tenant.wait(3600)
    assert codes(tenant) == ["POLICY_UNPUBLISHED"]


def test_registering_again_changes_manifest_and_terms_and_no_stage() -> None:
    tenant = served()
    terms = Terms(ends=None, sites=["two"], jurisdictions=None, roles=None, derivatives="none")
    tenant.act(RegisterModel(manifest=f"sha256:{'8' * 64}", model_id=MODEL, terms=terms, version=1))
    assert codes(tenant) == ["MANIFEST_UNREGISTERED", "TERM_SITE"]


def test_every_code_explains_itself() -> None:
    for code in ControlCode:
        assert code.why.endswith(".")
        assert code.fix.endswith(".")


def test_the_last_second_that_a_date_can_name() -> None:
    """Whoever means *never* may write it; no later second is there to compare with."""
    last = "9999-12-31T23:59:59Z"
    assert codes(served(ends=last)) == []
    tenant = served()
    endless = msgspec.structs.replace(tenant.statement(STOP), expires=last)
    tenant.accept(envelope(endless, ("cyd",)))
    assert codes(tenant) == ["EMERGENCY_STOPPED"]
