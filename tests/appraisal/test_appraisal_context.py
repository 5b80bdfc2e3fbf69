"""What all evidence of one appraisal is judged under, and how devices differ from their CPU."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import Revocation
from regalia.appraisal.collateral_rule import CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.tees.nvidia.evidence.key_denials import KeyDenials
from regalia.wire.collateral import CollateralKind
from regalia_testing.composite_testbed import BINDING, composite_testbed
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import REPORT_DATA, REQUIRED

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.claims import DeviceClaims
    from regalia.verifier.verifier import Verifier
    from regalia.wire.evidence import Evidence
    from regalia_testing.composite_testbed import CompositeTestbed
    from regalia_testing.tees.nvidia.authority import NvidiaKeys
    from regalia_testing.tees.snp.testbed import SnpTestbed

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def machine(testbed: SnpTestbed, device_keys: NvidiaKeys) -> CompositeTestbed:
    """Two GPUs."""
    return composite_testbed(testbed.platform, 2, 0, now=testbed.now, keys=device_keys)


def test_the_moment_has_a_time_zone(machine: CompositeTestbed) -> None:
    """Whoever verifies, and before anything is looked at."""
    naive, verifier = machine.now.replace(tzinfo=None), machine.verifier
    spoiled = replace(machine.evidence(machine.all()), report=b"no report")
    for call in (
        lambda: AppraisalContext(now=naive, rule=REQUIRED, cache=Cache()),
        lambda: verifier.verify(spoiled, expected=BINDING, rule=REQUIRED, now=naive),
        lambda: verifier.verify_cpu(spoiled, report_data=REPORT_DATA, rule=REQUIRED, now=naive),
        lambda: verifier.verify_device(
            spoiled.devices[0], nonce=machine.nonce(), rule=REQUIRED, now=naive
        ),
        lambda: verifier.unbound(spoiled, rule=REQUIRED, now=naive),
        lambda: verifier.unbound_device(spoiled.devices[0], rule=REQUIRED, now=naive),
    ):
        with pytest.raises(ValueError, match="time zone"):
            call()


def test_they_do_not_change_on_the_way(machine: CompositeTestbed) -> None:
    at = AppraisalContext(now=machine.now, rule=REQUIRED, cache=Cache())
    assert at.check_log is NO_LOG
    with pytest.raises(FrozenInstanceError):
        at.rule = REQUIRED.for_devices()  # type: ignore[misc]  # the defect


@pytest.mark.parametrize("revocation", RevocationRule)
def test_of_devices_grace_alone_is_demanded(revocation: RevocationRule) -> None:
    rule = CollateralRule(revocation, 3 * DAY)
    assert rule.for_devices() == CollateralRule(RevocationRule.ANY, 3 * DAY)
    assert rule.revocation is revocation


def devices_of(
    verifier: Verifier, evidence: Evidence, rule: CollateralRule, machine: CompositeTestbed
) -> list[tuple[DeviceClaims, ...]]:
    """What each entrance says of a machine's devices."""
    now, nonce = machine.now, machine.nonce()
    return [
        verifier.verify(evidence, expected=BINDING, rule=rule, now=now).devices,
        tuple(
            verifier.verify_device(each, nonce=nonce, rule=rule, now=now)
            for each in evidence.devices
        ),
        tuple(
            verifier.unbound_device(each, rule=rule, now=now).fresh(nonce)
            for each in evidence.devices
        ),
    ]


def denials(now: datetime) -> bytes:
    """In date until ``now``, included."""
    return KeyDenials(now - 9 * DAY, now, ()).encode()


def test_revocation_of_devices_is_left_to_policy(machine: CompositeTestbed) -> None:
    """Also where the rule for the CPU, which has its list, is the strict one."""
    evidence, given = machine.evidence(machine.all()), machine.verifier.collateral
    assert REQUIRED.revocation is RevocationRule.REQUIRED
    three_days = replace(REQUIRED, grace=3 * DAY)
    for rule, lists, known in (
        (REQUIRED, (denials(machine.now),), Revocation.CHECKED),
        (REQUIRED, (denials(machine.now - 2 * DAY),), Revocation.UNKNOWN),
        (three_days, (denials(machine.now - 2 * DAY),), Revocation.GRACE),
        (REQUIRED, (), Revocation.UNKNOWN),
    ):
        documents = {**given.documents, CollateralKind.KEY_DENIALS: lists}
        verifier = replace(machine.verifier, collateral=replace(given, documents=documents))
        for devices in devices_of(verifier, evidence, rule, machine):
            assert [each.revocation for each in devices] == [known, known]


def test_of_the_cpu_it_is_not(machine: CompositeTestbed) -> None:
    evidence, given = machine.evidence(machine.all()), machine.verifier.collateral
    bare = replace(machine.verifier, collateral=replace(given, crls=()))
    refused("CRL_MISSING", replace(machine, verifier=bare).verify, evidence=evidence)
    refused("CRL_MISSING", bare.unbound, evidence=evidence, rule=REQUIRED, now=machine.now)
