"""Real evidence: every file of the folder of vectors, as the commands see it today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.golden.evidence import Case, appraised, for_people, inspected, write_strict
from tests.golden.results import Tables
from tests.golden.text import Seen, command, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER = "vectors"  # link in the current folder
MARCH = "2026-03-01T00:00:00Z"
MILAN, GENOA, TURIN = (f"snp/{name}/ask_ark.pem" for name in ("milan", "genoa", "turin"))
GPU, GPU_CHAIN = "nvidia/sdk/hopperAttestationReport.txt", "nvidia/sdk/hopperCertChain.txt"
OLD_GPU = "nvidia/sdk/hopperAttestationReportExpired.txt"
OLD_CHAIN = "nvidia/sdk/hopperCertChainExpired.txt"
RIM = "nvidia/rim/NV_GPU_"
VBIOS = f"{RIM}VBIOS_1010_0200_882_96005E0001"


def _at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Row:
    """One file, what is given with it, and when.

    Attributes:
        own: the machine is named as one's own, as a Milan chip must be.
    """

    evidence: str
    given: tuple[str, ...] = ()
    now: str = MARCH
    own: bool = False

    @property
    def title(self) -> str:
        """A heading."""
        beside = [path.rpartition("/")[2] for path in self.given]
        words = [self.evidence, *beside, *(["own machine"] if self.own else []), self.now]
        return " + ".join(words)


ROWS: dict[str, tuple[Row, ...]] = {
    "snp": (
        Row("snp/genoa/ms-report.bin", ("snp/genoa/ms-vcek.pem", GENOA)),
        Row("snp/turin/ms-report.bin", ("snp/turin/ms-vcek.pem", TURIN)),
        Row("snp/milan/ms-report.bin", ("snp/milan/ms-vcek.pem", MILAN)),
        Row("snp/milan/ms-report.bin", ("snp/milan/ms-vcek.pem", MILAN), own=True),
        *(
            Row(f"snp/milan/{name}-report.bin", (f"snp/milan/{leaf}.der", MILAN), now, own)
            for name, leaf, now in (
                ("google", "google-vcek", "2022-10-01T00:00:00Z"),
                ("coco", "coco-vcek", "2023-02-01T00:00:00Z"),
                ("coco", "coco-vcek-invalid-legacy", "2023-02-01T00:00:00Z"),
                ("coco", "coco-vcek-invalid-new", "2023-02-01T00:00:00Z"),
            )
            for own in (False, True)
        ),
        *(
            Row(
                "snp/milan/coco-vlek-report.bin",
                ("snp/milan/coco-vlek.der", "snp/milan/asvk_ark.pem"),
                now,
            )
            for now in ("2025-06-01T00:00:00Z", MARCH)
        ),
        Row("snp/genoa/ms-report.bin", ("snp/genoa/ms-vcek.pem", MILAN)),
        Row("snp/genoa/ms-report.bin", ("snp/turin/ms-vcek.pem", GENOA)),
        Row("snp/genoa/ms-report.bin", ("snp/genoa/ms-vcek.pem", GENOA), "2020-01-01T00:00:00Z"),
    ),
    "tdx-sgx": (
        Row(
            "tdx/dcapqvl-tdx_quote.bin",
            ("tdx/dcapqvl-tdx_quote_collateral.json",),
            _at(1750415547),
        ),
        Row(
            "tdx/dcapqvl-sgx_quote.bin",
            ("tdx/dcapqvl-sgx_quote_collateral.json",),
            _at(1750416971),
        ),
        Row(
            "tdx/dcapqvl-tdx_quote_outdated.bin",
            ("tdx/dcapqvl-tdx_quote_outdated_collateral.json",),
            _at(1771498731),
        ),
        Row(
            "tdx/google-quote_v4_spr_e4.bin",
            ("tdx/assembled-google-2023-50806f_collateral.json",),
            _at(1688083200),
        ),
        Row(
            "tdx/coco-quote_4.bin",
            ("tdx/assembled-2026-03-50806f_collateral.json",),
            _at(1773703290),
        ),
        Row(
            "tdx/coco-quote_5.bin",
            ("tdx/assembled-2026-03-90c06f_collateral.json",),
            _at(1773702963),
        ),
        Row("tdx/coco-quote_6.bin", (), _at(1773702963)),
        Row(
            "tdx/google-cos113-quote.bin",
            ("tdx/google-cos113-ccel_data.bin",),
            _at(1773702963),
        ),
        Row(
            "tdx/dcapqvl-tdx_quote.bin",
            ("tdx/dcapqvl-tdx_quote_collateral.json",),
            _at(1850415547),
        ),
        Row(
            "tdx/dcapqvl-tdx_quote.bin",
            ("tdx/dcapqvl-sgx_quote_collateral.json",),
            _at(1750415547),
        ),
    ),
    "nitro": (
        Row("nitro/evervault-valid.cbor", (), "2022-10-13T08:58:02Z"),
        Row("nitro/evervault-valid.cbor"),
        Row("nitro/evervault-debug.cbor", (), "2022-10-12T13:50:06Z"),
        Row("nitro/eternis-example.b64", (), "2024-09-09T19:49:12Z"),
    ),
    "nvidia": (
        Row(GPU, (GPU_CHAIN,), "2024-06-01T00:00:00Z"),
        Row(GPU, (GPU_CHAIN, f"{VBIOS}.swidtag"), "2024-06-01T00:00:00Z"),
        Row(GPU, (GPU_CHAIN, f"{VBIOS}_measurement_mismatch.xml"), "2024-06-01T00:00:00Z"),
        Row(
            GPU,
            (GPU_CHAIN, "nvidia/rim/incorrect_cert_chain_driver_rim.xml"),
            "2024-06-01T00:00:00Z",
        ),
        Row(
            GPU,
            (GPU_CHAIN, f"{RIM}DRIVER_GH100_535.86.09_measurement_mismatch.xml"),
            "2025-07-01T00:00:00Z",
        ),
        Row(GPU, (GPU_CHAIN, f"{RIM}DRIVER_GH100_550.144.03.xml"), "2025-07-01T00:00:00Z"),
        Row("nvidia/nvtrust/hopperAttestationReport.txt", ("nvidia/nvtrust/hopperCertChain.txt",)),
        Row(OLD_GPU, (OLD_CHAIN,)),
        Row(OLD_GPU, (OLD_CHAIN, f"{RIM}DRIVER_GH100_570.124.03_expired.xml")),
        Row("nvidia/sdk/hopperAttestationReportInvalidSignature.txt", (GPU_CHAIN,)),
        Row("nvidia/sdk/blackwellAttestationReport.txt", ("nvidia/sdk/blackwellCertChain.txt",)),
        Row("nvidia/sdk/hopper_evidence.json"),
        Row("nvidia/sdk/evidence_hopper_590_12.json"),
        Row("nvidia/sdk/hopper_evidence_cert_hold.json"),
        Row("nvidia/sdk/switchAttestationReport.txt", ("nvidia/sdk/switchCertChain.txt",)),
        Row("nvidia/sdk/switch_evidence_ls10.json"),
        Row("nvidia/sdk/multi_switch_ls10.json"),
        Row("nvidia/nvtrust/ppcie_gpu_evidence.json"),
    ),
    "azure-tpm": (
        *(
            Row(f"az/snp/evidence-v{version}.json", (MILAN,), own=own)
            for version in (0, 1, 2)
            for own in (False, True)
        ),
        Row("az/tdx/evidence-v1.json", (), _at(1773703290)),
        Row(
            "az/tdx/evidence-v1.json",
            ("tdx/assembled-2026-03-50806f_collateral.json",),
            _at(1773703290),
        ),
        *(
            Row(f"tpm/{name}")
            for name in (
                "keylime-checkquote.json",
                "coco-tpm_evidence.json",
                "google-gce-cos-85-no-nonce.pb",
                "google-gce-cos-85-nonce9009.pb",
            )
        ),
    ),
    "forms": (
        Row("forms/nitro-indefinite-map.cbor", (), "2026-02-12T17:56:02Z"),
        Row("forms/nitro-user-data-1024.b64", (), "2024-09-07T14:37:39Z"),
        Row(
            "forms/hopper-one-zero-byte-behind.txt",
            ("forms/hopper-one-zero-byte-behind.certs.txt",),
        ),
        Row("forms/coco-az-tdx-v0.json"),
        Row(
            "forms/dstack-getquote.json",
            ("tdx/assembled-2026-03-90c06f_collateral.json",),
            _at(1773702963),
        ),
        Row("forms/platform-evidence-snp.json", (GENOA,), "2026-03-10T00:00:00Z"),
        *(
            Row("forms/tsm-outblob-auxblob.json", given, "2025-09-01T00:00:00Z", own)
            for given, own in (((), False), ((MILAN,), True), ((GENOA,), False))
        ),
        Row("forms/hcl-report-bare-tdx.bin"),
        Row(
            "forms/thim-snp-report.bin",
            ("forms/thim-certificates.json",),
            "2023-06-01T00:00:00Z",
            own=True,
        ),
        Row("forms/msg-report-rsp.bin"),
        Row("forms/nras-request-8-hopper.json"),
        Row("forms/nvattest-ppcie.json"),
    ),
}
# Every other file there: certificates, collateral, logs, tokens, parts of evidence.
OTHERS = (
    "az/snp/hcl-report.bin",
    "az/snp/tpm-quote-v1.json",
    "az/snp/tpm-quote.msg",
    "az/snp/tpm-quote.sig",
    "az/snp/vcek.pem",
    "az/tdx/hcl-report.bin",
    "az/tdx/td-quote.bin",
    "forms/hopper-one-zero-byte-behind.certs.txt",
    "forms/thim-certificates.json",
    "nvidia/nvtrust/Driver_RIM_test_no_gpu.swidtag",
    "nvidia/nvtrust/VBIOS_1010_0200_882_96005E0001_test_no_gpu.swidtag",
    "nvidia/nvtrust/hopperCertChain.txt",
    "nvidia/rim/NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml",
    "nvidia/rim/NV_GPU_DRIVER_GH100_550.144.03.xml",
    "nvidia/rim/NV_GPU_DRIVER_GH100_570.124.03_expired.xml",
    "nvidia/rim/NV_GPU_VBIOS_1010_0200_882_96005E0001.swidtag",
    "nvidia/rim/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml",
    "nvidia/rim/incorrect_cert_chain_driver_rim.xml",
    "nvidia/sdk/blackwellCertChain.txt",
    "nvidia/sdk/hopperCertChain.txt",
    "nvidia/sdk/hopperCertChainExpired.txt",
    "nvidia/sdk/hopperClaimsv3_decoded.json",
    "nvidia/sdk/hopperClaimsv3_detached_eat.json",
    "nvidia/sdk/spdm_parsed_output.json",
    "nvidia/sdk/switchCertChain.txt",
    "nvidia/sdk/switch_decoded.json",
    "nvidia/sdk/switch_detached_eat.json",
    "roots/amd-ark-genoa.pem",
    "roots/amd-ark-milan.pem",
    "roots/amd-ark-turin.pem",
    "roots/aws-nitro-root-g1.pem",
    "roots/intel-sgx-root-ca.der",
    "roots/nvidia-device-identity-root.pem",
    "roots/nvidia-rim-root.pem",
    "snp/genoa/ark.pem",
    "snp/genoa/ask_ark.pem",
    "snp/genoa/asvk_ark.pem",
    "snp/genoa/ms-ask.pem",
    "snp/genoa/ms-vcek.pem",
    "snp/milan/ark.pem",
    "snp/milan/ask_ark.pem",
    "snp/milan/asvk_ark.pem",
    "snp/milan/coco-vcek-invalid-legacy.der",
    "snp/milan/coco-vcek-invalid-new.der",
    "snp/milan/coco-vcek.der",
    "snp/milan/coco-vlek.der",
    "snp/milan/google-vcek.der",
    "snp/milan/ms-ask.pem",
    "snp/milan/ms-vcek.pem",
    "snp/turin/ark.pem",
    "snp/turin/ask_ark.pem",
    "snp/turin/asvk_ark.pem",
    "snp/turin/ms-ask.pem",
    "snp/turin/ms-vcek.pem",
    "snp/turin/virtee-vcek.der",
    "tdx/assembled-2026-03-50806f_collateral.json",
    "tdx/assembled-2026-03-90c06f_collateral.json",
    "tdx/assembled-google-2023-50806f_collateral.json",
    "tdx/coco-CCEL_AAEL_alibabacloud.bin",
    "tdx/coco-CCEL_data_grub.bin",
    "tdx/coco-CCEL_data_ovmf.bin",
    "tdx/dcapqvl-sgx_quote_collateral.json",
    "tdx/dcapqvl-tdx_quote_collateral.json",
    "tdx/dcapqvl-tdx_quote_outdated_collateral.json",
    "tdx/google-cos113-ccel_data.bin",
    "tdx/google-cos113-ccel_table.bin",
    "tdx/google-cos113-nonce.bin",
    "tdx/google-pckcrl.der",
    "tdx/google-qe_identity.json",
    "tdx/google-rootcrl.der",
    "tdx/google-tcb_info.json",
    "tdx/google-tcb_info_v5.json",
    "tdx/lunal-collateral/pck_crl_platform.der",
    "tdx/lunal-collateral/qe_identity_signing_chain.pem",
    "tdx/lunal-collateral/root_ca_crl.der",
    "tdx/lunal-collateral/tcb_info_50806f000000.json",
    "tdx/lunal-collateral/tcb_info_90c06f000000.json",
    "tdx/lunal-collateral/tcb_signing_chain.pem",
    "tdx/lunal-collateral/td_qe_identity.json",
    "tokens/coco-ear-example.token.json",
    "tpm/google-eventlog-confidential-gke-debug-251000_eventlog.bin",
    "tpm/google-eventlog-cos-101-amd-sev.bin",
    "tpm/google-eventlog-rhel8-uefi.bin",
    "tpm/google-eventlog-ubuntu-2104-no-secure-boot.bin",
    "tpm/google-pca_tpm_rsa_sign_cert.pem",
    "tpm/google-uca_tpm_ecc_sign_cert.pem",
    "tpm/google-uca_tpm_rsa_sign_cert.pem",
    "tpm/keylime-binary_bios_measurements-secureboot",
)
# Shown to people too, one row of each kind: by the first of each file of golden text.
SHOWN = ("snp", "tdx-sgx", "nitro", "nvidia")


def files(folder: Path) -> dict[str, str]:
    """Texts by name.

    Args:
        folder: of the vectors; ``vectors`` in the current folder becomes a link to it.
    """
    Path(FOLDER).symlink_to(folder.resolve())
    write_strict()
    tables = Tables()
    out = {f"{name}.txt": joined(_rows(rows, tables)) for name, rows in ROWS.items()}
    out |= {f"{name}.inspect.txt": joined(_inspect(name, tables)) for name in ROWS}
    out["people.txt"] = joined(line for name in SHOWN for line in _people(ROWS[name][0]))
    out["other-files.txt"] = joined(_others(tables))
    return out | {"tables.txt": tables.text(0)}  # in full among the simulated ones


def _case(row: Row) -> Case:
    trust = [word for path in row.given for word in ("--endorsement", f"{FOLDER}/{path}")]
    evidence = f"{FOLDER}/{row.evidence}"
    machine = _chip(evidence) if row.own else ""
    return Case(evidence, tuple(trust), row.now, machine=machine)


def _chip(evidence: str) -> str:
    """CHIP_ID as the report has it; empty if the command cannot read it."""
    body = command("attest", "inspect", evidence, "--json").body
    chip: str = body.get("parts", {}).get("ATTESTATION_REPORT", {}).get("chip_id", "")
    return chip


def _rows(rows: Iterable[Row], tables: Tables) -> Iterator[str]:
    seen = Seen()
    for row in rows:
        yield f"#### {row.title}"
        yield from appraised(_case(row), tables, seen)


def _people(row: Row) -> Iterator[str]:
    for more in ((), ("--explain",)):
        yield f"#### {' '.join((row.title, *more))}"
        yield from for_people(_case(row), *more)
        yield ""


def _inspect(name: str, tables: Tables) -> Iterator[str]:
    for path in dict.fromkeys(row.evidence for row in ROWS[name]):
        yield f"#### {path}"
        yield from inspected(f"{FOLDER}/{path}", tables)
        yield ""


def _others(tables: Tables) -> Iterator[str]:
    """Files that hold no evidence, or evidence in no row: how they are refused."""
    for path in OTHERS:
        lines = list(inspected(f"{FOLDER}/{path}", tables))
        yield f"#### {path}: {lines[0]}"
        yield from lines[1:]
        answer = Case(f"{FOLDER}/{path}", (), MARCH).verify("--json")
        body = answer.body
        yield f"verify: exit {answer.status} {body.get('codes') or body['error']['code']}"
