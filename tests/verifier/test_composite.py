"""One machine: a CPU, and exactly its own devices. Attacks on what belongs together."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.check import Outcome
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import MINT, Hardware
from regalia.core.errors import AttestationError, UsageError
from regalia.core.types import Digest
from regalia.policy.device_set import device_findings, pin_devices
from regalia.policy.documents import Platform
from regalia.tees.nvidia.evidence import NvidiaAnchors
from regalia.tees.nvidia.evidence.topology import check_topology
from regalia.tees.snp.evidence import SnpAnchors
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import Validity
from regalia.verifier.collateral.deny import DenyIndex
from regalia.verifier.composite import join_unbound, require_distinct, verify_composite
from regalia.verifier.verifier import Verifier
from regalia.wire.collateral import CollateralKind
from regalia.wire.deny_list import FORMAT as DENY_LIST_FORMAT
from regalia.wire.deny_list import DeniedIdentity, DenyList
from regalia.wire.evidence import NO_DEVICES, DeviceKind, Role, devices_digest, parse_evidence
from regalia_testing.anchors import simulated_anchors
from regalia_testing.composite_testbed import BINDING, composite_testbed
from regalia_testing.source_composite import open_source
from regalia_testing.tees.nvidia.defects import HEALTHY_DEVICE
from regalia_testing.tees.nvidia.policy import gpu_claims
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import REQUIRED, RUNTIME_CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.appraisal.claims import Claims
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.tees.nvidia.policy.section import Device
    from regalia.verifier.collateral import CollateralSet
    from regalia.wire.evidence import DeviceEvidence
    from regalia_testing.composite_testbed import CompositeTestbed
    from regalia_testing.tees.nvidia.authority import NvidiaKeys
    from regalia_testing.tees.snp.testbed import SnpTestbed

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def machine(testbed: SnpTestbed, device_keys: NvidiaKeys) -> CompositeTestbed:
    """Eight GPUs and four switches."""
    return composite_testbed(testbed.platform, 8, 4, now=testbed.now, keys=device_keys)


def test_a_whole_machine(machine: CompositeTestbed) -> None:
    evidence = machine.evidence(machine.all())
    assert parse_evidence(evidence.encode()) == evidence
    claims = machine.verify(evidence)
    assert [device.identity for device in claims.devices] == [
        device.identity for device in machine.devices.devices
    ]
    assert {device.hardware for device in claims.devices} == {Hardware.SIMULATED}
    assert {device.nonce for device in claims.devices} == {machine.nonce()}


def test_no_devices_are_no_devices(machine: CompositeTestbed) -> None:
    check_log = CheckLog()
    claims = machine.verifier.verify(
        machine.evidence(()), expected=BINDING, rule=REQUIRED, now=machine.now, check_log=check_log
    )
    assert claims.devices == ()
    names = [step.check.name for step in check_log.steps()]
    assert [name for name in names if name.startswith("composite/")] == ["composite/cpu"]


def test_the_caller_cannot_ask_for_another_set(machine: CompositeTestbed) -> None:
    """Whatever digest the caller's binding holds, that of the evidence at hand is what counts."""
    devices = machine.all()
    for digest in (Digest(NO_DEVICES), devices_digest(devices[:3]), Digest(bytes(32))):
        binding = replace(BINDING, device_evidence=digest)
        assert len(machine.verify(machine.evidence(devices), binding).devices) == 12


ALTERED: dict[str, Callable[[tuple[DeviceEvidence, ...]], tuple[DeviceEvidence, ...]]] = {
    "all_left_out": lambda _: (),
    "one_left_out": lambda d: d[1:],
    "last_left_out": lambda d: d[:-1],
    "one_twice": lambda d: (*d, d[0]),
    "one_for_another": lambda d: (d[1], *d[1:]),
    "order_swapped": lambda d: (d[1], d[0], *d[2:]),
    "order_reversed": lambda d: d[::-1],
    "certificate_dropped": lambda d: (replace(d[0], endorsements=d[0].endorsements[:-1]), *d[1:]),
    "other_kind": lambda d: (replace(d[0], kind=d[-1].kind), *d[1:]),
}


@pytest.mark.parametrize("name", ALTERED)
def test_devices_changed_on_the_way(machine: CompositeTestbed, name: str) -> None:
    """The CPU committed to the honest set, so every other one is refused before any device."""
    honest = machine.all()
    evidence = machine.evidence(ALTERED[name](honest), bound=honest)
    refused("NONCE_MISMATCH", machine.verify, evidence=evidence)


