"""``regalia attest`` over real evidence: what each file deserves, in the words of a script.

Against the baseline, without a challenge (nobody knows what these reports were asked with) and
with revocation open (the folder holds no current lists). So nothing is affirmed here: every file
that passes is a warning at least.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.main import run
from regalia.core.clock import rfc3339
from regalia.tees.nvidia.evidence.verify import PUBLISHED_NONCE

if TYPE_CHECKING:
    from pathlib import Path

MARCH = "2026-03-01T00:00:00Z"
AFFIRMED, REFUSED, WARNED = 0, 5, 11
MILAN, GENOA, TURIN = (f"snp/{name}/ask_ark.pem" for name in ("milan", "genoa", "turin"))
GPU = "nvidia/sdk/hopperAttestationReport.txt"
GPU_CHAIN = "nvidia/sdk/hopperCertChain.txt"
OWN_NONCE = "27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66"  # of that GPU
RIM = "nvidia/rim/NV_GPU_"
VBIOS = f"{RIM}VBIOS_1010_0200_882_96005E0001"


def at(seconds: int) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


@dataclass(frozen=True)
class Row:
    """One file of evidence, what is given with it, and what comes of it.

    Attributes:
        own: the machine is listed as one's own, as a Milan chip must be.
    """

    evidence: str
    given: tuple[str, ...]
    now: str
    status: int
    codes: tuple[str, ...] = ()
    own: bool = False

    def __str__(self) -> str:
        beside = ",".join(path.rpartition("/")[2] for path in self.given)
        return f"{self.evidence}+{beside}" + ("+own" if self.own else "")


ROWS = (
    # SEV-SNP
    Row("snp/genoa/ms-report.bin", ("snp/genoa/ms-vcek.pem", GENOA), MARCH, WARNED),
    Row("snp/turin/ms-report.bin", ("snp/turin/ms-vcek.pem", TURIN), MARCH, WARNED),
    Row(
        "snp/milan/ms-report.bin",
        ("snp/milan/ms-vcek.pem", MILAN),
        MARCH,
        REFUSED,
        ("PRODUCT_DENIED",),
    ),
    Row("snp/milan/ms-report.bin", ("snp/milan/ms-vcek.pem", MILAN), MARCH, WARNED, own=True),
    Row(
        "snp/milan/google-report.bin",
        ("snp/milan/google-vcek.der", MILAN),
        "2022-10-01T00:00:00Z",
        REFUSED,
        ("DEBUG_ENABLED", "PRODUCT_DENIED"),
    ),
    Row(
        "snp/milan/google-report.bin",
        ("snp/milan/google-vcek.der", MILAN),
        "2022-10-01T00:00:00Z",
        REFUSED,
        ("DEBUG_ENABLED",),
        own=True,
    ),
    Row(
        "snp/milan/coco-report.bin",
        ("snp/milan/coco-vcek.der", MILAN),
        "2023-02-01T00:00:00Z",
        REFUSED,
        ("TCB_PROVISIONAL",),
        own=True,
    ),
    *(
        Row(
            "snp/milan/coco-report.bin",
            (f"snp/milan/coco-vcek-invalid-{name}.der", MILAN),
            "2023-02-01T00:00:00Z",
            REFUSED,
            ("CHAIN_INVALID",),
        )
        for name in ("legacy", "new")
    ),
    Row(
        "snp/milan/coco-vlek-report.bin",
        ("snp/milan/coco-vlek.der", "snp/milan/asvk_ark.pem"),
        "2025-06-01T00:00:00Z",
        REFUSED,
        ("PRODUCT_DENIED", "TCB_PROVISIONAL"),
    ),
    Row(
        "snp/milan/coco-vlek-report.bin",
        ("snp/milan/coco-vlek.der", "snp/milan/asvk_ark.pem"),
        MARCH,
        REFUSED,
        ("CERT_EXPIRED",),
    ),
    Row(
        "snp/genoa/ms-report.bin",
        ("snp/genoa/ms-vcek.pem", MILAN),
        MARCH,
        REFUSED,
        ("COLLATERAL_MISSING",),
    ),
    # TDX, SGX
    Row(
        "tdx/dcapqvl-tdx_quote.bin",
        ("tdx/dcapqvl-tdx_quote_collateral.json",),
        at(1750415547),
        WARNED,
    ),
    Row(
        "tdx/dcapqvl-sgx_quote.bin",
        ("tdx/dcapqvl-sgx_quote_collateral.json",),
        at(1750416971),
        WARNED,
    ),
    Row(
        "tdx/dcapqvl-tdx_quote_outdated.bin",
        ("tdx/dcapqvl-tdx_quote_outdated_collateral.json",),
        at(1771498731),
        REFUSED,
        ("TCB_NO_MATCH",),
    ),
    Row(  # the 39 bytes behind it are not zero; its TCB level would be refused as well
        "tdx/google-quote_v4_spr_e4.bin",
        ("tdx/assembled-google-2023-50806f_collateral.json",),
        at(1688083200),
        REFUSED,
        ("TRAILING_DATA",),
    ),
    Row(
        "tdx/coco-quote_4.bin",
        ("tdx/assembled-2026-03-50806f_collateral.json",),
        at(1773703290),
        REFUSED,
        ("DEBUG_ENABLED", "TCB_OUT_OF_DATE"),
    ),
    Row(
        "tdx/coco-quote_5.bin",
        ("tdx/assembled-2026-03-90c06f_collateral.json",),
        at(1773702963),
        REFUSED,
        ("TCB_NO_MATCH",),
    ),
    Row("tdx/coco-quote_6.bin", (), at(1773702963), REFUSED, ("COLLATERAL_MISSING",)),
    Row(
        "tdx/google-cos113-quote.bin",
        ("tdx/google-cos113-ccel_data.bin",),
        at(1773702963),
        REFUSED,
        ("COLLATERAL_MISSING",),
    ),
    # Nitro
    Row("nitro/evervault-valid.cbor", (), "2022-10-13T08:58:02Z", WARNED),
    Row("nitro/evervault-valid.cbor", (), MARCH, REFUSED, ("CERT_EXPIRED",)),
    Row(
        "nitro/evervault-debug.cbor",
        (),
        "2022-10-12T13:50:06Z",
        REFUSED,
        ("DEBUG_ENABLED",),
    ),
    Row("nitro/eternis-example.b64", (), "2024-09-09T19:49:12Z", REFUSED, ("DEBUG_ENABLED",)),
    # NVIDIA
    Row(GPU, (GPU_CHAIN,), "2024-06-01T00:00:00Z", WARNED),
    Row(GPU, (GPU_CHAIN, f"{VBIOS}.swidtag"), "2024-06-01T00:00:00Z", WARNED),
    Row(
        GPU,
        (GPU_CHAIN, f"{VBIOS}_measurement_mismatch.xml"),
        "2024-06-01T00:00:00Z",
        REFUSED,
        ("RIM_MISMATCH",),
    ),
    Row(
        GPU,
        (GPU_CHAIN, "nvidia/rim/incorrect_cert_chain_driver_rim.xml"),
        "2024-06-01T00:00:00Z",
        REFUSED,
        ("ROOT_UNTRUSTED",),
    ),
    Row(
        GPU,
        (GPU_CHAIN, f"{RIM}DRIVER_GH100_535.86.09_measurement_mismatch.xml"),
        "2025-07-01T00:00:00Z",
        REFUSED,
        ("SIGNATURE_INVALID",),
    ),
    Row(
        "nvidia/nvtrust/hopperAttestationReport.txt",
        ("nvidia/nvtrust/hopperCertChain.txt",),
        MARCH,
        WARNED,
    ),
    Row(
        "nvidia/sdk/hopperAttestationReportExpired.txt",
        ("nvidia/sdk/hopperCertChainExpired.txt",),
        MARCH,
        WARNED,
    ),
    Row(
        "nvidia/sdk/hopperAttestationReportExpired.txt",
        (
            "nvidia/sdk/hopperCertChainExpired.txt",
            f"{RIM}DRIVER_GH100_570.124.03_expired.xml",
        ),
        MARCH,
        REFUSED,
        ("CERT_EXPIRED",),
    ),
    Row(
        "nvidia/sdk/hopperAttestationReportInvalidSignature.txt",
        (GPU_CHAIN,),
        MARCH,
        REFUSED,
        ("LEAF_BINDING_MISMATCH",),
    ),
    Row(
        "nvidia/sdk/blackwellAttestationReport.txt",
        ("nvidia/sdk/blackwellCertChain.txt",),
        MARCH,
        WARNED,
    ),
    Row("nvidia/sdk/hopper_evidence.json", (), MARCH, WARNED),
    Row("nvidia/sdk/evidence_hopper_590_12.json", (), MARCH, WARNED),
    Row("nvidia/sdk/hopper_evidence_cert_hold.json", (), MARCH, WARNED),
    Row(
        "nvidia/sdk/switchAttestationReport.txt",
        ("nvidia/sdk/switchCertChain.txt",),
        MARCH,
        WARNED,
    ),
    Row("nvidia/sdk/switch_evidence_ls10.json", (), MARCH, WARNED),
    # One switch four times, as NVIDIA's tests repeat it.
    Row("nvidia/sdk/multi_switch_ls10.json", (), MARCH, REFUSED, ("COMPOSITE_MISMATCH",)),
    Row("nvidia/nvtrust/ppcie_gpu_evidence.json", (), MARCH, WARNED),
    # Azure
    *(
        Row(f"az/snp/evidence-v{version}.json", (MILAN,), MARCH, status, codes, own)
        for version in (0, 1, 2)
        for status, codes, own in (
            (REFUSED, ("PRODUCT_DENIED",), False),
            (WARNED, (), True),
        )
    ),
    Row("az/tdx/evidence-v1.json", (), at(1773703290), REFUSED, ("COLLATERAL_MISSING",)),
    # As evidence reaches people
    Row("forms/nitro-indefinite-map.cbor", (), "2026-02-12T17:56:02Z", WARNED),
    Row("forms/nitro-user-data-1024.b64", (), "2024-09-07T14:37:39Z", WARNED),
    Row(
        "forms/hopper-one-zero-byte-behind.txt",
        ("forms/hopper-one-zero-byte-behind.certs.txt",),
        MARCH,
        WARNED,
    ),
    Row("forms/platform-evidence-snp.json", (GENOA,), "2026-03-10T00:00:00Z", WARNED),
    Row("forms/tsm-outblob-auxblob.json", (), "2025-09-01T00:00:00Z", WARNED),
    Row(
        "forms/thim-snp-report.bin",
        ("forms/thim-certificates.json",),
        "2023-06-01T00:00:00Z",
        WARNED,
        own=True,
    ),
    Row("forms/msg-report-rsp.bin", (MILAN,), MARCH, REFUSED, ("COLLATERAL_MISSING",)),
    Row("forms/nras-request-8-hopper.json", (), MARCH, WARNED),
    Row("forms/nvattest-ppcie.json", (), MARCH, WARNED),
    # TPM
    *(
        Row(f"tpm/{name}", (), MARCH, REFUSED, ("AK_UNBOUND",))
        for name in (
            "keylime-checkquote.json",
            "coco-tpm_evidence.json",
            "google-gce-cos-85-no-nonce.pb",
            "google-gce-cos-85-nonce9009.pb",
        )
    ),
)


def chip_of(evidence: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """CHIP_ID as the report has it: for the operator who knows this very machine."""
    assert run(["attest", "inspect", str(evidence), "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    chip: str = parts["ATTESTATION_REPORT"]["chip_id"]
    return chip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_a_file_deserves(vectors: Path, row: Row, capsys: pytest.CaptureFixture[str]) -> None:
    evidence = vectors / row.evidence
    command = ["attest", "verify", str(evidence), "--policy", "baseline", "--challenge", "any"]
    command += ["--now", row.now, "--revocation", "any", "--json"]
    for path in row.given:
        command += ["--endorsement", str(vectors / path)]
    if row.own:
        command += ["--machine", chip_of(evidence, capsys)]
    assert run(command) == row.status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    codes = found["codes"] if "codes" in found else [found["error"]["code"]]
    assert tuple(codes) == row.codes
    if row.status != REFUSED:
        assert found["hardware"] == "genuine"
        assert (found["fresh"], found["freshness"]) == (False, "unchecked")
        assert "FRESHNESS_UNCHECKED" in {each["code"] for each in found["warnings"]}
        assert all(check["outcome"] != "fail" for check in found["checks"])
    for check in found.get("checks", ()):
        assert check["outcome"] != "fail" or not check["seen"] or check["seen"] != check["wanted"]


def warned(found: dict[str, Any]) -> set[str]:
    return {each["code"] for each in found["warnings"]}


def check_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    (check,) = (each for each in found["checks"] if each["name"] == name)
    return dict(check)


def quote_of_march(vectors: Path, *more: str) -> list[str]:
    """A TDX quote with its collateral, whose lists are in date."""
    given = vectors / "tdx" / "dcapqvl-tdx_quote.bin"
    lists = vectors / "tdx" / "dcapqvl-tdx_quote_collateral.json"
    command = ["attest", "verify", str(given), "--endorsement", str(lists), "--policy", "baseline"]
    return [*command, "--now", at(1750415547), "--json", *more]


def test_what_is_complete_is_affirmed(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Genuine, fresh, not revoked: nothing is left to be desired, and only then it is a 0."""
    quote = vectors / "tdx" / "dcapqvl-tdx_quote.bin"
    assert run(["attest", "inspect", str(quote), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)["parts"]["quote"]["body"]
    challenge = body["report_data"]
    assert run(quote_of_march(vectors, "--challenge", challenge)) == AFFIRMED
    found = json.loads(capsys.readouterr().out)
    assert (found["warnings"], found["freshness"]) == ([], "bound")
    assert all(check["passed"] for check in found["checks"])
    assert run(quote_of_march(vectors, "--challenge", "any")) == WARNED
    found = json.loads(capsys.readouterr().out)
    assert warned(found) == {"FRESHNESS_UNCHECKED"}
    assert check_of(found, "any/freshness")["outcome"] == "open"


@pytest.mark.parametrize("rims", [(), (f"{VBIOS}.swidtag",)], ids=["none", "not the driver's"])
def test_reference_values_that_are_not_all_there(
    vectors: Path, rims: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["attest", "verify", str(vectors / GPU), "--policy", "baseline", "--json"]
    for path in (GPU_CHAIN, *rims):
        command += ["--endorsement", str(vectors / path)]
    command += ["--now", "2024-06-01T00:00:00Z", "--revocation", "any", "--challenge", OWN_NONCE]
    assert run(command) == WARNED
    found = json.loads(capsys.readouterr().out)
    assert warned(found) == {
        "RIM_MISSING",
        "REVOCATION_UNKNOWN",
        "DEVICE_MODE_UNSTATED",
        "CHECK_LEFT_OPEN",  # this driver repeats no FWID
    }
    assert check_of(found, "nvidia/fwid")["passed"] is False
    rim = check_of(found, "nvidia/rim")
    assert (rim["outcome"], rim["passed"]) == ("open", False)
    assert "DRIVER" in rim["wanted"]
    vector = found["ear"]["submods"]["nvidia-gpu-0"]["ear_trustworthiness_vector"]
    assert (vector["hardware"], vector["executables"], vector["configuration"]) == (34, 33, 32)


@pytest.mark.parametrize("folder", ["nvtrust", "sdk"])
def test_a_published_nonce_is_not_fresh(
    vectors: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """NVIDIA's sample report, with the very nonce that it carries: anybody has that report."""
    given = vectors / "nvidia" / folder
    command = ["attest", "verify", str(given / "hopperAttestationReport.txt"), "--json"]
    command += ["--endorsement", str(given / "hopperCertChain.txt"), "--policy", "baseline"]
    command += ["--now", MARCH, "--revocation", "any"]
    nonce = PUBLISHED_NONCE.hex() if folder == "nvtrust" else OWN_NONCE
    status = run([*command, "--challenge", nonce])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    if folder == "sdk":  # whose nonce somebody chose: the same command calls that fresh
        assert (status, found["fresh"]) == (WARNED, True)
        assert "FRESHNESS_UNCHECKED" not in warned(found)
        return
    assert (status, found["fresh"]) == (REFUSED, False)
    assert found["codes"] == ["NONCE_WELL_KNOWN"]
    assert found["checks"][-1]["code"] == "NONCE_WELL_KNOWN"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_file_can_be_inspected(
    vectors: Path, row: Row, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["attest", "inspect", str(vectors / row.evidence)]) == 0
    shown = capsys.readouterr().out
    assert "UNTRUSTED" in shown
    assert "behind the quote" in shown or "TRAILING_DATA" not in row.codes
