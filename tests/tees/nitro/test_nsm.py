"""The Nitro source against a double of the module at the ioctl, and what is made of it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.config_binding import NITRO_PCR, expected_slot
from regalia.appraisal.pki import Cache
from regalia.core.errors import LocalError, UnavailableError, UsageError
from regalia.tees.nitro.evidence import NitroCollateral
from regalia.tees.nitro.evidence.plugin import NITRO
from regalia.tees.nitro.source import NitroSource, Nsm, collect, open_source, record_config
from regalia.wire.evidence import ShowsWrapKey, Tee
from regalia_testing.tees.nitro.nsm import FakeNsm
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.testbed import ANY, MEASUREMENT, REPORT_DATA, RUNTIME_CONFIG
from regalia_testing.verify import verify_fresh

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> NitroSimulator:
    folder = tmp_path_factory.mktemp("nsm") / "platform"
    return NitroSimulator.create(folder, clock=lambda: NOW)


@pytest.fixture
def module(platform: NitroSimulator) -> FakeNsm:
    return FakeNsm(platform, MEASUREMENT)


def opened(module: FakeNsm) -> Nsm:
    return Nsm(7, module.ioctl)


def test_evidence_that_verifies(platform: NitroSimulator, module: FakeNsm) -> None:
    evidence = collect(opened(module), REPORT_DATA, RUNTIME_CONFIG)
    claims = verify_fresh(
        NITRO,
        evidence,
        anchors=platform.anchors(),
        collateral=NitroCollateral(),
        report_data=REPORT_DATA,
        at=AppraisalContext(now=NOW, rule=ANY, cache=Cache()),
    )
    assert claims.measurement == MEASUREMENT
    assert claims.config_binding == expected_slot(Tee.NITRO, RUNTIME_CONFIG)
    assert evidence.runtime_config == RUNTIME_CONFIG


def test_a_document_that_shows_the_wrap_key(platform: NitroSimulator, module: FakeNsm) -> None:
    evidence = collect(opened(module), REPORT_DATA, RUNTIME_CONFIG, b"wrap key")
    claims = verify_fresh(
        NITRO,
        evidence,
        anchors=platform.anchors(),
        collateral=NitroCollateral(),
        report_data=REPORT_DATA,
        at=AppraisalContext(now=NOW, rule=ANY, cache=Cache()),
    )
    assert claims.public_key == b"wrap key"
    assert isinstance(open_source({}), ShowsWrapKey)


def test_the_configuration_is_recorded_once(module: FakeNsm) -> None:
    nsm = opened(module)
    for _ in range(3):
        record_config(nsm, RUNTIME_CONFIG)
    assert module.pcrs[NITRO_PCR] == expected_slot(Tee.NITRO, RUNTIME_CONFIG)
    assert NITRO_PCR in module.locked


def test_another_configuration_is_refused(module: FakeNsm) -> None:
    nsm = opened(module)
    record_config(nsm, RUNTIME_CONFIG)
    with pytest.raises(LocalError) as refusal:
        collect(nsm, REPORT_DATA, b"another configuration")
    assert refusal.value.code.name == "CONFIG_SLOT_TAKEN"


def test_a_register_that_was_used_or_locked_before(module: FakeNsm) -> None:
    nsm = opened(module)
    module.locked.add(NITRO_PCR)
    with pytest.raises(LocalError) as refusal:
        record_config(nsm, RUNTIME_CONFIG)
    assert refusal.value.code.name == "CONFIG_SLOT_TAKEN"
    module.locked.remove(NITRO_PCR)
    nsm.extend(NITRO_PCR, hashlib.sha384(b"something").digest())
    with pytest.raises(LocalError) as refusal:
        record_config(nsm, RUNTIME_CONFIG)
    assert refusal.value.code.name == "CONFIG_SLOT_TAKEN"
    assert NITRO_PCR not in module.locked


def test_what_was_extended_and_not_locked_is_locked(module: FakeNsm) -> None:
    nsm = opened(module)
    nsm.extend(NITRO_PCR, hashlib.sha384(RUNTIME_CONFIG).digest())
    record_config(nsm, RUNTIME_CONFIG)
    assert NITRO_PCR in module.locked


def test_a_driver_that_does_not_say_how_much_it_wrote(
    platform: NitroSimulator,
) -> None:
    module = FakeNsm(platform, MEASUREMENT, wrong="size_not_written")
    assert collect(opened(module), REPORT_DATA, RUNTIME_CONFIG).report


@pytest.mark.parametrize(
    "wrong",
    [
        "errno",
        "error",
        "noise",
        "another_answer",
        "no_members",
        "no_lock",
        "trailing",
        "size_too_large",
    ],
)
def test_a_module_that_misbehaves(platform: NitroSimulator, wrong: str) -> None:
    module = FakeNsm(platform, MEASUREMENT, wrong=wrong)
    with pytest.raises(LocalError) as refusal:
        collect(opened(module), REPORT_DATA, RUNTIME_CONFIG)
    assert refusal.value.code.name == "NSM_REFUSED"


def test_requests_have_a_limit(module: FakeNsm) -> None:
    with pytest.raises(LocalError) as refusal:
        opened(module).extend(NITRO_PCR, bytes(0x1000))
    assert refusal.value.code.name == "TOO_LARGE"
    with pytest.raises(LocalError):
        opened(module).pcr(99)
    with pytest.raises(LocalError):
        opened(module).extend(3, b"a locked register")


def test_without_a_device(tmp_path: Path) -> None:
    source = open_source({"device": str(tmp_path / "nsm")})
    assert not source.simulated
    assert source.collect_devices(bytes(32)) == ()
    with pytest.raises(UnavailableError) as refusal:
        source.collect(REPORT_DATA, RUNTIME_CONFIG)
    assert refusal.value.code.name == "NSM_UNREACHABLE"
    with pytest.raises(UnavailableError) as refusal:
        NitroSource(tmp_path / "nsm").collect_with_key(REPORT_DATA, RUNTIME_CONFIG, b"key")
    assert refusal.value.code.name == "NSM_UNREACHABLE"
    assert open_source({}) == NitroSource(Path("/dev/nsm"))


def test_a_file_that_is_no_module(tmp_path: Path) -> None:
    path = tmp_path / "nsm"
    path.write_bytes(b"")
    with pytest.raises(LocalError) as refusal:
        open_source({"device": str(path)}).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert refusal.value.code.name == "NSM_REFUSED"


@pytest.mark.parametrize("options", [{"device": ""}, {"device": 5}, {"unknown": 1}])
def test_unusable_options(options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refusal:
        open_source(options)
    assert refusal.value.code.name == "BAD_CONFIG"
