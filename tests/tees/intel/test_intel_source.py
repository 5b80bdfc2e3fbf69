"""The simulated Intel platform: kept on disk, plain about what it is, two plug-ins."""

from __future__ import annotations

import shutil
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import Hardware
from regalia.appraisal.collateral_rule import CollateralRule
from regalia.core.errors import AttestationError, LocalError, ParseError, UsageError
from regalia.tees.intel.evidence import IntelAnchors
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import COLLATERAL_ENDINGS, parse_collateral
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import Tee, parse_evidence
from regalia_testing.anchors import simulated_anchors
from regalia_testing.folder import MARKER
from regalia_testing.sources import open_sgx, open_tdx
from regalia_testing.tees.intel.authority import IntelKeys
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.intel.testbed import REPORT_DATA, RUNTIME_CONFIG, IntelTestbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.wire.evidence import EvidenceSource

    Open = Callable[[dict[str, object]], EvidenceSource]

SOURCES = [(open_tdx, Tee.TDX), (open_sgx, Tee.SGX)]
REQUIRED = CollateralRule.of_words("required", 0)


@pytest.mark.parametrize(("open_source", "tee"), SOURCES, ids=["tdx", "sgx"])
def test_a_source_and_the_one_verifier(testbed: IntelTestbed, open_source: Open, tee: Tee) -> None:
    folder = testbed.platform.directory
    assert folder is not None
    source = open_source({"platform": str(folder)})
    assert source.simulated
    assert source.collect_devices(bytes(32)) == ()
    evidence = source.collect(REPORT_DATA, RUNTIME_CONFIG)
    assert evidence.tee is tee
    assert parse_evidence(evidence.encode()) == evidence
    files = {
        path.name: path.read_bytes()
        for path in sorted((folder / "collateral").iterdir())
        if path.suffix in COLLATERAL_ENDINGS
    }
    anchors = simulated_anchors((files["root.der"],))
    verifier = Verifier(anchors, parse_collateral(files))
    for _ in range(2):  # the second time with prepared collateral
        claims = verifier.verify_cpu(
            evidence, report_data=REPORT_DATA, rule=REQUIRED, now=testbed.now
        )
        assert claims.hardware is Hardware.SIMULATED
        assert claims.tee is tee
    with pytest.raises(AttestationError) as refusal:
        Verifier(TrustAnchors.production(), parse_collateral(files)).verify_cpu(
            evidence, report_data=REPORT_DATA, rule=REQUIRED, now=testbed.now
        )
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


@pytest.mark.parametrize(("open_source", "tee"), SOURCES, ids=["tdx", "sgx"])
def test_options_of_a_source(testbed: IntelTestbed, open_source: Open, tee: Tee) -> None:
    folder = str(testbed.platform.directory)
    spoiled = open_source({"platform": folder, "defects": {"debug": True}})
    assert testbed.verify(spoiled.collect(REPORT_DATA, RUNTIME_CONFIG)).debug
    for options in (
        {},
        {"platform": ""},
        {"platform": 7},
        {"platform": folder, "other": 1},
        {"platform": folder, "defects": []},
        {"platform": folder, "defects": {"no_such": True}},
        {"platform": folder, "defects": {"debug": "yes"}},
        {"platform": folder, "defects": {"debug": 1}},
        {"platform": folder, "defects": {"level": "Fine"}},
    ):
        with pytest.raises(UsageError):
            open_source(options)
    with pytest.raises(LocalError):
        open_source({"platform": folder + "/nowhere"})
    assert tee in (Tee.TDX, Tee.SGX)


def test_open_is_create(testbed: IntelTestbed) -> None:
    folder = testbed.platform.directory
    assert folder is not None
    again = IntelSimulator.open(folder)
    assert (again.ppid, again.platform_instance_id) == (
        testbed.platform.ppid,
        testbed.platform.platform_instance_id,
    )
    claims = testbed.verify(IntelTestbed(again, testbed.now).evidence())
    assert claims.hardware is Hardware.SIMULATED


def test_what_lies_in_the_directory(testbed: IntelTestbed) -> None:
    folder = testbed.platform.directory
    assert folder is not None
    assert "protected from nobody" in (folder / MARKER).read_text()
    assert folder.stat().st_mode & 0o077 == 0
    for key in fields(IntelKeys):
        assert (folder / f"{key.name}.key").stat().st_mode & 0o777 == 0o600
    assert "key" not in repr(testbed.platform)


def test_no_directory_is_overwritten(testbed: IntelTestbed, tmp_path: Path) -> None:
    assert testbed.platform.directory is not None
    with pytest.raises(LocalError) as refusal:
        IntelSimulator.create(testbed.platform.directory)
    assert refusal.value.code.name == "FILE_EXISTS"
    with pytest.raises(LocalError):
        IntelSimulator.open(tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("platform.json", b"{}"),
        ("platform.json", b""),
        ("root.key", b"not a key"),
        ("pck.key", b""),
    ],
)
def test_a_damaged_directory(testbed: IntelTestbed, tmp_path: Path, name: str, data: bytes) -> None:
    assert testbed.platform.directory is not None
    copy = tmp_path / "copy"
    shutil.copytree(testbed.platform.directory, copy)
    (copy / name).write_bytes(data)
    with pytest.raises(ParseError):
        IntelSimulator.open(copy)


def test_simulated_anchors_of_several_vendors(testbed: IntelTestbed) -> None:
    root = testbed.platform.authority.root()
    assert simulated_anchors((root,)).of(IntelAnchors) is not None
    for roots in ((), (root, root), (testbed.platform.authority.pck_ca(),)):
        with pytest.raises(AttestationError):
            simulated_anchors(roots)
    with pytest.raises(AttestationError) as refusal:
        Verifier(TrustAnchors(), parse_collateral({})).verify_cpu(
            testbed.evidence(), report_data=REPORT_DATA, rule=REQUIRED, now=testbed.now
        )
    assert refusal.value.code.name == "ROOT_UNTRUSTED"
