"""The release path with a live TPM 2.0 (swtpm): enrolled, quoted, and everything that must fail.

Nothing of the TPM is ours: it extends, counts its resets and signs as it does everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.core.codec import b64
from regalia.core.errors import LocalError
from regalia.host.clock import system_clock
from regalia.runtime.keys import generate_keys
from regalia.tees.tpm.device import TpmDevice
from regalia.tees.tpm.evidence.enrolment import parse_enrolment
from regalia.wire.evidence import Tee
from regalia_testing.machines import tpm_machine
from regalia_testing.tees.tpm.swtpm import TpmMaker, missing_programs
from tests.broker.harness import MODEL_KEY
from tests.release.deployments import OTHER_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia_testing.machines import SimulatedMachine
    from regalia_testing.tees.tpm.swtpm import SoftwareTpm
    from tests.release.deployments import MachineDeployment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {missing_programs()}"),
]
KERNEL_PCR = 9  # what GRUB loads


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> TpmMaker:
    return TpmMaker.create(tmp_path_factory.mktemp("tpm-maker") / "ca")


@pytest.fixture
def tpm(maker: TpmMaker) -> Iterator[SoftwareTpm]:
    with maker.make() as made:
        boot(made)
        yield made


def boot(tpm: SoftwareTpm, kernel: bytes = b"the accepted kernel") -> None:
    """What firmware and loader of the machine measure."""
    with TpmDevice.open(tpm.tcti) as device:
        device.extend(0, b"firmware")
        device.extend(KERNEL_PCR, kernel)


@pytest.fixture
def machine(maker: TpmMaker, tpm: SoftwareTpm) -> SimulatedMachine:
    return tpm_machine(tpm, maker, now=system_clock())


@pytest.fixture
def deployment(
    make_deployment: Callable[..., MachineDeployment], machine: SimulatedMachine
) -> MachineDeployment:
    return make_deployment(machine)


def test_release_and_serve(deployment: MachineDeployment) -> None:
    attester = deployment.attester()
    released = deployment.release(attester)
    assert released.model_key == MODEL_KEY
    (record,) = deployment.records()
    claims = deployment.claims
    assert (record.decision, record.hardware, record.tee) == ("release", "simulated", Tee.TPM)
    assert (record.product, record.measurement) == (claims.product, claims.measurement.hex())
    assert record.chip_id == claims.instance.hex()
    assert any(claims.instance)
    assert record.devices == []
    runtime = deployment.appraise(attester, released)
    assert runtime.claims.tee is Tee.TPM
    assert runtime.logged == released.accepted.logged
    again = deployment.release(attester, lease_id=released.accepted.response.lease_id)
    assert again.accepted.response.lease_id == released.accepted.response.lease_id


def test_replays_and_other_keys(deployment: MachineDeployment) -> None:
    attester = deployment.attester()
    old = deployment.collected(attester, deployment.challenge())
    assert deployment.codes(attester, lambda _: old) == ["NONCE_MISMATCH"]
    thief = generate_keys()
    assert deployment.codes(attester, hpke_public_key=b64(thief.release.public_key)) == [
        "NONCE_MISMATCH"
    ]
    assert deployment.codes(deployment.attester(model_id=OTHER_MODEL)) == ["NONCE_MISMATCH"]


def test_another_kernel(deployment: MachineDeployment, tpm: SoftwareTpm) -> None:
    """Extended after the policy was pinned, or booted instead of the accepted one."""
    attester = deployment.attester()
    with TpmDevice.open(tpm.tcti) as device:
        device.extend(KERNEL_PCR, b"a module of the host's")
    assert "PCR_UNKNOWN" in deployment.codes(attester)
    tpm.reboot()
    boot(tpm, b"another kernel")
    assert "PCR_UNKNOWN" in deployment.codes(attester)
    tpm.reboot()
    boot(tpm)
    assert deployment.release(attester).model_key == MODEL_KEY


def test_another_configuration(deployment: MachineDeployment, tpm: SoftwareTpm) -> None:
    config = deployment.runtime_config()
    measured = msgspec.structs.replace(config, egress=["evil.example:443"])
    with pytest.raises(LocalError, match="CONFIG_SLOT_TAKEN"):
        deployment.codes(deployment.attester(measured=measured))
    tpm.reboot()
    boot(tpm)
    attester = deployment.attester(measured=measured)
    assert "PCR_UNKNOWN" in deployment.codes(attester)
    codes = deployment.codes(attester, lambda found: replace(found, runtime_config=config.encode()))
    assert "CONFIG_MISMATCH" in codes


def demand(deployment: MachineDeployment, **changes: Any) -> None:  # noqa: ANN401 - fields of the section
    """Another policy, in force at once."""
    platform = deployment.policy.platform
    section = msgspec.structs.replace(platform.tpm, **changes)
    deployment.policy = msgspec.structs.replace(
        deployment.policy,
        version=deployment.policy.version + 1,
        platform=msgspec.structs.replace(platform, tpm=section),
    )
    deployment.restart()


def test_a_reboot(deployment: MachineDeployment, tpm: SoftwareTpm) -> None:
    """No defect by itself; a policy may want the very boot in which the machine was enrolled."""
    attester = deployment.attester()
    demand(deployment, same_boot="required")
    assert deployment.release(attester).model_key == MODEL_KEY
    tpm.reboot()
    boot(tpm)
    deployment.store.unwrapped.clear()
    assert deployment.codes(attester) == ["REBOOTED_SINCE_ENROLMENT"]
    demand(deployment, same_boot="any")
    assert deployment.release(attester).model_key == MODEL_KEY


def test_an_enrolment_of_the_future(deployment: MachineDeployment) -> None:
    """A TPM whose count of resets lies below the enrolment's was cleared, or is another."""
    enrolment = parse_enrolment(deployment.machine.collateral["enrolment.json"])
    later = replace(enrolment, reset_count=enrolment.reset_count + 5)
    lied = replace(
        deployment.machine,
        collateral={**deployment.machine.collateral, "enrolment.json": later.encode()},
    )
    deployment.verifier = lied.verifier
    deployment.restart()
    assert deployment.codes(deployment.attester()) == ["TPM_RESET_COUNT"]


