"""The simulated Intel platform: kept on disk, plain about what it is, two plug-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import Hardware
from regalia.appraisal.collateral_rule import CollateralRule
from regalia.core.errors import AttestationError
from regalia.tees.intel.evidence import IntelAnchors
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import COLLATERAL_ENDINGS, parse_collateral
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import Tee, parse_evidence
from regalia_testing.anchors import simulated_anchors
from regalia_testing.sources import open_sgx, open_tdx
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.intel.testbed import IntelTestbed
from regalia_testing.testbed import REPORT_DATA, RUNTIME_CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

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
def test_a_source_takes_defects(testbed: IntelTestbed, open_source: Open, tee: Tee) -> None:
    folder = str(testbed.platform.directory)
    spoiled = open_source({"platform": folder, "defects": {"debug": True}})
    claims = testbed.verify(spoiled.collect(REPORT_DATA, RUNTIME_CONFIG))
    assert (claims.tee, claims.debug) == (tee, True)


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


def test_no_key_is_shown(testbed: IntelTestbed) -> None:
    assert "key" not in repr(testbed.platform)


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
