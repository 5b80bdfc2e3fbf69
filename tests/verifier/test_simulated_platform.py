"""The simulated platform: kept on disk, plain about what it is, and a plug-in like any other."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import regalia
from regalia.appraisal.claims import Hardware
from regalia.core.errors import LocalError, ParseError, RegaliaError, UsageError
from regalia.host.plugins import EVIDENCE_SOURCES, load
from regalia.tees.snp.evidence.wire import parse_report
from regalia.wire.evidence import parse_evidence
from regalia_testing.options import defects_from
from regalia_testing.sources import open_snp
from regalia_testing.tees.snp.defects import HEALTHY, SnpDefects
from regalia_testing.tees.snp.simulator import (
    MEASUREMENT_SIZE,
    SnpSimulator,
    measure_code,
)
from regalia_testing.tees.snp.testbed import SnpTestbed
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA, RUNTIME_CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.tees.snp.authority import SnpKeys


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
def test_open_is_create(testbed_of: Callable[[str], SnpTestbed], product: str) -> None:
    testbed = testbed_of(product)
    again = SnpSimulator.open(testbed.platform.directory)
    for name in ("hwid", "report_id", "secret", "ark", "ask", "asvk", "crl", "product"):
        assert getattr(again, name) == getattr(testbed.platform, name)
    claims = testbed.verify(SnpTestbed(again, testbed.now).evidence())
    assert claims.hardware is Hardware.SIMULATED
    assert claims.chip_id.startswith(again.hwid)


def test_no_secret_is_shown(testbed: SnpTestbed) -> None:
    assert "secret" not in repr(testbed.platform)
    assert testbed.platform.secret.hex() not in repr(testbed)


def test_an_unknown_product_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        SnpSimulator.create(tmp_path / "new", "Rome")
    assert not (tmp_path / "new").exists()


def test_platforms_do_not_vouch_for_each_other(
    testbed: SnpTestbed, authority_keys: SnpKeys, tmp_path: Path
) -> None:
    """Another chip under the same root: genuine by itself, and not with the first's leaf."""
    other = SnpSimulator.create(tmp_path / "p", "Genoa", now=testbed.now, keys=authority_keys)
    theirs = SnpTestbed(other, testbed.now)
    assert theirs.verify(theirs.evidence()).chip_id != testbed.verify(testbed.evidence()).chip_id
    stolen = replace(theirs.evidence(), endorsements=testbed.evidence().endorsements)
    with pytest.raises(RegaliaError) as refusal:
        theirs.verify(stolen)
    assert refusal.value.code.name == "LEAF_BINDING_MISMATCH"


def test_another_tcb_or_kind_has_another_key(testbed: SnpTestbed) -> None:
    """Like hardware: the leaf of the old TCB does not fit reports of the new one."""
    evidence = testbed.evidence()
    old = testbed.platform.endorsements(replace(HEALTHY, old_tcb=True))
    with pytest.raises(RegaliaError) as refusal:
        testbed.verify(replace(evidence, endorsements=old))
    assert refusal.value.code.name == "LEAF_BINDING_MISMATCH"


def test_evidence_is_bound_to_the_configuration(testbed: SnpTestbed) -> None:
    evidence = testbed.evidence()
    claims = testbed.verify(parse_evidence(evidence.encode()))
    assert claims.host_data == hashlib.sha256(RUNTIME_CONFIG).digest()
    assert evidence.runtime_config == RUNTIME_CONFIG


@pytest.mark.parametrize(
    ("report_data", "measurement", "host_data"),
    [(bytes(63), bytes(48), bytes(32)), (bytes(64), bytes(47), bytes(32)), (b"", b"", b"")],
)
def test_nothing_is_padded(
    testbed: SnpTestbed, report_data: bytes, measurement: bytes, host_data: bytes
) -> None:
    with pytest.raises(ParseError):
        testbed.platform.report(report_data, measurement=measurement, host_data=host_data)


