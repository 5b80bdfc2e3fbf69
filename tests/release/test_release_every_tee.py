"""The release path of every kind of machine: evidence, policy, log, key, client; and the attacks.

All of it runs over ``MACHINES``. Each attack is one difference from a release that works.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from regalia.core.codec import b64
from regalia.core.errors import AttestationError, LogError, PolicyDenied
from regalia.policy.documents import SECTIONS, wildcards
from regalia.runtime.keys import generate_keys
from regalia.wire.evidence import DeviceKind, Tee
from regalia.wire.release import device_names
from regalia_testing.machines import MACHINES
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from tests.broker.harness import MODEL_KEY
from tests.release.deployments import OTHER_MODEL, PIN_CHALLENGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.machines import SimulatedMachine
    from tests.release.deployments import MachineDeployment

NAMES = tuple(MACHINES)
INTEL = {Tee.TDX, Tee.SGX, Tee.AZURE_TDX}
WITH_DEVICES = tuple(name for name in NAMES if "gpus" in name)
# A configuration that the hardware did record, and that the policy does not list.
CONFIG_NOT_PINNED = {"HOST_DATA_UNKNOWN", "PCR_UNKNOWN"}
# Each has debug mode by another name, and a field for it.
DEFECTS = {
    "debug": "DEBUG_ENABLED",
    "measurement": "MEASUREMENT_UNKNOWN",
    "config": "CONFIG_MISMATCH",
    "stale": "NONCE_MISMATCH",
}


def test_there_is_a_machine_of_every_tee() -> None:
    """TPMs are real software TPMs: ``test_release_tpm.py``."""
    assert {tee.value for tee in Tee} - {Tee.TPM.value} <= set(NAMES)


@pytest.fixture(params=NAMES)
def deployment(
    request: pytest.FixtureRequest,
    machine_of: Callable[[str], SimulatedMachine],
    make_deployment: Callable[..., MachineDeployment],
) -> MachineDeployment:
    # The broker can verify a second kind of TEE, which no policy here accepts.
    machine = machine_of(request.param)
    return make_deployment(machine, others=(stranger_to(machine, machine_of),))


def stranger_to(
    machine: SimulatedMachine, machine_of: Callable[[str], SimulatedMachine]
) -> SimulatedMachine:
    """A machine of another vendor: of each, one simulated root can be trusted at a time."""
    return machine_of("sev-snp" if machine.tee in INTEL else "tdx")


def test_release_and_serve(deployment: MachineDeployment) -> None:
    attester = deployment.attester()
    released = deployment.release(attester)
    assert released.model_key == MODEL_KEY
    (record,) = deployment.records()
    assert record == released.accepted.logged.record
    claims = deployment.claims
    assert (record.decision, record.hardware, record.tee) == (
        "release",
        "simulated",
        deployment.machine.tee,
    )
    assert (record.product, record.measurement) == (claims.product, claims.measurement.hex())
    assert record.product
    assert any(claims.measurement)
    assert record.chip_id == claims.instance.hex()
    assert record.devices == device_names(claims.devices)
    assert len(record.devices) == len(
        deployment.machine.devices.devices if deployment.machine.devices else ()
    )
    assert record.evidence_digest == str(released.evidence.digest())
    assert record.wildcards == list(wildcards(deployment.policy))

    runtime = deployment.appraise(attester, released)
    assert runtime.claims.tee is deployment.machine.tee
    assert runtime.logged == released.accepted.logged
    assert runtime.key_config.public_key == attester.keys.serving.public_key


def test_the_policy_accepts_this_kind_of_machine_and_no_other(
    deployment: MachineDeployment,
) -> None:
    platform = deployment.policy.platform
    present = {tee for tee, section in SECTIONS.items() if getattr(platform, section) is not None}
    assert present == {deployment.machine.tee}
    assert sum(entry.count for entry in platform.devices) == len(deployment.claims.devices)


@pytest.mark.parametrize("deployment", ["tdx", "sgx"], indirect=True)
def test_where_no_guest_is_named_its_key_is_the_holder(deployment: MachineDeployment) -> None:
    """The policy allows two holders; the key of a guest that asks again counts once."""
    assert not deployment.known_good().guest
    keys = generate_keys()
    for each in (keys, keys, generate_keys(), keys):
        deployment.release(deployment.attester(keys=each))
    with pytest.raises(PolicyDenied) as caught:
        deployment.release(deployment.attester(keys=generate_keys()))
    assert "HOLDERS_EXHAUSTED" in str(caught.value)


def test_a_lease_is_renewed_by_attesting_again(deployment: MachineDeployment) -> None:
    attester = deployment.attester()
    first = deployment.release(attester)
    again = deployment.release(attester, lease_id=first.accepted.response.lease_id)
    assert again.accepted.response.lease_id == first.accepted.response.lease_id
    assert again.evidence != first.evidence


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_of_the_machine(deployment: MachineDeployment, defect: str) -> None:
    attester = deployment.attester(defect)
    codes = deployment.codes(attester)
    assert DEFECTS[defect] in codes
    with pytest.raises(PolicyDenied) as refusal:
        deployment.release(attester)
    assert DEFECTS[defect] in {code.name for code, _ in refusal.value.reasons}
    assert deployment.store.unwrapped == []


def test_evidence_of_an_earlier_exchange(deployment: MachineDeployment) -> None:
    attester = deployment.attester()
    old = deployment.collected(attester, deployment.challenge())
    assert deployment.codes(attester, lambda _: old) == ["NONCE_MISMATCH"]


def test_a_whole_exchange_again(deployment: MachineDeployment) -> None:
    attester = deployment.attester()
    asked = deployment.challenge()
    request = deployment.request_of(attester, asked, deployment.collected(attester, asked))
    assert deployment.granted(deployment.post("/v1/release", request)).custody == "broker"
    opened = len(deployment.store.unwrapped)
    answer = deployment.post("/v1/release", request)
    assert deployment.refused(answer).code == "CHALLENGE_REUSED"
    assert len(deployment.store.unwrapped) == opened


def test_a_key_that_the_evidence_does_not_name(deployment: MachineDeployment) -> None:
    thief = generate_keys()
    stolen = {"hpke_public_key": b64(thief.release.public_key)}
    assert deployment.codes(deployment.attester(), **stolen) == ["NONCE_MISMATCH"]
    stolen = {"wrap_public_key": b64(thief.wrap_public)}
    assert deployment.codes(deployment.attester(), **stolen) == ["NONCE_MISMATCH"]


def test_a_runtime_of_another_model(deployment: MachineDeployment) -> None:
    """Its evidence names that model; and if it lies there, its measured configuration does."""
    assert deployment.codes(deployment.attester(model_id=OTHER_MODEL)) == ["NONCE_MISMATCH"]
    measured = msgspec.structs.replace(deployment.runtime_config(), model_id=str(OTHER_MODEL))
    codes = deployment.codes(deployment.attester(measured=measured))
    assert "MODEL_MISMATCH" in codes
    assert set(codes) & CONFIG_NOT_PINNED


def test_a_runtime_that_was_measured_with_another_log(deployment: MachineDeployment) -> None:
    measured = msgspec.structs.replace(
        deployment.runtime_config(), log_key="log.evil+0badc0de+AQID"
    )
    codes = deployment.codes(deployment.attester(measured=measured))
    assert "LOG_KEY_MISMATCH" in codes
    assert set(codes) & CONFIG_NOT_PINNED


def test_a_configuration_in_place_of_the_measured_one(deployment: MachineDeployment) -> None:
    """The host sends the right text along; the hardware recorded another."""
    measured = msgspec.structs.replace(deployment.runtime_config(), egress=["evil.example:443"])
    right = deployment.runtime_config().encode()
    codes = deployment.codes(
        deployment.attester(measured=measured), lambda found: replace(found, runtime_config=right)
    )
    assert "CONFIG_MISMATCH" in codes


def test_evidence_for_a_client_is_none_for_a_release(deployment: MachineDeployment) -> None:
    attester = deployment.attester()
    asked = deployment.challenge()
    serving = attester.for_client(bytes(range(32)), model_version=3, release=None)
    request = deployment.request_of(attester, asked, serving.evidence)
    assert deployment.denied(deployment.post("/v1/release", request)) == ["NONCE_MISMATCH"]


def test_another_kind_of_machine(
    deployment: MachineDeployment, machine_of: Callable[[str], SimulatedMachine]
) -> None:
    """Genuine, fresh, for this key and model; and of a TEE that the policy does not speak of."""
    stranger = stranger_to(deployment.machine, machine_of)
    assert "TEE_NOT_ACCEPTED" in deployment.codes(deployment.attester(machine=stranger))
    (record,) = deployment.records()
    assert (record.tee, record.hardware) == (stranger.tee, "simulated")


def test_an_unknown_root(
    machine_of: Callable[[str], SimulatedMachine], make_deployment: Callable[..., MachineDeployment]
) -> None:
    """A machine of a vendor that this broker was given no root of."""
    deployment = make_deployment(machine_of("sev-snp"))
    for name in ("tdx", "sgx", "aws-nitro", "az-tdx-vtpm"):
        assert deployment.codes(deployment.attester(machine=machine_of(name))) == [
            "ROOT_UNTRUSTED"
        ], name


def test_somebody_elses_throw_away_root(
    machine_of: Callable[[str], SimulatedMachine], make_deployment: Callable[..., MachineDeployment]
) -> None:
    deployment = make_deployment(machine_of("sev-snp"))
    for name in ("az-snp-vtpm", "sev-snp+gpus"):
        (code,) = deployment.codes(deployment.attester(machine=machine_of(name)))
        assert code in {"ROOT_UNTRUSTED", "CHAIN_INVALID", "CERTIFICATE_MALFORMED"}, name


# -- devices --------------------------------------------------------------------------------------


def test_devices_that_the_policy_does_not_speak_of(
    machine_of: Callable[[str], SimulatedMachine], make_deployment: Callable[..., MachineDeployment]
) -> None:
    """Genuine GPUs beside a CPU whose policy wants none, whatever the CPU is."""
    gpus = machine_of("sev-snp+gpus").devices
    assert gpus is not None
    seen = {}
    for name in NAMES:
        machine = machine_of(name)
        if machine.devices is None:
            more = replace(
                machine,
                roots=(*machine.roots, gpus.root),
                collateral={**machine.collateral, **device_files(gpus)},
            )
            deployment = make_deployment(more)
            seen[name] = deployment.codes(deployment.attester(devices=gpus))
            assert deployment.records()[-1].devices == device_names(gpus.devices)
    assert len(seen) == len(NAMES) - len(WITH_DEVICES)
    # One of each GPU.
    assert set(map(tuple, seen.values())) == {("DEVICE_SET_MISMATCH",) * len(gpus.devices)}


def device_files(devices: NvidiaSimulator) -> dict[str, bytes]:
    collateral = devices.collateral()
    rims = {f"rim-{index}.json": rim for index, rim in enumerate(collateral.rims)}
    return rims | {"denials.json": collateral.denials[0]}


@pytest.fixture(params=WITH_DEVICES)
def composite(
    request: pytest.FixtureRequest,
    machine_of: Callable[[str], SimulatedMachine],
    make_deployment: Callable[..., MachineDeployment],
) -> MachineDeployment:
    return make_deployment(machine_of(request.param))


def test_no_device_is_left_out(composite: MachineDeployment) -> None:
    """Whoever carries the evidence drops some: the CPU's report commits to all of them."""
    attester = composite.attester()
    for keep in (slice(0, 0), slice(0, -1), slice(1, None)):
        codes = composite.codes(
            attester, lambda found, keep=keep: replace(found, devices=found.devices[keep])
        )
        assert codes == ["NONCE_MISMATCH"]