@pytest.mark.parametrize("name", sorted(set(ALTERED) - {"all_left_out"}))
def test_devices_changed_by_a_lying_guest(machine: CompositeTestbed, name: str) -> None:
    """Even if the CPU commits to them: a set that does not hold together is refused."""
    evidence = machine.evidence(ALTERED[name](machine.all()))
    if name in {"order_swapped", "order_reversed"}:
        assert len(machine.verify(evidence).devices) == 12  # order alone means nothing
        return
    code = {"certificate_dropped": "ROOT_UNTRUSTED", "other_kind": "CHAIN_INVALID"}
    refused(code.get(name, "COMPOSITE_MISMATCH"), machine.verify, evidence=evidence)


def test_a_device_added_on_the_way(machine: CompositeTestbed, device_keys: NvidiaKeys) -> None:
    extra = NvidiaSimulator.make(1, now=machine.now, keys=device_keys)
    honest = machine.all()
    more = (*honest, *extra.evidence(machine.nonce()))
    refused("NONCE_MISMATCH", machine.verify, evidence=machine.evidence(more, bound=honest))


OTHER_QUESTIONS = {
    "another_challenge": replace(BINDING, challenge=bytes(32)),
    "another_key": replace(BINDING, hpke_public_key=b"\x09" * 1216),
    "another_role": replace(BINDING, role=Role.SERVE),
}


@pytest.mark.parametrize("name", OTHER_QUESTIONS)
def test_devices_that_answered_another_question(machine: CompositeTestbed, name: str) -> None:
    """Among them: GPUs of another machine, asked with that machine's own key."""
    theirs = machine.devices.evidence(machine.nonce(OTHER_QUESTIONS[name]))
    evidence = machine.evidence(theirs)
    refused("NONCE_MISMATCH", machine.verify, evidence=evidence)
    one = machine.evidence((*machine.all()[:-1], theirs[-1]))
    refused("NONCE_MISMATCH", machine.verify, evidence=one)


def test_a_cpu_that_answered_another_question(machine: CompositeTestbed) -> None:
    for binding in OTHER_QUESTIONS.values():
        evidence = machine.evidence(machine.all(), binding=binding)
        refused("NONCE_MISMATCH", machine.verify, evidence=evidence)


def test_devices_of_another_root(machine: CompositeTestbed) -> None:
    other = NvidiaSimulator.make(8, 4, now=machine.now)
    refused(
        "ROOT_UNTRUSTED",
        machine.verify,
        evidence=machine.evidence(other.evidence(machine.nonce())),
    )


def test_without_a_root_for_devices_none_is_trusted(machine: CompositeTestbed) -> None:
    anchors = simulated_anchors((machine.platform.ark,))
    verifier = replace(machine.verifier, anchors=anchors)
    refused(
        "ROOT_UNTRUSTED",
        replace(machine, verifier=verifier).verify,
        evidence=machine.evidence(machine.all()),
    )
    for roots in ((), (machine.devices.root,) * 2):
        refused("ROOT_UNTRUSTED", simulated_anchors, roots=roots)


@pytest.mark.parametrize("hardware", list(Hardware))
def test_genuine_and_simulated_do_not_mix(machine: CompositeTestbed, hardware: Hardware) -> None:
    evidence = machine.evidence(machine.all())
    claims = machine.verify(evidence)
    cpu = machine.verify(machine.evidence(()))
    devices = {
        device.evidence_digest: device
        for device in claims.devices  # type: ignore[attr-defined] # NvidiaClaims
    }

    def compose(wanted: Hardware) -> Claims:
        return verify_composite(
            evidence,
            binding=BINDING,
            verify_cpu=lambda _evidence, _data: replace(cpu, hardware=wanted, mint=MINT),  # type: ignore[type-var] # a dataclass
            verify_device=lambda device, _nonce: devices[device.digest()],
        )

    if hardware is Hardware.SIMULATED:
        assert len(compose(hardware).devices) == 12
    else:
        refused("COMPOSITE_MISMATCH", compose, wanted=hardware)


@pytest.mark.parametrize("name", ["foreign_links", "driver_version"])
def test_links_to_other_machines(machine: CompositeTestbed, name: str) -> None:
    if name == "driver_version":  # an update without reference values is not about links
        devices = machine.all(replace(HEALTHY_DEVICE, driver_version="595.1"))
        assert len(machine.verify(machine.evidence(devices)).devices) == 12
        return
    strange = machine.all(replace(HEALTHY_DEVICE, foreign_links=True))
    for number in (0, 8):  # a GPU, a switch
        devices = (*machine.all()[:number], strange[number], *machine.all()[number + 1 :])
        refused("COMPOSITE_MISMATCH", machine.verify, evidence=machine.evidence(devices))


