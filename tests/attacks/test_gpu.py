"""Attacks with GPUs: one too few, one twice, another machine's, one without confidential mode."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.policy.device_set import device_findings, pin_devices
from regalia.policy.documents import Platform
from regalia_testing.tees.nvidia.defects import HEALTHY_DEVICE
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regalia.appraisal.claims import Claims
    from regalia.tees.nvidia.policy.section import Device
    from regalia.wire.evidence import DeviceEvidence
    from regalia_testing.composite_testbed import CompositeTestbed
    from regalia_testing.tees.nvidia.authority import NvidiaKeys

    Devices = tuple[DeviceEvidence, ...]


def codes(entries: Sequence[Device], claims: Claims) -> list[str]:
    """What a policy with this device set says."""
    platform = Platform(hardware="dangerous_simulated", devices=list(entries))
    return [each.code.name for each in device_findings(platform.devices, claims.devices)]


@pytest.fixture
def pinned(gpu_machine: CompositeTestbed) -> list[Device]:
    claims = gpu_machine.verify(gpu_machine.evidence(gpu_machine.all()))
    entries = pin_devices(claims.devices, pin_machine=True)
    assert codes(entries, claims) == []
    return entries


ALTERED: dict[str, Callable[[Devices], Devices]] = {
    "omitted": lambda d: d[1:],
    "all omitted": lambda _: (),
    "duplicated": lambda d: (d[0], d[0]),
    "added": lambda d: (*d, d[0]),
    "reordered": lambda d: d[::-1],
}


@pytest.mark.parametrize("name", ALTERED)
def test_gpus_other_than_the_cpu_committed_to(gpu_machine: CompositeTestbed, name: str) -> None:
    devices = gpu_machine.all()
    changed = ALTERED[name](devices)
    evidence = gpu_machine.evidence(changed, bound=devices)
    refused("NONCE_MISMATCH", gpu_machine.verify, evidence=evidence)


def test_one_gpu_that_answers_for_two(gpu_machine: CompositeTestbed) -> None:
    """The guest itself commits to the duplicate, so the digest holds; the identities do not."""
    devices = gpu_machine.all()
    twice = (devices[0], gpu_machine.all()[0])
    refused("COMPOSITE_MISMATCH", gpu_machine.verify, evidence=gpu_machine.evidence(twice))


def test_gpu_left_out_by_the_guest(gpu_machine: CompositeTestbed, pinned: list[Device]) -> None:
    claims = gpu_machine.verify(gpu_machine.evidence(gpu_machine.all()[:1]))
    assert codes(pinned, claims) == ["DEVICE_SET_MISMATCH"]
    none = gpu_machine.verify(gpu_machine.evidence(()))
    assert codes(pinned, none) == ["DEVICE_SET_MISMATCH"]


def test_gpu_that_nobody_asked_for(gpu_machine: CompositeTestbed) -> None:
    """A policy without devices denies every device: an empty set is no wildcard."""
    claims = gpu_machine.verify(gpu_machine.evidence(gpu_machine.all()))
    assert "DEVICE_SET_MISMATCH" in codes([], claims)


def test_gpu_relay(
    gpu_machine: CompositeTestbed, pinned: list[Device], device_keys: NvidiaKeys
) -> None:
    """A genuine GPU elsewhere answers the host's question.

    Nothing in today's evidence names the CPU's guest, so it verifies: only a list of one's own
    devices refuses it.
    """
    elsewhere = NvidiaSimulator.make(1, now=gpu_machine.now, keys=device_keys)
    relayed = (gpu_machine.all()[0], *elsewhere.evidence(gpu_machine.nonce()))
    claims = gpu_machine.verify(gpu_machine.evidence(relayed))
    assert codes(pinned, claims) == ["INSTANCE_NOT_ALLOWED"]
    unlisted = pin_devices(claims.devices, pin_machine=False)
    assert codes(unlisted, claims) == []


@pytest.mark.parametrize(
    ("defects", "code"),
    [
        ({"feature": 0}, "DEVICE_FEATURE_DENIED"),  # MPT where SPT was pinned
        ({"old_opaque": True}, "DEVICE_FEATURE_DENIED"),  # states no mode at all
    ],
)
def test_gpu_without_the_confidential_mode(
    gpu_machine: CompositeTestbed, pinned: list[Device], defects: dict[str, Any], code: str
) -> None:
    spoiled = gpu_machine.all(replace(HEALTHY_DEVICE, **defects))
    devices = (gpu_machine.all()[0], spoiled[1])
    claims = gpu_machine.verify(gpu_machine.evidence(devices))
    assert code in codes(pinned, claims)


def test_gpu_with_other_firmware(gpu_machine: CompositeTestbed) -> None:
    """Genuine, signed, and not what NVIDIA's reference values say."""
    spoiled = gpu_machine.all(replace(HEALTHY_DEVICE, wrong_measurement=9))
    devices = (gpu_machine.all()[0], spoiled[1])
    refused("RIM_MISMATCH", gpu_machine.verify, evidence=gpu_machine.evidence(devices))


def test_gpu_with_firmware_that_has_no_reference_values(
    gpu_machine: CompositeTestbed, pinned: list[Device]
) -> None:
    other = gpu_machine.all(replace(HEALTHY_DEVICE, driver_version="595.1"))
    claims = gpu_machine.verify(gpu_machine.evidence(other))
    assert {"RIM_MISSING", "DEVICE_FIRMWARE_DENIED"} <= set(codes(pinned, claims))


def test_gpu_of_a_made_up_root(gpu_machine: CompositeTestbed) -> None:
    stranger = NvidiaSimulator.make(2, now=gpu_machine.now)
    theirs = stranger.evidence(gpu_machine.nonce())
    refused("ROOT_UNTRUSTED", gpu_machine.verify, evidence=gpu_machine.evidence(theirs))