def test_no_device_is_added_moved_or_doubled(composite: MachineDeployment) -> None:
    attester = composite.attester()
    for change in (
        lambda devices: (*devices, devices[0]),
        lambda devices: devices[::-1],
        lambda devices: (devices[1], devices[1], *devices[2:]),
    ):
        codes = composite.codes(
            attester,
            lambda found, change=change: replace(found, devices=change(found.devices)),
        )
        assert codes == ["NONCE_MISMATCH"]


def test_a_machine_with_fewer_devices(composite: MachineDeployment) -> None:
    """An honest runtime whose GPU is gone."""
    devices = composite.machine.devices
    assert devices is not None
    fewer = replace(devices, devices=devices.devices[1:])
    codes = set(composite.codes(composite.attester(devices=fewer)))
    # Where switches name their GPUs, the machine itself says that one is missing.
    assert codes & {"DEVICE_SET_MISMATCH", "COMPOSITE_MISMATCH"}
    none = replace(composite.machine, source="simulated-snp", options=cpu_options(composite))
    assert "DEVICE_SET_MISMATCH" in composite.codes(composite.attester(machine=none))


def cpu_options(deployment: MachineDeployment) -> dict[str, object]:
    return {"platform": deployment.machine.options["platform"]}


def test_a_machine_with_more_devices(composite: MachineDeployment) -> None:
    devices = composite.machine.devices
    assert devices is not None
    (extra,) = NvidiaSimulator.make(
        1, now=devices.authority.since, keys=devices.authority.keys
    ).devices
    more = replace(devices, devices=(*devices.gpus, extra, *devices.switches))
    codes = composite.codes(composite.attester(devices=more))
    assert set(codes) & {"DEVICE_SET_MISMATCH", "COMPOSITE_MISMATCH", "INSTANCE_NOT_ALLOWED"}