def test_every_knob_changes_the_evidence(testbed: SnpTestbed) -> None:
    """A field without effect would make its attack test pass for nothing."""
    changed = {
        "guest_svn": 1,
        "vmpl": 1,
        "mit_vector": 0,
        "report_version": 5,
        "signing_key": "vlek",
        "signature_algo": 2,
        "reserved_byte": 0x4C,
    }

    def state(defects: SnpDefects) -> tuple[object, ...]:
        # What the signature says varies; what it is over, and for whom the leaf is, does not.
        evidence = testbed.platform.evidence(
            REPORT_DATA, measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG, defects=defects
        )
        try:
            testbed.verify(evidence)
            verdict = "accepted"
        except RegaliaError as refusal:
            verdict = refusal.what
        return evidence.report[:0x2A0], len(evidence.report), verdict

    for field in fields(SnpDefects):
        start = replace(HEALTHY, report_version=5) if field.name == "mit_vector" else HEALTHY
        value = changed.get(field.name, not getattr(start, field.name))
        assert state(replace(start, **{field.name: value})) != state(start), field.name


# Measuring code.


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.py").write_bytes(b"one")
    (folder / "inner" / "b.py").write_bytes(b"two")
    return folder


def test_compiled_files_are_not_measured(package: Path) -> None:
    before = measure_code(package)
    assert len(before) == MEASUREMENT_SIZE
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"compiled")
    (package / "inner" / "b.pyc").write_bytes(b"compiled")
    assert measure_code(package) == before


def test_every_change_of_the_source_is_measured(package: Path) -> None:
    seen = {measure_code(package)}

    def changed() -> None:
        measurement = measure_code(package)
        assert measurement not in seen
        seen.add(measurement)

    (package / "a.py").write_bytes(b"onE")
    changed()
    (package / "a.py").rename(package / "c.py")
    changed()
    (package / "empty").write_bytes(b"")
    changed()
    (package / "empty").rename(package / "inner" / "empty")
    changed()
    # Swapped contents, and bytes that move from a name to a content.
    (package / "c.py").write_bytes(b"two")
    (package / "inner" / "b.py").write_bytes(b"onE")
    changed()


def test_nothing_to_measure(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(LocalError):
            measure_code(folder)


def test_another_process_measures_the_same() -> None:
    """What `policy pin` computes is what the runtime's source reports."""
    program = (
        "import pathlib, regalia; from regalia_testing.tees.snp.simulator import measure_code; "
        "print(measure_code(pathlib.Path(regalia.__file__).parent).hex())"
    )
    for _ in range(3):  # files may be edited beside this test while it runs
        here = measure_code(Path(regalia.__file__).parent)
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
        if done.stdout.strip() == here.hex():
            return
    pytest.fail("the measurement differs between processes")


# The plug-in.


def test_the_plug_in_is_found_by_name(testbed: SnpTestbed) -> None:
    assert load(EVIDENCE_SOURCES, "simulated-snp") is open_snp
    source = open_snp({"platform": str(testbed.platform.directory)})
    assert source.simulated
    evidence = source.collect(REPORT_DATA, RUNTIME_CONFIG)
    claims = testbed.verify(evidence)
    assert claims.report_data == REPORT_DATA
    assert claims.host_data == hashlib.sha256(RUNTIME_CONFIG).digest()
    assert len(claims.measurement) == MEASUREMENT_SIZE


def test_the_plug_in_takes_knobs(testbed: SnpTestbed) -> None:
    options = {"platform": str(testbed.platform.directory), "defects": {"debug": True, "vmpl": 2}}
    report = parse_report(open_snp(options).collect(REPORT_DATA, RUNTIME_CONFIG).report)
    assert report.vmpl == 2
    assert report.policy & 1 << 19


def test_knobs_from_options() -> None:
    assert defects_from({}, HEALTHY) == HEALTHY
    assert defects_from({"old_tcb": True}, HEALTHY) == SnpDefects(old_tcb=True)


def test_a_platform_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "regalia_testing", "platform", str(tmp_path / "made")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "simulated" in done.stdout
    SnpSimulator.open(tmp_path / "made")
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 9
    assert "FILE_EXISTS" in again.stderr
    assert "Traceback" not in again.stderr
