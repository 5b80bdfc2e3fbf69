"""``regalia policy pin`` from evidence of every kind of machine, simulated and real."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.cli.main import run
from regalia.policy.documents import SECTIONS, parse_platform
from regalia.policy.signed import read_draft
from regalia.wire.evidence import Tee
from regalia_testing.machines import MACHINES
from regalia_testing.tees.intel.quotes import pem_chain
from tests.release.deployments import PIN_CHALLENGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.policy.documents import Platform
    from regalia.wire.evidence import Evidence
    from regalia_testing.machines import SimulatedMachine
    from tests.release.deployments import MachineDeployment

NAMES = tuple(MACHINES)
# Whose own evidence is a file by itself; the others' come in documents that wrap it.
BARE = ("sev-snp", "tdx", "sgx", "aws-nitro")
REPORT_DATA = bytes(range(64))


@dataclass
class Pin:
    """The command, its files, and how the machine is verified."""

    deployment: MachineDeployment
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        collateral, roots = self.deployment.machine.write(self.folder)
        self.verify_with = [
            *("--collateral", str(collateral), "--dangerous-simulated-anchor", str(roots)),
            *("--revocation", self.deployment.machine.revocation),
        ]
        (self.folder / "owner.pub").write_bytes(self.deployment.shared.owner.verify_key.to_pem())
        self.whole = ["--model", str(self.deployment.model_id), "--minimum-version", "1"]
        self.whole += ["--signer", str(self.folder / "owner.pub")]

    def write(self, name: str, data: bytes) -> Path:
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def serving(self, defect: str | None = None) -> Path:
        """What a runtime answered to ``PIN_CHALLENGE``."""
        attester = self.deployment.attester(defect)
        serving = attester.for_client(PIN_CHALLENGE, model_version=1, release=None)
        return self.write("serving.json", serving.encode())

    def evidence(self, defect: str | None = None) -> Evidence:
        """Without devices, over ``REPORT_DATA``."""
        source = self.deployment.machine.open(defect)
        return source.collect(REPORT_DATA, self.deployment.runtime_config().encode())

    def run(self, source: Path, *more: str, status: int = 0, pin_chip: bool = True) -> Any:  # noqa: ANN401 - JSON
        chip = ["--pin-chip"] if pin_chip else []
        out = self.folder / "out.json"
        out.unlink(missing_ok=True)
        args = [
            "policy",
            "pin",
            "--evidence",
            source,
            "--out",
            out,
            *self.verify_with,
            *chip,
            *more,
        ]
        got = run([*map(str, args), "--json"])
        shown, self.said = self.capsys.readouterr()
        assert got == status, shown + self.said
        assert "Traceback" not in shown + self.said
        assert out.exists() == (status == 0)
        return json.loads(shown)

    def refused(self, source: Path, *more: str, status: int) -> str:
        return str(self.run(source, *more, status=status)["error"]["code"])

    @property
    def platform(self) -> Platform:
        return parse_platform((self.folder / "out.json").read_bytes())


@pytest.fixture
def make_pin(
    machine_of: Callable[[str], SimulatedMachine],
    make_deployment: Callable[..., MachineDeployment],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str], Pin]:
    def make(name: str) -> Pin:
        folder = tmp_path / "pin"
        folder.mkdir()
        deployment = make_deployment(machine_of(name))
        capsys.readouterr()
        return Pin(deployment, folder, capsys)

    return make


CHALLENGE = ("--challenge", PIN_CHALLENGE.hex())
ONLY = "--platform-only"


@pytest.mark.parametrize("name", NAMES)
def test_a_runtimes_answer(make_pin: Callable[[str], Pin], name: str) -> None:
    """The whole policy, and its platform alone, are those of which releases are made."""
    pin = make_pin(name)
    source = pin.serving()
    wanted = pin.deployment.policy.platform
    pin.run(source, *CHALLENGE, *pin.whole)
    assert read_draft((pin.folder / "out.json").read_bytes()).platform == wanted
    body = pin.run(source, *CHALLENGE, ONLY)
    assert pin.platform == wanted
    assert body["fresh"] is True
    assert body["hardware"] == "dangerous_simulated"
    assert body["devices"] == pin.deployment.known_good_devices()
    assert "platform.hardware" in body["wildcards"]
    pin.run(source, *CHALLENGE, ONLY, pin_chip=False)
    assert pin.platform != wanted
    assert pin.refused(source, "--challenge", "00" * 32, ONLY, status=5) == "NONCE_MISMATCH"


@pytest.mark.parametrize("name", NAMES)
def test_an_envelope(make_pin: Callable[[str], Pin], name: str) -> None:
    """As ``regalia serve --evidence-only`` writes it."""
    pin = make_pin(name)
    evidence = pin.evidence()
    cpu = msgspec.structs.replace(pin.deployment.policy.platform, devices=[])
    source = pin.write("evidence.json", evidence.encode())
    pin.run(source, "--challenge", REPORT_DATA.hex(), ONLY)
    assert pin.platform == cpu
    assert pin.run(source, "--challenge", "any", ONLY)["fresh"] is False
    assert pin.platform == cpu
    assert "may be a replay" in pin.said
    other = REPORT_DATA[::-1].hex()
    assert pin.refused(source, "--challenge", other, ONLY, status=5) == "NONCE_MISMATCH"
    pin.run(source, "--challenge", "any", ONLY, "--any-host-data")
    assert pin.platform != cpu


@pytest.mark.parametrize("name", NAMES)
def test_what_no_policy_accepts(make_pin: Callable[[str], Pin], name: str) -> None:
    pin = make_pin(name)
    for only in ([ONLY], pin.whole):
        assert pin.refused(pin.serving("debug"), *CHALLENGE, *only, status=6) == "DEBUG_ENABLED"
    assert pin.refused(pin.serving("stale"), *CHALLENGE, ONLY, status=5) == "NONCE_MISMATCH"
    wrong = pin.serving("config")
    assert pin.refused(wrong, *CHALLENGE, *pin.whole, status=6) == "CONFIG_MISMATCH"


@pytest.mark.parametrize("name", [name for name in NAMES if "gpus" in name])
def test_an_envelope_with_devices(make_pin: Callable[[str], Pin], name: str) -> None:
    """Each device is verified; that they belong together is not known, and said."""
    pin = make_pin(name)
    attester = pin.deployment.attester()
    evidence = pin.deployment.collected(attester, pin.deployment.challenge())
    source = pin.write("evidence.json", evidence.encode())
    pin.run(source, "--challenge", "any", ONLY)
    assert pin.platform == pin.deployment.policy.platform
    assert "whether they answered together" in pin.said
    twice = replace(evidence, devices=(*evidence.devices, evidence.devices[0]))
    source = pin.write("twice.json", twice.encode())
    assert pin.refused(source, "--challenge", "any", ONLY, status=5) == "COMPOSITE_MISMATCH"
    later = pin.deployment.collected(attester, pin.deployment.challenge()).devices
    mixed = replace(evidence, devices=(evidence.devices[0], *later[1:]))
    source = pin.write("mixed.json", mixed.encode())
    assert pin.refused(source, "--challenge", "any", ONLY, status=5) == "COMPOSITE_MISMATCH"
    forged = replace(evidence.devices[0], report=evidence.devices[0].report[:-1] + b"\x00")
    bad = replace(evidence, devices=(forged, *evidence.devices[1:]))
    source = pin.write("bad.json", bad.encode())
    assert pin.refused(source, "--challenge", "any", ONLY, status=5) == "SIGNATURE_INVALID"


@pytest.mark.parametrize("name", NAMES)
def test_every_machine_is_verified_by_command(make_pin: Callable[[str], Pin], name: str) -> None:
    """``attest verify``, under the platform that was pinned: devices in an envelope count."""
    pin = make_pin(name)
    attester = pin.deployment.attester()
    evidence = pin.deployment.collected(attester, pin.deployment.challenge())
    policy = pin.write("policy.json", pin.deployment.policy.encode())

    def verify(found: Evidence) -> Any:  # noqa: ANN401 - JSON
        file = pin.write("evidence.json", found.encode())
        args = ["attest", "verify", file, "--policy", policy, "--now", "now"]
        args += ["--challenge", "any", *pin.verify_with[:4], "--json"]
        status = run([str(arg) for arg in args])
        shown, _ = pin.capsys.readouterr()
        body = json.loads(shown)
        assert status == (11 if body["status"] == "warning" else 5)
        return body

    assert verify(evidence)["codes"] == []
    for index, device in enumerate(evidence.devices[:2]):
        forged = replace(device, report=device.report[:-1] + bytes([device.report[-1] ^ 1]))
        devices = (*evidence.devices[:index], forged, *evidence.devices[index + 1 :])
        assert verify(replace(evidence, devices=devices))["codes"] == ["SIGNATURE_INVALID"]
    if evidence.devices:
        fewer = verify(replace(evidence, devices=()))
        assert "DEVICE_SET_MISMATCH" in fewer["codes"]


def endorsed(pin: Pin, evidence: Evidence) -> list[str]:
    """What lies beside a report: the chip's certificate, the event log."""
    files = []
    if evidence.endorsements:
        files.append(pin.write("leaf.pem", pem_chain(*evidence.endorsements)))
    if evidence.event_log:
        files.append(pin.write("ccel.bin", evidence.event_log))
    return [word for file in files for word in ("--endorsement", str(file))]


