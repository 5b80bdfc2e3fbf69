"""``regalia attest collect`` from a software TPM, also from one that is like Azure's vTPM."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_NV,
    TPMS_NV_PUBLIC,
)

from regalia.cli.main import run
from regalia.tees.azure.evidence.hcl import ReportType
from regalia.tees.azure.source import AK_HANDLE, HCL_INDEX
from regalia.tees.tpm.evidence.keys import public_key
from regalia.tees.tpm.evidence.layout import sized
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.key_templates import AK_TEMPLATES
from regalia_testing.accepted_evidence import NOW
from regalia_testing.attest_files import WHEN
from regalia_testing.tees.azure.defects import HEALTHY
from regalia_testing.tees.azure.guest import AzureGuest
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.tpm.swtpm import TpmMaker, missing_programs
from regalia_testing.testbed import MEASUREMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia_testing.tees.azure.defects import AzureDefects
    from regalia_testing.tees.tpm.swtpm import SoftwareTpm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {missing_programs()}"),
]
NV_SIZE = 2048  # bytes: the most that a software TPM's index holds; Azure's has 2600


class _OneKey(AzureGuest):
    """A paravisor that names its AK alone, so that its report fits into such an index."""

    def _keys(self, defects: AzureDefects) -> list[dict[str, Any]]:
        return super()._keys(defects)[:1]


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with TpmMaker.create(tmp_path / "ca").make() as made:
        yield made


def answer(words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*words, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def collect(name: str, tpm: SoftwareTpm, out: Path) -> list[str]:
    command = ["attest", "collect", "--source", name, "--out", str(out)]
    return [*command, "--option", f"tcti={tpm.tcti}", "--option", "event_log="]


def test_a_tpm(tpm: SoftwareTpm, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "evidence.json"
    said = answer(collect("tpm", tpm, out), 0, capsys)
    assert said["tee"] == "tpm"
    assert said["certificates"] >= 1
    assert answer(["attest", "inspect", str(out)], 0, capsys)["subject"] == "tpm"
    verify = ["attest", "verify", str(out), "--policy", "baseline", "--now", "now"]
    found = answer([*verify, "--challenge", said["challenge"]], 5, capsys)
    assert found["codes"] == ["AK_UNBOUND"]  # nobody has enrolled it
    # It is no VM of Azure.
    for kind in ("az-snp", "az-tdx"):
        error = answer(collect(kind, tpm, tmp_path / kind), 9, capsys)["error"]
        assert error["code"] == "HCL_REPORT_ABSENT"
        assert not (tmp_path / kind).exists()


def make_azures(tpm: SoftwareTpm, platform: SnpSimulator) -> None:
    """What the paravisor leaves in a vTPM: a key, and a report that vouches for it."""
    template, _ = TPM2B_PUBLIC.unmarshal(sized(AK_TEMPLATES["rsa-2048"].encode()))
    with ESAPI(tpm.tcti) as esapi:
        handle, public, *_ = esapi.create_primary(TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.OWNER)
        esapi.evict_control(ESYS_TR.OWNER, handle, AK_HANDLE)
        esapi.flush_context(handle)
        area = parse_public(bytes(public.publicArea.marshal()))
        holder: Any = SimpleNamespace(public_key=lambda: public_key(area))
        guest = _OneKey(holder, "A-VM-OF-A-TEST")
        report = platform.report(
            guest.report_data(HEALTHY), measurement=MEASUREMENT, host_data=bytes(32)
        )
        data = guest.hcl_report(ReportType.SNP, report, HEALTHY).ljust(NV_SIZE, b"\x00")
        space = TPMS_NV_PUBLIC(
            nvIndex=HCL_INDEX,
            nameAlg=TPM2_ALG.SHA256,
            attributes=TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE,
            dataSize=len(data),
        )
        index = esapi.nv_define_space(None, TPM2B_NV_PUBLIC(nvPublic=space))
        for at in range(0, len(data), 512):
            esapi.nv_write(index, data[at : at + 512], at, auth_handle=ESYS_TR.OWNER)


def test_what_azures_vtpm_holds(
    tpm: SoftwareTpm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Collected, and verified to the hardware's root over the challenge that was given."""
    platform = SnpSimulator.create(tmp_path / "snp", now=NOW)
    make_azures(tpm, platform)
    out = tmp_path / "evidence.json"
    challenge = "5a" * 32
    said = answer([*collect("az-snp", tpm, out), "--challenge", challenge], 0, capsys)
    assert (said["tee"], said["challenge"]) == ("az-snp-vtpm", challenge)
    leaf = tmp_path / "vcek.der"
    leaf.write_bytes(platform.endorsements()[0])
    folder = platform.collateral_directory
    verify = ["attest", "verify", str(out), "--policy", "baseline", "--now", WHEN]
    verify += ["--endorsement", str(leaf), "--collateral", str(folder)]
    verify += ["--dangerous-simulated-anchor", str(folder / "ark.der")]
    found = answer([*verify, "--challenge", challenge], 11, capsys)
    assert (found["codes"], found["freshness"]) == ([], "bound")
    assert answer([*verify, "--challenge", "07" * 32], 5, capsys)["codes"] == ["NONCE_MISMATCH"]
    error = answer(collect("az-tdx", tpm, tmp_path / "tdx"), 9, capsys)["error"]
    assert error["what"] == "the paravisor's report is of SNP"