def test_topology_of_claims() -> None:
    one, two = b"\x01" * 8, b"\x02" * 8

    def switch(number: int, pdi: bytes, *gpus: bytes) -> object:
        return gpu_claims(number, kind=DeviceKind.NVIDIA_SWITCH, pdi=pdi, gpu_pdis=gpus)

    def gpu(number: int, *switches: bytes) -> object:
        return gpu_claims(number, switch_pdis=switches)

    for good in (
        (),
        (gpu(1),),
        (gpu(1), gpu(2)),
        (gpu(1, one), switch(2, one, b"\x03" * 8)),
        (gpu(1), switch(2, one)),
    ):
        check_topology(good)  # type: ignore[arg-type] # claims
    for bad in (
        (gpu(1, one),),
        (gpu(1, one), gpu(2)),
        (gpu(1, one), gpu(2, two), switch(3, one), switch(4, two)),
        (gpu(1, one), switch(2, two)),
        (gpu(1, one), switch(2, one), switch(3, two)),
        (gpu(1, one), switch(2, one, b"\x03" * 8, b"\x04" * 8)),
        (gpu(1), switch(2, one, b"\x03" * 8), switch(3, two, b"\x04" * 8)),
    ):
        refused("COMPOSITE_MISMATCH", check_topology, devices=bad)


def test_production_anchors_trust_no_simulation(machine: CompositeTestbed) -> None:
    verifier = replace(machine.verifier, anchors=TrustAnchors.production())
    assert verifier.anchors.of(SnpAnchors) == SnpAnchors.production()
    assert verifier.anchors.of(NvidiaAnchors) == NvidiaAnchors.production()
    refused(
        "ROOT_UNTRUSTED",
        replace(machine, verifier=verifier).verify,
        evidence=machine.evidence(machine.all()),
    )


def test_the_trail_goes_through_the_whole_machine(machine: CompositeTestbed) -> None:
    check_log = CheckLog()
    machine.verifier.verify(
        machine.evidence(machine.all()),
        expected=BINDING,
        rule=REQUIRED,
        now=machine.now,
        check_log=check_log,
    )
    names = [step.check.name for step in check_log.steps()]
    for name in ("cpu", "devices", "distinct", "hardware", "topology"):
        assert names.count(f"composite/{name}") == 1
    assert names.count("nvidia/nonce") == 12
    told = {step.check.name: (step.seen, step.wanted) for step in check_log.steps()}
    assert told["composite/distinct"][0] == "12 different devices"
    assert told["composite/hardware"] == ("CPU simulated; devices simulated", "all simulated")


def test_what_is_bound_has_not_passed_before_it_was_compared(machine: CompositeTestbed) -> None:
    """A CPU that answered another question commits to no devices."""
    check_log = CheckLog()
    with pytest.raises(AttestationError) as refusal:
        machine.verifier.verify(
            machine.evidence(machine.all()),
            expected=replace(BINDING, challenge=b"\x09" * 32),
            rule=REQUIRED,
            now=machine.now,
            check_log=check_log,
        )
    steps = check_log.failed(refusal.value)
    assert steps[-1].code == "NONCE_MISMATCH"
    assert not any(step.check.name.startswith("composite/") for step in steps)


def test_devices_of_a_recording_are_joined_without_proof(machine: CompositeTestbed) -> None:
    """They must still have answered one question, be distinct, and know each other."""
    whole = machine.verify(machine.evidence(machine.all()))
    cpu = machine.verify(machine.evidence(()))
    check_log = CheckLog()
    assert join_unbound(cpu, whole.devices, check_log).devices == whole.devices
    names = [step.check.name for step in check_log.steps()]
    assert names == [
        f"composite/{each}" for each in ("devices", "distinct", "hardware", "topology")
    ]
    joined = check_log.steps()[0]  # no challenge was compared, so it has not passed
    assert (joined.seen, joined.outcome) == ("one nonce", Outcome.OPEN)
    first, *rest = whole.devices
    for devices in (
        (replace(first, nonce=bytes(32), mint=MINT), *rest),  # type: ignore[type-var] # a dataclass
        (first, first),
        (replace(first, hardware=Hardware.GENUINE, mint=MINT), *rest),  # type: ignore[type-var]
        (first, *rest[:-1]),  # a switch that others know is gone
    ):
        refused("COMPOSITE_MISMATCH", join_unbound, claims=cpu, devices=devices)


def test_who_sent_two_reports_is_named(machine: CompositeTestbed) -> None:
    one, two, three = machine.verify(machine.evidence(machine.all())).devices[:3]
    said = refused("COMPOSITE_MISMATCH", require_distinct, devices=(one, two, three, two))
    assert two.identity.hex() in said
    assert one.identity.hex() not in said
    require_distinct((one, two, three))