@pytest.mark.parametrize("name", BARE)
def test_a_vendors_own_evidence(make_pin: Callable[[str], Pin], name: str) -> None:
    """It holds no configuration, so none is pinned; everything else is."""
    pin = make_pin(name)
    evidence = pin.evidence()
    source = pin.write("evidence.bin", evidence.report)
    more = [*endorsed(pin, evidence), "--challenge", REPORT_DATA.hex()]
    pin.run(source, ONLY, *more)
    alone = pin.platform
    section = SECTIONS[pin.deployment.machine.tee]
    pin.run(pin.write("ours.json", evidence.encode()), ONLY, *more, "--any-host-data")
    assert alone == pin.platform
    assert getattr(alone, section) is not None
    assert pin.refused(source, *pin.whole, *more, status=2) == "BAD_USAGE"
    wrong = [*endorsed(pin, evidence), "--challenge", "00" * 63 + "01"]
    assert pin.refused(source, ONLY, *wrong, status=5) == "NONCE_MISMATCH"


def test_devices_alone(make_pin: Callable[[str], Pin]) -> None:
    pin = make_pin("sev-snp+gpus")
    devices = pin.deployment.machine.devices
    assert devices is not None
    nonce = bytes(range(32))
    one = devices.evidence(nonce)[0]
    report = pin.write("gpu.txt", one.report.hex().encode())
    chain = pin.write("gpu.pem", pem_chain(*one.endorsements))
    more = ["--endorsement", str(chain), ONLY]
    body = pin.run(report, *more, "--challenge", nonce.hex())
    assert (body["tee"], body["devices"]) == (
        "nvidia-gpu",
        [f"nvidia-gpu:{devices.gpus[0].identity.hex()}"],
    )
    (entry,) = pin.platform.devices
    (wanted,) = pin.deployment.policy.platform.devices
    assert msgspec.structs.replace(entry, count=2, identities=wanted.identities) == wanted
    assert all(getattr(pin.platform, section) is None for section in SECTIONS.values())
    other = nonce[::-1].hex()
    assert pin.refused(report, *more, "--challenge", other, status=5) == "NONCE_MISMATCH"
    whole = ["--endorsement", str(chain), *pin.whole, "--challenge", nonce.hex()]
    assert pin.refused(report, *whole, status=2) == "BAD_USAGE"