def test_an_ak_that_nobody_enrolled(deployment: MachineDeployment) -> None:
    """A genuine TPM of the trusted maker, and no record that its AK lives in it."""
    bare = {
        name: data
        for name, data in deployment.machine.collateral.items()
        if name != "enrolment.json"
    }
    deployment.verifier = replace(deployment.machine, collateral=bare).verifier
    deployment.restart()
    assert deployment.codes(deployment.attester()) == ["AK_UNBOUND"]


def test_another_tpm_of_the_same_maker(deployment: MachineDeployment, maker: TpmMaker) -> None:
    """Enrolled or not, it is not the machine that the policy names."""
    with maker.make() as second:
        boot(second)
        other = tpm_machine(second, maker, now=system_clock())
        assert deployment.codes(deployment.attester(machine=other)) == ["AK_UNBOUND"]
        both = {**deployment.machine.collateral, "second.json": other.collateral["enrolment.json"]}
        deployment.verifier = replace(deployment.machine, collateral=both).verifier
        deployment.restart()
        assert deployment.codes(deployment.attester(machine=other)) == ["INSTANCE_NOT_ALLOWED"]


def test_a_root_of_another_maker(
    deployment: MachineDeployment, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = TpmMaker.create(tmp_path_factory.mktemp("other-maker") / "ca")
    with other.make():
        deployment.verifier = replace(deployment.machine, roots=(other.root,)).verifier
        deployment.restart()
        (code,) = deployment.codes(deployment.attester())
    assert code in {"ROOT_UNTRUSTED", "CHAIN_INVALID"}
