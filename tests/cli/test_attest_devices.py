"""Several devices in one file of evidence, and files that are no endorsements of any."""

from __future__ import annotations

import contextlib
import json
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.main import run
from regalia.wire.evidence import device_nonce, parse_evidence
from regalia_testing.accepted_evidence import NOW
from regalia_testing.attest_files import KINDS, make
from regalia_testing.composite_testbed import BINDING
from regalia_testing.tees import wrappers
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = KINDS["sev-snp"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence of a CPU with two GPUs, and what verifies it."""
    root = tmp_path_factory.mktemp("attest-devices")
    (root / "sev-snp").mkdir()
    evidence = make(root / "sev-snp", "sev-snp")["healthy"]
    (root / "sev-snp/healthy.json").write_bytes(evidence.encode())
    machine = NvidiaSimulator.make(2, now=NOW)
    nonce = device_nonce(BINDING.role, BINDING.challenge, BINDING.hpke_public_key)
    devices = machine.evidence(nonce)
    (root / "devices.json").write_bytes(replace(evidence, devices=devices).encode())
    roots = [(root / "sev-snp/collateral/ark.der").read_bytes(), machine.root]
    pem = "".join(ssl.DER_cert_to_PEM_cert(root) for root in roots)
    (root / "roots.pem").write_text(pem)
    (denials,) = machine.collateral().denials
    (root / "denials.json").write_bytes(denials)
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The working directory holds links to what was made, and what a test writes."""
    for each in made.iterdir():
        (tmp_path / each.name).symlink_to(each)
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def with_devices(here: Path) -> list[str]:
    assert here.is_dir()
    command = GOOD.command("healthy", "--endorsement", "denials.json")
    command[2] = "devices.json"
    command[command.index("--dangerous-simulated-anchor") + 1] = "roots.pem"
    return command


def answer(command: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*command, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_checks_name_their_device(
    here: Path, with_devices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside a CPU and alone; once all is verified by its identity too."""
    devices = parse_evidence((here / "devices.json").read_bytes()).devices
    (here / "alone.json").write_text(json.dumps(wrappers.nvidia_list(devices)))
    nonce = device_nonce(BINDING.role, BINDING.challenge, BINDING.hpke_public_key).hex()
    alone = [*with_devices[:2], "alone.json", *with_devices[3:]]
    alone[alone.index("--challenge") + 1] = nonce
    for command in (with_devices, alone):
        checks = answer(command, 11, capsys)["checks"]
        named = [each["device"]["index"] for each in checks if "device" in each]
        assert named == sorted(named)
        assert set(named) == {0, 1}
        whole = {each["name"] for each in checks if "device" not in each}
        assert not any(name.startswith("nvidia/") for name in whole)
        assert "composite/distinct" in whole
        assert all(len(each["device"]["identity"]) > 12 for each in checks if "device" in each)
        run(command)
        said = capsys.readouterr().out
        assert "[device 1, " in said
        assert "device 1  " in said


def test_a_refused_device_is_named(
    here: Path, with_devices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = parse_evidence((here / "devices.json").read_bytes())
    first, second = evidence.devices
    changed = replace(second, report=second.report[:-1] + bytes([second.report[-1] ^ 1]))
    (here / "changed.json").write_bytes(replace(evidence, devices=(first, changed)).encode())
    with_devices[2] = "changed.json"
    last = answer(with_devices, 5, capsys)["checks"][-1]
    assert (last["outcome"], last["device"]) == ("fail", {"index": 1, "identity": ""})


def test_one_device_needs_no_name(
    here: Path, with_devices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = parse_evidence((here / "devices.json").read_bytes())
    one = replace(evidence, devices=evidence.devices[:1])
    (here / "changed.json").write_bytes(one.encode())
    with_devices[2] = "changed.json"
    assert all("device" not in each for each in answer(with_devices, 11, capsys)["checks"])


def test_a_bare_device_report_says_that_its_chain_lacks(
    here: Path, with_devices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another vendor's certificates are none of the device's."""
    evidence = parse_evidence((here / "devices.json").read_bytes())
    (here / "report.bin").write_bytes(evidence.devices[0].report)
    nonce = device_nonce(BINDING.role, BINDING.challenge, BINDING.hpke_public_key).hex()
    command = [*with_devices[:2], "report.bin", *with_devices[3:]]
    command[command.index("--challenge") + 1] = nonce
    for more in ([], ["--endorsement", "sev-snp/collateral/ark.der"]):
        found = answer([*command, *more], 5, capsys)
        assert found["codes"] == ["COLLATERAL_MISSING"]
        said = found["refusal"]["what"]
        assert said.startswith("no certificate chain came with the device's report")
        assert "--endorsement" in said


def test_a_chain_among_another_vendors_certificates(
    here: Path, with_devices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever file comes first, the device's own chain is found."""
    device = parse_evidence((here / "devices.json").read_bytes()).devices[0]
    (here / "report.bin").write_bytes(device.report)
    chain = "".join(ssl.DER_cert_to_PEM_cert(der) for der in device.endorsements)
    (here / "chain.pem").write_text(chain)
    nonce = device_nonce(BINDING.role, BINDING.challenge, BINDING.hpke_public_key).hex()
    command = [*with_devices[:2], "report.bin", *with_devices[3:]]
    command[command.index("--challenge") + 1] = nonce
    files = ["chain.pem", "sev-snp/collateral/ark.der"]
    for each in (files, files[::-1]):
        given = [word for file in each for word in ("--endorsement", file)]
        assert answer([*command, *given], 11, capsys)["codes"] == []


NO_ENDORSEMENTS: dict[str, tuple[bytes, str]] = {
    "an empty document": (b"{}", "its members: none"),
    "config.json": (b'{"hidden_size": 64, "vocab_size": 9}', "its members: hidden_size, vocab"),
    "a policy": (b'{"format": "regalia/client-policy/v1"}', "regalia/client-policy/v1"),
    "a template": (b"{% for message in messages %}{{ message }}{% endfor %}", "read as JSON"),
    "a private key": (
        b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END PRIVATE KEY-----\n",
        "a private key",
    ),
    "a public key": (b"-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n", "public"),
    "a text": (b"owner.pub", "neither certificates nor a revocation list"),
    "an empty file": (b"", "an empty file"),
    "an archive": (b"\x1f\x8b" + bytes(40), "(gzip): unpack it"),
}


@pytest.mark.parametrize("name", NO_ENDORSEMENTS)
def test_what_is_no_endorsement_is_named(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nobody is told to fetch it again: another copy is no endorsement either."""
    data, said = NO_ENDORSEMENTS[name]
    (here / "given").write_bytes(data)
    found = answer(GOOD.command("healthy", "--endorsement", "given"), 3, capsys)
    assert found["error"]["code"] == "FORM_UNKNOWN"
    assert said in found["error"]["what"]
    assert "NVIDIA's reference values (RIM)" in found["error"]["what"]
    assert "c2VjcmV0" not in json.dumps(found)


def test_a_refused_rim_is_named_by_its_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "given").write_bytes(b'<SoftwareIdentity name="GH100">')
    found = answer(GOOD.command("healthy", "--endorsement", "given"), 3, capsys)
    assert found["error"]["code"] == "RIM_MALFORMED"
    assert found["error"]["what"].startswith("given: RIM: it is not XML")
