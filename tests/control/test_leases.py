"""What a statement would do to live leases, as their records say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from regalia.control.leases import LiveLease, facts_of, simulated
from regalia.core.errors import PolicyDenied
from regalia.wire.statement import PublishPolicy, ReferenceValue, Revoke, Rotate, Stop
from tests.control.test_time import IMAGE, MODEL, POLICY, PROMOTE, served
from tests.tlog.conftest import build_record

if TYPE_CHECKING:
    from regalia.wire.statement import Action

OTHER = "cd" * 48


def lease(index: int, **changes: Any) -> LiveLease:  # noqa: ANN401
    fields: dict[str, Any] = {
        "model_id": MODEL,
        "model_version": 1,
        "policy_id": POLICY,
        "measurement": IMAGE,
        "chip_id": f"{index:02x}",
        "recipient": f"key:{index:064x}",
        "devices": [f"nvidia-gpu:{index:04x}"],
    }
    return LiveLease(index, build_record(index, **(fields | changes)))


LEASES = [lease(1), lease(2), lease(3, measurement=OTHER), lease(4, policy_id="policy:other")]


def lost(action: Action) -> dict[int, list[str]]:
    tenant = served()
    staged = ReferenceValue(measurement=OTHER, tee="sev-snp", transition="stage", until=None)
    for each in (staged, ReferenceValue(**{**_fields(staged), "transition": "promote"})):
        tenant.act(each)
    found = simulated(tenant.at_now(), tenant.statement(action), LEASES, tenant.now)
    assert [each.index for each in found.refused] == [4], "its policy is not the published one"
    return {each.lease.index: [code.name for code, _ in each.reasons] for each in found.lost}


def _fields(action: ReferenceValue) -> dict[str, Any]:
    return {name: getattr(action, name) for name in action.__struct_fields__}


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (
            Revoke(subject="measurement", value=f"sev-snp:{IMAGE}"),
            {number: ["MEASUREMENT_REVOKED"] for number in (1, 2)},
        ),
        (Revoke(subject="chip", value="sev-snp:02"), {2: ["CHIP_REVOKED"]}),
        (Revoke(subject="chip", value="nvidia-gpu:0003"), {3: ["CHIP_REVOKED"]}),
        (Revoke(subject="runtime", value=f"key:{1:064x}"), {1: ["RUNTIME_REVOKED"]}),
        (Revoke(subject="chip", value="tdx:02"), {}),
        (Stop(model_id=None), {number: ["EMERGENCY_STOPPED"] for number in (1, 2, 3)}),
        (Stop(model_id=f"model:{'9' * 64}"), {}),
        (
            PublishPolicy(model_id=MODEL, policy_id="policy:" + "7" * 64),
            {number: ["POLICY_UNPUBLISHED"] for number in (1, 2, 3)},
        ),
        (Rotate(new="b", old="a"), {}),  # the name of the key is in no record
    ],
    ids=["image", "chip", "device", "runtime", "other TEE", "stop", "other", "policy", "rotate"],
)
def test_leases_that_would_not_be_renewed(action: Action, expected: dict[int, list[str]]) -> None:
    assert lost(action) == expected


def test_a_statement_that_does_not_fit_has_no_effect_to_show() -> None:
    tenant = served()
    with pytest.raises(PolicyDenied, match="STATEMENT_NOT_IN_THIS_STATE"):
        simulated(tenant.at_now(), tenant.statement(PROMOTE), LEASES, tenant.now)


def test_the_facts_of_a_record() -> None:
    facts = facts_of(LEASES[0].record)
    assert facts.machines == {"sev-snp:01", "nvidia-gpu:0001"}
    assert (facts.measurement, facts.runtime) == (f"sev-snp:{IMAGE}", f"key:{1:064x}")
