"""Fetching collateral from services that answer rightly, wrongly or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.cli.main import run
from regalia.host.clock import system_clock
from regalia.verifier.collateral import parse_collateral
from regalia.wire.evidence import DeviceEvidence, DeviceKind
from regalia_testing.tees.intel.defects import HEALTHY
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.snp.authority import SnpKeys
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.vendor_server import Served, VendorServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.wire.evidence import Evidence

RULE = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
REPORT_DATA = hashlib.sha512(b"report data").digest()
CONFIG = b"the runtime's configuration"
MEASUREMENT = hashlib.sha384(b"image").digest()


@pytest.fixture(scope="module")
def keys() -> SnpKeys:
    return SnpKeys.generate()


@pytest.fixture(scope="module", params=["Genoa", "Turin"])
def platform(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, keys: SnpKeys
) -> SnpSimulator:
    folder = tmp_path_factory.mktemp("snp") / request.param
    return SnpSimulator.create(folder, request.param, keys=keys)


@pytest.fixture(scope="module")
def intel() -> IntelSimulator:
    return IntelSimulator.make()


@pytest.fixture
def server() -> Iterator[VendorServer]:
    with VendorServer() as running:
        yield running


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    with contextlib.chdir(tmp_path):
        yield tmp_path


def snp_evidence(platform: SnpSimulator) -> Evidence:
    return platform.evidence(REPORT_DATA, measurement=MEASUREMENT, runtime_config=CONFIG)


def prepare_snp(platform: SnpSimulator, server: VendorServer) -> tuple[list[str], str]:
    """Evidence without its certificates, and the command that fetches them."""
    evidence = snp_evidence(platform)
    leaf = server.serve_kds(platform, evidence)
    Path("root.der").write_bytes(platform.ark)
    Path("evidence.json").write_bytes(replace(evidence, endorsements=()).encode())
    command = ["collateral", "fetch", "--evidence", "evidence.json", "--into", "files"]
    return [*command, "--kds", server.url, "--dangerous-simulated-anchor", "root.der"], leaf


def refused(command: list[str], code: str, status: int, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run([*command, "--json"]) == status, capsys.readouterr()
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["code"] == code, answer
    what: str = answer["error"]["what"]
    return what


def test_what_a_report_needs_is_fetched(
    platform: SnpSimulator, server: VendorServer, here: Path
) -> None:
    command, leaf = prepare_snp(platform, server)
    assert run(command) == 0
    files = {p.name: p.read_bytes() for p in (here / "files").iterdir()}
    assert len(files) == 3
    product = platform.product
    assert sorted(server.asked) == sorted(
        [f"/vcek/v1/{product}/cert_chain", f"/vcek/v1/{product}/crl", leaf]
    )
    collateral = parse_collateral(files)
    evidence = replace(snp_evidence(platform), endorsements=())
    verifier = replace(platform.verifier(), collateral=collateral)
    verifier.verify_cpu(evidence, report_data=REPORT_DATA, rule=RULE, now=system_clock())
    assert run(["collateral", "check", "files", "--evidence", "evidence.json"]) == 0
    assert run(command) == 0  # again, over the same files


def test_nothing_is_asked_without_an_address(
    platform: SnpSimulator,
    server: VendorServer,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, _ = prepare_snp(platform, server)
    command = [word for word in command if word not in ("--kds", server.url)]
    assert "--kds https://kdsintf.amd.com" in refused(command, "BAD_USAGE", 2, capsys)
    assert server.asked == []
    assert not (here / "files").exists()


@pytest.mark.parametrize("address", ["ftp://x", "kds", "http://", "http://[::1"])
def test_addresses_that_are_none(
    platform: SnpSimulator,
    server: VendorServer,
    here: Path,  # noqa: ARG001 - the test runs there
    capsys: pytest.CaptureFixture[str],
    address: str,
) -> None:
    command, _ = prepare_snp(platform, server)
    refused([*command, "--kds", address], "BAD_USAGE", 2, capsys)


def spoil(server: VendorServer, path: str, served: Served) -> None:
    assert path in server.answers
    server.answers[path] = served


def test_wrong_answers_of_amds_service(
    platform: SnpSimulator,
    server: VendorServer,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    command, leaf = prepare_snp(platform, server)
    chain = f"/vcek/v1/{platform.product}/cert_chain"
    crl = f"/vcek/v1/{platform.product}/crl"
    stranger = SnpSimulator.create(tmp_path_factory.mktemp("other") / "p", str(platform.product))
    theirs = snp_evidence(stranger)
    forged = snp_evidence(replace(stranger, hwid=platform.hwid))
    authority = platform.authority
    old = replace(authority.crl(), next_update=system_clock() - timedelta(days=1))
    cases: list[tuple[str, Served, str, int]] = [
        (leaf, Served(b"", status=404), "COLLATERAL_NOT_SERVED", 8),
        (leaf, Served(b"", status=429), "COLLATERAL_SERVICE_FAILED", 8),
        (leaf, Served(b"", {"Location": server.url}, 302), "COLLATERAL_SERVICE_FAILED", 8),
        (leaf, Served(b"x" * (1 << 20) + b"x"), "COLLATERAL_SERVICE_FAILED", 8),
        (leaf, Served(b"<html>"), "FORM_UNKNOWN", 3),
        (leaf, Served(theirs.endorsements[0]), "COLLATERAL_MISSING", 5),  # of another chip
        (leaf, Served(forged.endorsements[0]), "CHAIN_INVALID", 5),
        (leaf, Served(platform.ask), "COLLATERAL_MISSING", 5),
        (chain, Served(b""), "FORM_UNKNOWN", 3),
        (chain, Served(stranger.ark), "ROOT_UNTRUSTED", 5),
        (crl, Served(stranger.crl), "CRL_SIG_INVALID", 5),
        (crl, Served(old.sign(authority.keys.ark)), "CRL_STALE", 5),
    ]
    for path, served, code, status in cases:
        server.serve_kds(platform, snp_evidence(platform))
        spoil(server, path, served)
        refused(command, code, status, capsys)
        assert not (here / "files").exists(), code


def test_an_older_list_does_not_replace_a_newer_one(
    platform: SnpSimulator,
    server: VendorServer,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, _ = prepare_snp(platform, server)
    path = f"/vcek/v1/{platform.product}/crl"
    spec = platform.authority.crl()
    newer = replace(spec, this_update=spec.this_update + timedelta(minutes=30))
    server.put(path, newer.sign(platform.authority.keys.ark))
    assert run(command) == 0
    before = {p.name: p.read_bytes() for p in (here / "files").iterdir()}
    server.put(path, platform.crl)
    refused(command, "COLLATERAL_ROLLBACK", 5, capsys)
    assert {p.name: p.read_bytes() for p in (here / "files").iterdir()} == before


def test_nobody_listens(
    platform: SnpSimulator,
    server: VendorServer,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, _ = prepare_snp(platform, server)
    refused([*command, "--kds", "http://127.0.0.1:1"], "PEER_UNREACHABLE", 8, capsys)
    assert not (here / "files").exists()


# -- Intel -----------------------------------------------------------------------------------


def intel_evidence(platform: IntelSimulator, kind: str) -> Evidence:
    make = platform.tdx_evidence if kind == "tdx" else platform.sgx_evidence
    defects = replace(HEALTHY, version=5 if kind == "tdx" else 3)
    return make(REPORT_DATA, measurement=MEASUREMENT, runtime_config=CONFIG, defects=defects)


def prepare_intel(platform: IntelSimulator, server: VendorServer, kind: str) -> list[str]:
    server.serve_pcs(platform)
    evidence = intel_evidence(platform, kind)
    Path("root.der").write_bytes(platform.authority.root())
    Path("evidence.json").write_bytes(evidence.encode())
    command = ["collateral", "fetch", "--evidence", "evidence.json", "--into", "files"]
    command += ["--pcs", server.url, "--intel-certificates", server.url]
    return [*command, "--dangerous-simulated-anchor", "root.der"]


@pytest.mark.parametrize("kind", ["tdx", "sgx"])
def test_what_a_quote_needs_is_fetched(
    intel: IntelSimulator, server: VendorServer, here: Path, kind: str
) -> None:
    command = prepare_intel(intel, server, kind)
    assert run(command) == 0
    files = {p.name: p.read_bytes() for p in (here / "files").iterdir()}
    assert len(files) == 7
    evidence = intel_evidence(intel, kind)
    verifier = replace(intel.verifier(), collateral=parse_collateral(files))
    verifier.verify_cpu(evidence, report_data=REPORT_DATA, rule=RULE, now=system_clock())
    assert run(["collateral", "check", "files", "--evidence", "evidence.json"]) == 0


def test_wrong_answers_of_intels_service(
    intel: IntelSimulator, server: VendorServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = prepare_intel(intel, server, "tdx")
    right = dict(server.answers)
    tcb = next(path for path in right if path.startswith("/tdx") and "/tcb?" in path)
    identity, root = "/tdx/certification/v4/qe/identity", "/IntelSGXRootCA.der"
    stranger = IntelSimulator.make()
    old = IntelSimulator.make(now=system_clock() - timedelta(days=400))
    with VendorServer() as other:
        other.serve_pcs(stranger)
        theirs = dict(other.answers)
    cases: list[tuple[str, Served, str, int]] = [
        (tcb, replace(right[tcb], headers={}), "COLLATERAL_SERVICE_FAILED", 8),
        (tcb, replace(right[tcb], body=b"{}"), "MALFORMED", 3),
        (tcb, replace(right[tcb], body=theirs[tcb].body), "COLLATERAL_SIG_INVALID", 5),
        (tcb, theirs[tcb], "ROOT_UNTRUSTED", 5),
        (tcb, Served(b"", status=404), "COLLATERAL_NOT_SERVED", 8),
        (
            identity,
            replace(right[identity], body=theirs[identity].body),
            "COLLATERAL_SIG_INVALID",
            5,
        ),
        (root, theirs[root], "CRL_SIG_INVALID", 5),
        (root, Served(b"\x30"), "FORM_UNKNOWN", 3),
    ]
    for path, served, code, status in cases:
        server.answers = {**right, path: served}
        refused(command, code, status, capsys)
        assert not (here / "files").exists(), code
    stale = prepare_intel(old, server, "tdx")
    refused(stale, "COLLATERAL_STALE", 5, capsys)


def test_every_flipped_byte_of_a_document_is_refused(
    intel: IntelSimulator, server: VendorServer, here: Path
) -> None:
    command = prepare_intel(intel, server, "sgx")
    path = next(path for path in server.answers if path.startswith("/sgx") and "/tcb?" in path)
    right = server.answers[path]
    for at in range(0, len(right.body), 37):
        body = bytearray(right.body)
        body[at] ^= 1
        server.answers[path] = replace(right, body=bytes(body))
        assert run([*command, "--json"]) in (3, 5), at
    assert not (here / "files").exists()


# -- NVIDIA ----------------------------------------------------------------------------------


def test_reference_values_are_fetched_and_verified(
    vectors: Path,
    intel: IntelSimulator,
    server: VendorServer,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A real driver manifest is served for a real report; the VBIOS's is not there."""
    pytest.importorskip("signxml")
    pem = (vectors / "nvidia/sdk/hopperCertChain.txt").read_bytes()
    report = bytes.fromhex((vectors / "nvidia/sdk/hopperAttestationReport.txt").read_text())
    collateral = parse_collateral({"chain.pem": pem})
    device = DeviceEvidence(DeviceKind.NVIDIA_GPU, report, collateral.certificates)
    cpu = intel_evidence(intel, "tdx")
    command = prepare_intel(intel, server, "tdx")
    Path("evidence.json").write_bytes(replace(cpu, devices=(device,)).encode())
    assert "--rims https://rim" in refused(command, "BAD_USAGE", 2, capsys)
    command += ["--rims", server.url]
    driver = "NV_GPU_DRIVER_GH100_535.86.09"
    bad = (vectors / "nvidia/rim/incorrect_cert_chain_driver_rim.xml").read_bytes()
    server.serve_rim(driver, bad)
    refused(command, "ROOT_UNTRUSTED", 5, capsys)
    server.put(f"/v1/rim/{driver}", b"{}")
    refused(command, "COLLATERAL_SERVICE_FAILED", 8, capsys)
    assert not (here / "files").exists()
    assert f"/v1/rim/{driver}" in server.asked