def test_a_device_alone_is_held_to_the_sites_own_lists(machine: CompositeTestbed) -> None:
    """Without a CPU whose appraisal asks for them."""
    device = machine.all()[0]
    given = machine.verifier.collateral
    ended = Validity("a bundle", machine.now - 9 * DAY, machine.now - DAY)
    identity = machine.devices.devices[0].identity.hex()
    entry = DeniedIdentity(identity=identity, of="nvidia-gpu", reason="stolen")
    denied = DenyIndex.of([DenyList(entries=[entry], format=DENY_LIST_FORMAT, name="list")])

    def verify(collateral: CollateralSet, rule: CollateralRule = REQUIRED) -> None:
        verifier = replace(machine.verifier, collateral=collateral)
        how = {"rule": rule, "now": machine.now}
        verifier.unbound_device(device, **how)
        verifier.verify_device(device, nonce=machine.nonce(), **how)

    verify(given)
    verify(replace(given, validity=ended), replace(REQUIRED, grace=2 * DAY))
    refused("COLLATERAL_STALE", verify, collateral=replace(given, validity=ended))
    refused("DEVICE_DENIED", verify, collateral=replace(given, denied=denied))


def test_a_verifier_is_what_it_trusts_and_knows(machine: CompositeTestbed) -> None:
    """What it made of its collateral is no part of its value, and nothing for people."""
    verifier = machine.verifier
    assert Verifier(verifier.anchors, verifier.collateral, verifier.cache) == verifier
    assert "_prepared" not in repr(verifier)


def test_the_plug_in_asks_both(machine: CompositeTestbed, tmp_path: Path) -> None:
    made = NvidiaSimulator.create(tmp_path / "devices", 2, 1, now=machine.now)
    options: dict[str, object] = {
        "platform": str(machine.platform.directory),
        "devices": str(tmp_path / "devices"),
    }
    source = open_source(options)
    assert source.simulated
    devices = source.collect_devices(machine.nonce())
    assert len(devices) == 3
    bound = replace(BINDING, device_evidence=devices_digest(devices))
    evidence = replace(source.collect(bound.report_data(), RUNTIME_CONFIG), devices=devices)
    root = (tmp_path / "devices/collateral/device-root.der").read_bytes()
    anchors = simulated_anchors((machine.platform.ark, root))
    extra = made.collateral()
    collateral = replace(
        machine.verifier.collateral,
        documents={CollateralKind.RIM: extra.rims, CollateralKind.KEY_DENIALS: extra.denials},
    )
    claims = Verifier(anchors, collateral).verify(
        evidence, expected=BINDING, rule=REQUIRED, now=machine.now
    )
    assert [device.identity for device in claims.devices] == [d.identity for d in made.devices]
    (without, *_), (with_flag, *_) = (
        open_source({**options, "device_defects": defects}).collect_devices(machine.nonce())
        for defects in ({}, {"feature": 2})
    )
    assert len(without.report) == len(with_flag.report)
    for wrong in (
        {"platform": options["platform"]},
        {**options, "devices": 7},
        {**options, "device_defects": 7},
        {**options, "device_defects": {"feature": "PPCIE"}},
        {**options, "device_defects": {"color": 1}},
    ):
        with pytest.raises(UsageError):
            open_source(dict(wrong))
    with pytest.raises(AttestationError):
        machine.verify(evidence)


def findings_of(entries: list[Device], claims: Claims) -> list[str]:
    platform = Platform(hardware="dangerous_simulated", devices=entries)
    return [each.code.name for each in device_findings(platform.devices, claims.devices)]


def test_a_policy_pinned_from_a_machine_knows_its_devices(
    testbed: SnpTestbed, device_keys: NvidiaKeys
) -> None:
    """Evidence to verdict: every other set is genuine, fresh, whole, and denied."""
    small = composite_testbed(testbed.platform, 3, 0, now=testbed.now, keys=device_keys)
    devices = small.all()
    claims = small.verify(small.evidence(devices))
    entries = pin_devices(claims.devices, pin_machine=True)
    assert findings_of(entries, claims) == []
    for fewer in (devices[1:], devices[:1], ()):
        claims = small.verify(small.evidence(fewer))
        assert findings_of(entries, claims) == ["DEVICE_SET_MISMATCH"]
    assert "DEVICE_SET_MISMATCH" in findings_of([], small.verify(small.evidence(devices)))
    other = NvidiaSimulator.make(1, now=testbed.now, keys=device_keys)
    swapped = (*devices[1:], *other.evidence(small.nonce()))
    claims = small.verify(small.evidence(swapped))
    assert findings_of(entries, claims) == ["INSTANCE_NOT_ALLOWED"]
    updated = small.all(replace(HEALTHY_DEVICE, driver_version="595.1"))
    claims = small.verify(small.evidence(updated))
    assert set(findings_of(entries, claims)) == {"DEVICE_FIRMWARE_DENIED", "RIM_MISSING"}