def test_other_devices_of_the_same_kind(composite: MachineDeployment) -> None:
    devices = composite.machine.devices
    assert devices is not None
    others = NvidiaSimulator.make(
        len(devices.gpus),
        len(devices.switches),
        now=devices.authority.since,
        keys=devices.authority.keys,
    )
    assert set(composite.codes(composite.attester(devices=others))) == {"INSTANCE_NOT_ALLOWED"}


def test_evidence_of_devices_for_another_runtime(composite: MachineDeployment) -> None:
    """GPUs of a second runtime on the same machine: their nonce names its key."""
    asked = composite.challenge()
    attester, other = composite.attester(), composite.attester(keys=generate_keys())
    theirs = composite.collected(other, asked).devices
    relayed = replace(attester, source=Relayed(attester.source, theirs))
    request = composite.request_of(relayed, asked, composite.collected(relayed, asked))
    assert composite.denied(composite.post("/v1/release", request)) == ["NONCE_MISMATCH"]


class Relayed:
    """A source whose devices' evidence comes from elsewhere."""

    def __init__(self, cpu: object, devices: tuple[object, ...]) -> None:
        self._cpu, self._devices = cpu, devices
        self.simulated = True

    def collect(self, report_data: bytes, runtime_config: bytes) -> object:
        return self._cpu.collect(report_data, runtime_config)

    def collect_devices(self, nonce: bytes) -> tuple[object, ...]:
        del nonce
        return self._devices