def test_a_section_is_put_into_a_policy(make_pin: Callable[[str], Pin]) -> None:
    """What the how-to page says: the section of one machine beside that of another."""
    pin = make_pin("tdx")
    pin.run(pin.serving(), *CHALLENGE, ONLY)
    section = json.loads((pin.folder / "out.json").read_bytes())
    draft = json.loads(pin.deployment.policy.encode())
    draft["platform"] = section
    file = pin.write("policy.json", json.dumps(draft).encode())
    assert run(["policy", "check", str(file), "--json"]) == 0


def test_options_of_a_policy_are_none_of_a_section(make_pin: Callable[[str], Pin]) -> None:
    pin = make_pin("sgx")
    source = pin.serving()
    for more in (["--client-out", str(pin.folder / "c.json")], ["--sign", "owner.key"]):
        assert pin.refused(source, *CHALLENGE, ONLY, *more, status=2) == "BAD_USAGE"
    assert pin.refused(source, *CHALLENGE, status=2) == "BAD_USAGE"  # no model, no owner
    assert pin.refused(source, ONLY, status=2) == "BAD_USAGE"  # no word about freshness
    assert pin.refused(source, ONLY, *CHALLENGE, "--now", "noon", status=2) == "BAD_USAGE"


# -- real evidence --------------------------------------------------------------------------------

SNP = ("genoa/ms-report.bin", "genoa/ms-vcek.pem", "genoa/ask_ark.pem")


