"""The page on verifying is run as it stands there, and the page on results says what is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.check import Source
from regalia.cli.attest.collect import SOURCES
from regalia.crypto.jws import verify_compact
from regalia.crypto.sign import VerifyKey
from regalia.host.clock import system_clock
from regalia.policy import ear as vectors
from regalia.policy import ear_document as ear
from regalia.wire.serving import encode_challenge
from regalia_testing.machines import MACHINES
from regalia_testing.pages import blocks_of, run_blocks
from regalia_testing.relying_party import REPORT_DATA, RUNTIME_CONFIG, relying_party_for
from regalia_testing.tees.intel.quotes import pem_chain

if TYPE_CHECKING:
    from regalia_testing.machines import SimulatedMachine

ROOT = Path(__file__).parents[2]
HOWTO = (ROOT / "docs/howto/verify-evidence.md").read_text(encoding="utf-8")
SPEC = (ROOT / "docs/spec/ear.md").read_text(encoding="utf-8")
NONCE = bytes(range(1, 33))


def prepare(folder: Path) -> None:
    """Machines, their evidence, and a policy that was pinned on one of them."""
    files: dict[str, bytes] = {
        "report_data.hex": REPORT_DATA.hex().encode(),
        "nonce.hex": NONCE.hex().encode(),
    }
    for name, kind in (
        ("snp", "sev-snp"),
        ("tdx", "tdx"),
        ("nitro", "aws-nitro"),
        ("gpu", "sev-snp+gpus"),
    ):
        machine: SimulatedMachine = MACHINES[kind](folder / name / "machine")
        machine.write(folder / name)
        source = machine.open()
        evidence = source.collect(REPORT_DATA, RUNTIME_CONFIG)
        if name == "snp":
            debug = machine.open("debug").collect(REPORT_DATA, RUNTIME_CONFIG)
            for file, der in zip(("vcek", "ask", "ark"), evidence.endorsements, strict=True):
                files[f"{file}.der"] = der
            files["crl.der"] = machine.collateral["crl.der"]
            files |= {"report.bin": evidence.report, "evidence.json": evidence.encode()}
            files["debug.json"] = debug.encode()
            files["policy.json"] = policy_for(machine)
        elif name == "tdx":
            files |= {"quote.bin": evidence.report, "ccel.bin": evidence.event_log}
        elif name == "nitro":
            files["nitro.cbor"] = evidence.report
        else:
            device = source.collect_devices(NONCE)[0]
            files["gpu.txt"] = device.report.hex().encode()
            files["gpu-chain.pem"] = pem_chain(*device.endorsements)
    for file, data in files.items():
        (folder / file).write_bytes(data)


def policy_for(machine: SimulatedMachine) -> bytes:
    source = machine.open()
    relying_party = relying_party_for(
        lambda: source.collect(REPORT_DATA, RUNTIME_CONFIG), machine.verifier(), system_clock()
    )
    return relying_party.policy.encode()


@pytest.mark.slow
def test_the_howto_works_as_written(tmp_path: Path) -> None:
    prepare(tmp_path)
    blocks = blocks_of(HOWTO)
    assert len(blocks) == 8
    said = run_blocks(tmp_path, blocks).stdout
    assert said.count("ACCEPTED WITH A WARNING\n") == 6
    assert "REFUSED" not in said
    assert "['DEBUG_ENABLED']" in said
    assert said.count("bound to the challenge") == 4
    assert "UNTRUSTED: nothing was verified." in said
    asked = re.search(r"asked with (\w{64}), which is (\S+) in the address", said)
    assert asked is not None
    assert encode_challenge(bytes.fromhex(asked[1])) == asked[2]
    fields = json.loads((tmp_path / "fields.json").read_bytes())
    assert fields["verified"] is False
    token = (tmp_path / "result.jwt").read_text()
    key = VerifyKey.from_pem((tmp_path / "verifier.pub").read_bytes())
    written = ear.parse_ear(verify_compact(token, [key], typ=ear.MEDIA_TYPE))
    assert written.status() is ear.Status.WARNING


def test_the_page_on_sources_names_their_kinds() -> None:
    page = (ROOT / "docs/reference/evidence-sources.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([\w-]+)` \| `([\w-]+)`", page, re.MULTILINE))
    assert {name: table.get(name) for name in SOURCES} == {
        name: str(source.kind) for name, source in SOURCES.items()
    }


def test_the_page_on_results_names_what_is_written() -> None:
    example = json.loads(re.findall(r"```json\n(.+?)```", SPEC, re.DOTALL)[0])
    read = ear.parse_ear(json.dumps(example).encode())
    assert read.wire() == example
    assert read.status() is ear.Status.WARNING
    for name in (*example, *example["submods"]["cpu"]):
        assert f"`{name}`" in SPEC, name
    for name in ear.TrustVector().claims():
        assert f"`{name}`" in SPEC, name
    for source in Source:
        assert f"`{source.value}`" in SPEC
    for status in ear.Status:
        assert f"`{status.value}`" in SPEC
    assert f"`{ear.PROFILE}`" in SPEC
    assert f"`{ear.MEDIA_TYPE}`" in SPEC
    assert ear.LIMIT == 1 << 20
    assert f"1 to {ear.SUBMODS_MAX}" in SPEC


def test_the_page_on_results_has_the_numbers() -> None:
    table = SPEC[SPEC.index("## 2. ") : SPEC.index("## 3. ")]
    rows = {
        cells[0].strip(" `"): " ".join(cells[1:])
        for line in table.splitlines()
        if line.startswith("| `") and (cells := line.strip("|").split("|"))
    }
    for value in (
        vectors.GENUINE,
        vectors.REVOCATION_NOT_KNOWN,
        vectors.WEAKENED,
        vectors.SIMULATED,
        vectors.CONTRAINDICATED,
        vectors.NOT_RECOGNIZED,
        vectors.CRYPTO_FAILED,
    ):
        assert re.search(rf"\b{value} ", rows["hardware"]), value
    assert f"{vectors.BOOT_MEASURED} measured at boot" in rows["executables"]
    assert f"{vectors.UNKNOWN_WORKLOAD} not among" in rows["executables"]
    assert f"{vectors.WEAKENED} a TPM" in rows["runtime-opaque"]
    assert f"{vectors.WEAKENED} nothing shows" in rows["sourced-data"]
    for claim, value in vectors._SPOILED.values():
        if value != vectors.UNKNOWN_WORKLOAD:
            assert re.search(rf"\b{value} ", rows[claim.replace("_", "-")]), (claim, value)
    for code, (claim, value) in vectors._WEAKENED.items():
        assert f"| {code} |" in SPEC
        if value != vectors.UNKNOWN_WORKLOAD:
            assert re.search(rf"\b{value} ", rows[claim.replace("_", "-")]), (claim, value)
