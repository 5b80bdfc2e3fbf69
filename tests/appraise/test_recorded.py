"""Files of evidence: what is checked of one that is only looked at, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.check import Outcome
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import MINT, Unbound
from regalia.appraisal.policy_field import BaselineWords
from regalia.appraise.exchange import collateral_rule, judge
from regalia.appraise.recorded import RecordedVerifier, appraise_file, require_bound_key
from regalia.core.errors import ParseError
from regalia.inspect.recognized import BareQuote, Fragment, Part, Recognized
from regalia.policy.baseline import baseline
from regalia.policy.platform import PlatformRules
from regalia.policy.verdict import Allow, Deny
from regalia.tees.snp.evidence.plugin import SNP
from regalia.wire.evidence import Role, devices_digest
from regalia_testing.composite_testbed import BINDING, composite_testbed
from regalia_testing.policy_scenario import PolicyScenario
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraise.recorded import Expected, FileAppraisal
    from regalia.wire.evidence import DeviceEvidence, Evidence
    from regalia_testing.composite_testbed import CompositeTestbed
    from regalia_testing.tees.nvidia.authority import NvidiaKeys
    from regalia_testing.tees.snp.testbed import SnpTestbed

WORDS = BaselineWords(
    hardware="dangerous_simulated", revocation="required", machines=(), grace_days=0
)
BASELINE = PlatformRules(baseline(WORDS), built_in=True)
OWN = PlatformRules(baseline(WORDS), built_in=False)
BARE = BareQuote(b"quoted", b"signature", b"key")
RESERVED = 0x4C  # four bytes of an SNP report
OTHER_NONCE = b"\x07" * 64


@pytest.fixture(scope="module")
def machine(testbed: SnpTestbed, device_keys: NvidiaKeys) -> CompositeTestbed:
    """A CPU and two GPUs."""
    return composite_testbed(testbed.platform, 2, 0, now=testbed.now, keys=device_keys)


def of_cpu(evidence: Evidence) -> Recognized:
    return Recognized(form="for a test", evidence=evidence)


def of_devices(devices: tuple[DeviceEvidence, ...]) -> Recognized:
    return Recognized(form="for a test", evidence=None, devices=devices)


def appraise(
    machine: CompositeTestbed,
    found: Recognized,
    expected: Expected = None,
    rules: PlatformRules = BASELINE,
) -> FileAppraisal:
    return appraise_file(found, rules, machine.verifier, expected=expected, now=machine.now)


def codes(found: FileAppraisal) -> list[str]:
    return [each.code.name for each in found.judged.findings]


def steps(found: FileAppraisal) -> list[str]:
    return [step.check.name for step in found.steps]


def left_open(found: FileAppraisal) -> list[str]:
    return [step.check.name for step in found.steps if step.outcome is Outcome.OPEN]


# -- a CPU's evidence --------------------------------------------------------------------------


def test_a_whole_machine_that_answers_as_expected(machine: CompositeTestbed) -> None:
    evidence = machine.evidence(machine.all())
    for expected in (BINDING, None):
        found = appraise(machine, of_cpu(evidence), expected)
        assert (found.refusal, codes(found)) == (None, [])
        assert found.claims is not None
        assert found.devices == found.claims.devices
        assert len(found.devices) == 2
        assert "composite/distinct" in steps(found)
    # Only who expects a whole binding learns that the CPU committed to these devices.
    recorded = left_open(appraise(machine, of_cpu(evidence)))
    assert recorded.count("any/freshness") == 1
    assert {"composite/cpu", "composite/devices"} <= set(recorded)
    whole = appraise(machine, of_cpu(evidence), BINDING)
    assert {"composite/cpu", "composite/devices"} <= set(steps(whole))
    assert not {"any/freshness", "composite/cpu", "composite/devices"} & set(left_open(whole))


def test_a_configuration_that_the_hardware_did_not_record(machine: CompositeTestbed) -> None:
    """Nothing signs it but the field in which the hardware keeps its digest."""
    evidence = machine.evidence(())
    forged = replace(evidence, runtime_config=evidence.runtime_config + b" ")
    for rules in (BASELINE, OWN):
        assert "CONFIG_MISMATCH" not in codes(appraise(machine, of_cpu(evidence), None, rules))
        assert "CONFIG_MISMATCH" in codes(appraise(machine, of_cpu(forged), None, rules))
    # Evidence of other tools comes without one, and says nothing about it.
    bare = replace(evidence, runtime_config=b"")
    assert "CONFIG_MISMATCH" not in codes(appraise(machine, of_cpu(bare)))


def test_no_devices_and_none_joined(machine: CompositeTestbed) -> None:
    found = appraise(machine, of_cpu(machine.evidence(())))
    assert found.claims is not None
    assert found.claims.devices == ()
    assert not any(name.startswith("composite/") for name in steps(found))


def test_a_bare_nonce_is_compared_with_the_cpus(machine: CompositeTestbed) -> None:
    evidence = machine.evidence(())
    nonce = replace(BINDING, device_evidence=devices_digest(())).report_data()
    found = appraise(machine, of_cpu(evidence), nonce)
    assert found.refusal is None
    assert steps(found)[-1] == "any/freshness"
    other = appraise(machine, of_cpu(evidence), OTHER_NONCE)
    assert other.refusal is not None
    assert other.refusal.code.name == other.steps[-1].code == "NONCE_MISMATCH"
    assert (other.claims, other.devices, codes(other)) == (None, (), [])


def test_devices_of_two_questions_are_not_joined(machine: CompositeTestbed) -> None:
    theirs = machine.devices.evidence(machine.nonce(replace(BINDING, role=Role.SERVE)))
    found = appraise(machine, of_cpu(machine.evidence((machine.all()[0], theirs[1]))))
    assert found.refusal is not None
    assert found.refusal.code.name == "COMPOSITE_MISMATCH"


def with_a_reserved_bit(report: bytes) -> bytes:
    return report[:RESERVED] + b"\x01" + report[RESERVED + 1 :]


@pytest.mark.parametrize(
    ("change", "code"),
    [(with_a_reserved_bit, "RESERVED_BIT_SET"), (lambda report: report + b"\0", "TRAILING_DATA")],
    ids=["reserved bit", "trailing data"],
)
def test_evidence_that_reports_its_own_failure_is_refused(
    machine: CompositeTestbed, change: Callable[[bytes], bytes], code: str
) -> None:
    evidence = machine.evidence(())
    found = appraise(machine, of_cpu(replace(evidence, report=change(evidence.report))))
    assert found.refusal is not None
    assert (found.refusal.code.name, found.steps[-1].code) == (code, code)


def test_what_is_no_evidence_is_not_readable(machine: CompositeTestbed) -> None:
    evidence = replace(machine.evidence(()), report=bytes(1184))
    with pytest.raises(ParseError, match="UNSUPPORTED_VERSION"):
        appraise(machine, of_cpu(evidence))


def test_what_nobody_compared_is_shown_and_open(machine: CompositeTestbed) -> None:
    log = CheckLog()
    recorded = RecordedVerifier(machine.verifier, REQUIRED, machine.now, log)
    for bound_to in (b"\x07\x08", b""):
        unbound = Unbound("the claims", bound_to, SNP.nonce, MINT)
        assert recorded._fresh(unbound, None) == "the claims"
    shown = [(step.seen, step.wanted, step.passed) for step in log.steps()]
    assert shown == [("0708", "any", False), ("nothing", "any", False)]
    joined = appraise(machine, of_cpu(machine.evidence(machine.all())))
    (cpu,) = (step for step in joined.steps if step.check.name == "composite/cpu")
    assert (cpu.seen, cpu.wanted) == ("2 devices", "a runtime's whole answer")


def test_a_part_alone_is_not_appraised(machine: CompositeTestbed) -> None:
    part = Fragment(Part.EVENT_LOG, b"log")
    found = Recognized(form="TCG event log", evidence=None, fragment=part)
    with pytest.raises(ParseError, match="EVIDENCE_INCOMPLETE: TCG event log, alone"):
        appraise(machine, found)


# -- devices alone -----------------------------------------------------------------------------


def test_devices_alone(machine: CompositeTestbed) -> None:
    for expected in (machine.nonce(), None):
        found = appraise(machine, of_devices(machine.all()), expected)
        assert (found.refusal, found.claims, codes(found)) == (None, None, [])
        assert len(found.devices) == 2
        assert steps(found).count("any/freshness") == 2
        assert ("any/freshness" in left_open(found)) is (expected is None)
    other = appraise(machine, of_devices(machine.all()), b"\x07" * 32)
    assert other.refusal is not None
    assert other.refusal.code.name == "NONCE_MISMATCH"


def test_one_device_does_not_count_twice(machine: CompositeTestbed) -> None:
    one = machine.all()[0]
    for rules in (BASELINE, OWN):
        found = appraise(machine, of_devices((one, one)), rules=rules)
        assert found.refusal is not None
        assert found.refusal.code.name == "COMPOSITE_MISMATCH"
        assert found.steps[-1].check.name == "composite/distinct"


def test_a_policy_judges_a_set_of_devices(machine: CompositeTestbed) -> None:
    whole = appraise(machine, of_devices(machine.all()), rules=OWN)
    assert whole.refusal is None
    assert "DEVICE_SET_MISMATCH" in codes(whole)  # such a policy wants none


def test_a_binding_is_for_a_whole_machine(machine: CompositeTestbed) -> None:
    rule = collateral_rule(BASELINE.platform, machine.evidence(()).tee)
    recorded = RecordedVerifier(machine.verifier, rule, machine.now)
    assert rule == REQUIRED
    with pytest.raises(TypeError, match="a binding is for"):
        recorded.devices(machine.all(), BINDING)
    assert recorded.devices((), None) == ()


# -- a quote beside a bare key -----------------------------------------------------------------


def test_a_bare_key_could_be_anybodys(machine: CompositeTestbed) -> None:
    found = Recognized(form="for a test", evidence=None, bare_quote=BARE)
    seen = appraise(machine, found)
    assert seen.refusal is not None
    assert seen.refusal.code.name == "AK_UNBOUND"
    (step,) = seen.steps
    assert (step.check.name, step.code) == ("tpm/ak-bound", "AK_UNBOUND")
    assert (seen.claims, seen.devices, codes(seen)) == (None, (), [])
    refused("AK_UNBOUND", require_bound_key, found=found)
    require_bound_key(of_devices(()))
    log = CheckLog()
    require_bound_key(of_cpu(machine.evidence(())), log)
    assert log.steps() == ()


# -- the exchange ------------------------------------------------------------------------------


def test_each_policy_is_judged_as_what_it_is() -> None:
    """A client's says nothing about holders of a lease, an owner's does."""
    scenario = PolicyScenario()
    context = scenario.context()
    full = replace(context, active_holders=scenario.policy.holders_max)
    claims = scenario.claims
    assert isinstance(judge(scenario.policy, claims, context), Allow)
    assert isinstance(judge(scenario.policy, claims, full), Deny)
    assert isinstance(judge(scenario.client_policy(), claims, full), Allow)
    denied = scenario.attest(vmpl=1).claims
    assert isinstance(judge(scenario.client_policy(), denied, context), Deny)