@dataclass
class RealPin:
    """The command over files of real evidence, under the vendors' own roots."""

    vectors: Path
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, evidence: str, now: str, *more: str, endorsements: tuple[str, ...] = ()) -> str:
        """The code, or an empty text."""
        out = self.folder / "out.json"
        out.unlink(missing_ok=True)
        args = [
            "policy",
            "pin",
            ONLY,
            "--evidence",
            str(self.vectors / evidence),
            "--out",
            str(out),
        ]
        args += ["--challenge", "any", "--now", now, "--revocation", "any", *more]
        for name in endorsements:
            args += ["--endorsement", str(self.vectors / name)]
        status = run([*args, "--json"])
        shown, said = self.capsys.readouterr()
        assert "Traceback" not in shown + said
        body = json.loads(shown)
        assert out.exists() == (status == 0)
        return "" if status == 0 else str(body["error"]["code"])

    @property
    def platform(self) -> Platform:
        return parse_platform((self.folder / "out.json").read_bytes())


@pytest.fixture
def real(vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> RealPin:
    return RealPin(vectors, tmp_path, capsys)


def test_real_snp(real: RealPin) -> None:
    files = tuple(f"snp/{name}" for name in SNP)
    assert real.run(files[0], "2026-03-01T00:00:00Z", endorsements=files[1:]) == ""
    snp = real.platform.snp
    assert snp is not None
    assert snp.products == ["Genoa"]
    assert snp.measurements[0].startswith("5feee30d")
    assert (snp.host_data, snp.chip_ids) == ("any", "any")
    milan = tuple(name.replace("genoa", "milan") for name in files)
    assert real.run(milan[0], "2026-03-01T00:00:00Z", endorsements=milan[1:]) == "PRODUCT_DENIED"
    pinned = real.run(milan[0], "2026-03-01T00:00:00Z", "--pin-chip", endorsements=milan[1:])
    assert pinned == ""
    debug = ("snp/milan/google-vcek.der", "snp/milan/ask_ark.pem")
    got = real.run("snp/milan/google-report.bin", "2022-10-01T00:00:00Z", endorsements=debug)
    assert got == "DEBUG_ENABLED"


def test_real_intel(real: RealPin) -> None:
    for tee, now in ((Tee.TDX, "2025-06-20T10:32:27Z"), (Tee.SGX, "2025-06-20T10:56:11Z")):
        name = f"tdx/dcapqvl-{tee}_quote"
        got = real.run(f"{name}.bin", now, endorsements=(f"{name}_collateral.json",))
        assert got == "", tee
        assert getattr(real.platform, SECTIONS[tee]) is not None
    debug = ("tdx/assembled-2026-03-50806f_collateral.json",)
    got = real.run("tdx/coco-quote_4.bin", "2026-03-16T23:21:30Z", endorsements=debug)
    assert got == "DEBUG_ENABLED"


def test_real_nitro(real: RealPin) -> None:
    assert real.run("nitro/evervault-valid.cbor", "2022-10-13T08:58:02Z") == ""
    nitro = real.platform.nitro
    assert nitro is not None
    assert nitro.pcr0[0].startswith("f4d48b81")
    assert nitro.pcr16 == "any"
    got = real.run("nitro/evervault-debug.cbor", "2022-10-12T13:50:06Z")
    assert got == "DEBUG_ENABLED"


def test_real_azure(real: RealPin) -> None:
    milan = ("snp/milan/ask_ark.pem",)
    now = "2025-06-01T00:00:00Z"
    assert real.run("az/snp/evidence-v2.json", now, "--pin-chip", endorsements=milan) == ""
    azure = real.platform.azure_snp
    assert azure is not None


def test_real_devices(real: RealPin) -> None:
    now = "2026-03-01T00:00:00Z"
    assert real.run("nvidia/sdk/evidence_hopper_590_12.json", now, "--pin-chip") == ""
    (entry,) = real.platform.devices
    assert (entry.kind, entry.driver_versions) == ("nvidia-gpu", ["590.12"])
    assert len(entry.identities) == entry.count
    bad = "nvidia/sdk/hopperAttestationReportInvalidSignature.txt"
    chain = ("nvidia/sdk/hopperCertChain.txt",)
    assert real.run(bad, now, endorsements=chain) in {"SIGNATURE_INVALID", "LEAF_BINDING_MISMATCH"}


def test_a_real_tpm_quote_by_nobodys_key(real: RealPin) -> None:
    assert real.run("tpm/coco-tpm_evidence.json", "2026-03-01T00:00:00Z") == "AK_UNBOUND"