@pytest.mark.parametrize(
    ("defects", "code"),
    [
        ({"wrong_measurement": 9}, "RIM_MISMATCH"),
        ({"stale_nonce": True}, "NONCE_MISMATCH"),
        ({"bad_signature": True}, "SIGNATURE_INVALID"),
        ({"feature": 0}, "DEVICE_FEATURE_DENIED"),
        ({"vbios_version": "96.00.A5.00.02"}, "DEVICE_FIRMWARE_DENIED"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_defect_of_the_devices(
    composite: MachineDeployment, defects: dict[str, object], code: str
) -> None:
    options = dict(composite.machine.options)
    own = dict(options["device_defects"])
    bad = replace(composite.machine, options={**options, "device_defects": {**own, **defects}})
    assert code in composite.codes(composite.attester(machine=bad))


def test_kinds_of_devices_are_in_the_record(composite: MachineDeployment) -> None:
    composite.release(composite.attester())
    kinds = [name.partition(":")[0] for name in composite.records()[-1].devices]
    devices = composite.machine.devices
    assert devices is not None
    assert kinds.count(DeviceKind.NVIDIA_GPU) == len(devices.gpus)
    assert kinds.count(DeviceKind.NVIDIA_SWITCH) == len(devices.switches)


# -- clients --------------------------------------------------------------------------------------


def test_a_client_that_asked_something_else(deployment: MachineDeployment) -> None:
    attester = deployment.attester()
    released = deployment.release(attester)
    with pytest.raises(AttestationError, match="NONCE_MISMATCH"):
        deployment.appraise(attester, released, challenge=bytes(range(32)))


@pytest.mark.parametrize("defect", ["debug", "measurement", "config"])
def test_a_client_of_a_defective_runtime(deployment: MachineDeployment, defect: str) -> None:
    """It got its key honestly, and the client looks for itself."""
    released = deployment.release(deployment.attester())
    with pytest.raises(PolicyDenied) as refusal:
        deployment.appraise(deployment.attester(defect), released)
    assert DEFECTS[defect] in {code.name for code, _ in refusal.value.reasons}


def test_a_client_holds_the_log_against_the_devices(composite: MachineDeployment) -> None:
    """A release to this CPU with other devices is no release to this machine."""
    attester = composite.attester()
    released = composite.release(attester)
    logged = released.accepted.logged
    fewer = msgspec.structs.replace(logged.record, devices=logged.record.devices[1:])
    proof = composite.log.append(fewer).proof
    serving = attester.for_client(PIN_CHALLENGE, model_version=3, release=proof)
    with pytest.raises(LogError, match=r"RELEASE_PROOF_MISMATCH.*devices"):
        composite.appraise_bytes(serving.encode())
