"""What accepted evidence leaves to be desired: each has a code, and no result is affirming then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.check import UNKNOWN, Check, Source, Step
from regalia.appraisal.claims import FRESHNESS, MINT, Hardware, Revocation
from regalia.appraisal.policy_field import BaselineWords
from regalia.appraisal.warning_codes import WarningCode
from regalia.policy import baseline as baseline_module
from regalia.policy import ear
from regalia.policy.baseline import baseline_id
from regalia.policy.ear import device_submod, submod
from regalia.policy.ear_document import Status
from regalia.policy.warnings import (
    cpu_warnings,
    device_warnings,
    open_checks,
    unbound_devices,
    unchecked_freshness,
)
from regalia.tees.nvidia.names import Feature
from regalia.wire.evidence import DeviceKind
from regalia_testing.policy_scenario import PolicyScenario
from regalia_testing.tees.nvidia.policy import gpu_claims

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.appraisal.finding import Finding

WORDS = BaselineWords(hardware="genuine", revocation="required", machines=(), grace_days=0)


def codes(found: Iterable[Finding]) -> list[str]:
    return [each.code.name for each in found]


def changed(claims: Any, **values: Any) -> Any:  # noqa: ANN401 - of every claims class
    return replace(claims, **values, mint=MINT)


def genuine_gpu(**values: Any) -> Any:  # noqa: ANN401 - see above
    """A GPU of which nothing is left to be desired."""
    return gpu_claims(0, **values)


@pytest.mark.parametrize(
    ("values", "code", "claim"),
    [
        ({"hardware": Hardware.SIMULATED}, "SIMULATED_HARDWARE", ("hardware", 33)),
        ({"revocation": Revocation.UNKNOWN}, "REVOCATION_UNKNOWN", ("hardware", 34)),
        ({"revocation": Revocation.GRACE}, "COLLATERAL_LATE", ("hardware", 32)),
        ({"rims": ()}, "RIM_MISSING", ("executables", 33)),
        ({"rims_missing": ("NV_GPU_VBIOS",)}, "RIM_MISSING", ("executables", 33)),
        ({"feature": Feature.UNSTATED}, "DEVICE_MODE_UNSTATED", ("configuration", 32)),
    ],
)
def test_a_device_with_one_defect(
    values: dict[str, object], code: str, claim: tuple[str, int]
) -> None:
    assert codes(device_warnings(genuine_gpu())) == []
    assert result_of_device(genuine_gpu()).status is Status.AFFIRMING
    device = genuine_gpu(**values)
    assert codes(device_warnings(device)) == [code]
    body = result_of_device(device)
    assert body.status is Status.WARNING
    assert getattr(body.vector, claim[0]) == claim[1]
    assert body.verifier_claims["warnings"] == [code]


def result_of_device(device: Any, *warnings: Finding) -> Any:  # noqa: ANN401 - see above
    return device_submod(device, (), warnings=warnings, policy_ids=(), steps=())


def test_a_switch_states_no_mode() -> None:
    switch = genuine_gpu(kind=DeviceKind.NVIDIA_SWITCH, feature=Feature.UNSTATED)
    assert codes(device_warnings(switch)) == []


def test_missing_reference_values_are_named() -> None:
    (found,) = device_warnings(genuine_gpu(rims_missing=("NV_GPU_VBIOS_1",)))
    assert "no reference values NV_GPU_VBIOS_1" in found.what
    assert "Fetch NV_GPU_VBIOS_1 " in found.fix


@pytest.mark.parametrize(
    ("values", "code", "hardware"),
    [
        ({"hardware": Hardware.SIMULATED}, "SIMULATED_HARDWARE", 33),
        ({"revocation": Revocation.UNKNOWN}, "REVOCATION_UNKNOWN", 34),
        ({"revocation": Revocation.GRACE}, "COLLATERAL_LATE", 32),
    ],
)
def test_a_cpu_with_one_defect(values: dict[str, Any], code: str, hardware: int) -> None:
    scenario = PolicyScenario()
    good = changed(scenario.claims, hardware=Hardware.GENUINE, revocation=Revocation.CHECKED)
    assert codes(cpu_warnings(good)) == []
    assert result_of_cpu(scenario, good).status is Status.AFFIRMING
    bad = changed(good, **values)
    assert codes(cpu_warnings(bad)) == [code]
    body = result_of_cpu(scenario, bad)
    assert (body.status, body.vector.hardware) == (Status.WARNING, hardware)


def result_of_cpu(scenario: PolicyScenario, claims: Any, *warnings: Finding) -> Any:  # noqa: ANN401 - see above
    return submod(
        scenario.policy.platform, claims, (), warnings=warnings, policy_ids=(), steps=(),
        wildcards=(), workload_judged=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "warning",
    [
        unchecked_freshness("snp"),
        unbound_devices(2),
        *open_checks([Step(FRESHNESS, UNKNOWN, "", "")], ()),
    ],
    ids=lambda warning: warning.code.name,
)
def test_a_warning_of_the_exchange(warning: Finding) -> None:
    scenario = PolicyScenario()
    good = changed(scenario.claims, hardware=Hardware.GENUINE, revocation=Revocation.CHECKED)
    for body in (result_of_cpu(scenario, good, warning), result_of_device(genuine_gpu(), warning)):
        assert body.status is Status.WARNING
        assert body.verifier_claims["warnings"] == [warning.code.name]


def test_every_warning_has_its_place_in_the_vector() -> None:
    assert {code.name for code in WarningCode} <= set(ear._WEAKENED)


def test_an_open_check_is_named_unless_another_warning_says_why() -> None:
    own = Check("tee/some", "Some", "For a test.", Source.HARDWARE_PROVEN)
    steps = [
        Step(own, "half", "whole", "", in_full=False),
        Step(FRESHNESS, "x", "any", "", in_full=False),
        Step(own, "a", "a", ""),
    ]
    named = [each.what for each in open_checks(steps, ())]
    assert named == ["tee/some was not made in full", "any/freshness was not made in full"]
    (only,) = open_checks(steps, (unchecked_freshness("snp"),))
    assert only.what == "tee/some was not made in full"
    assert list(open_checks(steps[2:], ())) == []


# -- the baseline's name ---------------------------------------------------------------------------


def test_the_baselines_id_is_of_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    first = baseline_id(WORDS)
    assert first == baseline_id(replace(WORDS))
    others = (
        replace(WORDS, hardware="dangerous_simulated"),
        replace(WORDS, revocation="any"),
        replace(WORDS, machines=("00",)),
        replace(WORDS, grace_days=1),
    )
    assert len({first, *map(baseline_id, others)}) == 5
    # And so does a rule that changes, of a TEE or of a device.
    for name in ("POLICY_PLUGINS", "DEVICE_PLUGINS"):
        plugins = getattr(baseline_module, name)
        *fields, last = plugins[0].fields
        other = replace(plugins[0], fields=(*fields, replace(last, baseline=lambda _: "a test")))
        with monkeypatch.context() as patched:
            patched.setattr(baseline_module, name, (other, *plugins[1:]))
            assert baseline_id(WORDS) != first
    assert baseline_id(WORDS) == first
