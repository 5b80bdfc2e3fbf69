"""The simulated hypervisor: kept on disk, plain about what it is, and a plug-in like any other."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.config_binding import expected_slot
from regalia.core.errors import ParseError
from regalia.wire.evidence import Tee, parse_evidence
from regalia_testing.sources import open_nitro
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.nitro.testbed import NitroTestbed
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA, RUNTIME_CONFIG

if TYPE_CHECKING:
    from pathlib import Path


def test_open_starts_another_enclave(nitro: NitroTestbed) -> None:
    again = NitroSimulator.open(nitro.platform.directory, clock=lambda: nitro.now)
    assert again.root == nitro.platform.root
    testbed = NitroTestbed(again, nitro.now)
    claims = testbed.verify(testbed.evidence(), anchors=nitro.platform.anchors())
    first = nitro.verify(nitro.evidence())
    assert claims.instance == first.instance
    assert claims.guest != first.guest


def test_platforms_do_not_vouch_for_each_other(nitro: NitroTestbed, tmp_path: Path) -> None:
    other = NitroSimulator.create(tmp_path / "other", clock=lambda: nitro.now)
    theirs = NitroTestbed(other, nitro.now)
    theirs.verify(theirs.evidence())
    refused("ROOT_UNTRUSTED", nitro.verify, evidence=theirs.evidence())


def test_documents_expire(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence()
    nitro.verify(evidence, now=nitro.now + timedelta(hours=3))
    refused(
        "CERT_EXPIRED",
        nitro.verify,
        evidence=evidence,
        now=nitro.now + timedelta(hours=3, seconds=1),
    )


@pytest.mark.parametrize(("data", "measurement"), [(bytes(63), bytes(48)), (bytes(64), b"")])
def test_nothing_is_padded(nitro: NitroTestbed, data: bytes, measurement: bytes) -> None:
    with pytest.raises(ParseError):
        nitro.platform.evidence(data, measurement=measurement, runtime_config=b"")


def test_the_source(nitro: NitroTestbed, tmp_path: Path) -> None:
    NitroSimulator.create(tmp_path / "platform")
    source = open_nitro({"platform": str(tmp_path / "platform")})
    assert source.simulated
    assert source.collect_devices(bytes(32)) == ()
    evidence = parse_evidence(source.collect(REPORT_DATA, RUNTIME_CONFIG).encode())
    assert evidence.tee is Tee.NITRO
    opened = NitroSimulator.open(tmp_path / "platform")
    claims = NitroTestbed(opened, opened.clock()).verify(evidence)
    assert claims.config_binding == expected_slot(Tee.NITRO, RUNTIME_CONFIG)
    assert claims.measurement != MEASUREMENT
    refused("ROOT_UNTRUSTED", nitro.verify, evidence=evidence)


def test_the_source_takes_knobs(tmp_path: Path) -> None:
    NitroSimulator.create(tmp_path / "platform")
    options = {"platform": str(tmp_path / "platform"), "defects": {"debug": True}}
    opened = NitroSimulator.open(tmp_path / "platform")
    evidence = open_nitro(options).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert NitroTestbed(opened, opened.clock()).verify(evidence).debug
