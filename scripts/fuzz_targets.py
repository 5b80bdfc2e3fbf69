"""Every parser of hostile bytes, with seeds, for scripts/fuzz.py."""

from __future__ import annotations

import base64
import importlib.util
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regalia.core.errors import ParseError, RegaliaError
from regalia.formats.azure import parse_azure
from regalia.formats.hcl import parse_hcl
from regalia.formats.tpm_quote import parse_tpm_quote
from regalia.testing.eif_images import Image, eif_image, usual_sections
from regalia.testing.ovmf_images import Firmware, ovmf_image, tdvf_sections
from regalia.testing.pe_images import uki_image
from regalia.testing.policy_scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.testing.samples import Sample

Parse = Any  # Callable[..., object]: each target knows what it calls

MIB = 1 << 20
_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----(.+?)-----END", re.DOTALL)


@dataclass(frozen=True)
class Material:
    """Where seeds come from.

    Attributes:
        samples: simulated evidence by name.
        vectors: the folder of real evidence, or None.
        project: this project's own test vectors.
    """

    samples: dict[str, Sample]
    vectors: Path | None
    project: Path

    def real(self, *patterns: str) -> Iterator[bytes]:
        """Contents of files of real evidence."""
        if self.vectors is not None:
            for pattern in patterns:
                for path in sorted(self.vectors.glob(pattern)):
                    yield path.read_bytes()

    def own(self, pattern: str) -> Iterator[bytes]:
        """Contents of the project's test vectors."""
        for path in sorted(self.project.glob(pattern)):
            yield path.read_bytes()

    def reports(self, tee: str) -> Iterator[bytes]:
        """Simulated reports of one kind of TEE."""
        for sample in self.samples.values():
            if sample.evidence.tee == tee:
                yield sample.evidence.report

    def certificates(self) -> Iterator[bytes]:
        """Simulated and real, DER."""
        for sample in self.samples.values():
            yield from sample.evidence.endorsements
            yield from sample.verifier.collateral.certificates
        yield from der_blocks(self.real("roots/*", "snp/*/*.pem", "snp/*/*.der", "tpm/*.pem"))


def der_blocks(files: Iterator[bytes]) -> Iterator[bytes]:
    """What PEM files hold; other files as they are."""
    for data in files:
        blocks = _PEM.findall(data)
        yield from (base64.b64decode(block) for block in blocks) if blocks else (data,)


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        parser: ``module:function``; a target whose module is absent is skipped by name.
        seeds: bytes that parse, or nearly.
        arguments: further ones of the parser.
        refusals: the only errors that may come out.
        again: method of the parsed value that must give the same bytes.
        max_size: bytes that the fuzzer tries.
        wrap: from bytes to the parser's first argument.
    """

    name: str
    parser: str
    seeds: Callable[[Material], Iterator[bytes]]
    arguments: tuple[tuple[str, object], ...] = ()
    refusals: type[RegaliaError] = ParseError
    again: str = ""
    max_size: int = 16 * 1024
    wrap: Callable[[bytes], object] = lambda data: data

    def is_here(self) -> bool:
        """Whether its module exists."""
        try:
            return importlib.util.find_spec(self.parser.partition(":")[0]) is not None
        except ModuleNotFoundError:  # nor the package around it
            return False

    def load(self) -> Callable[[bytes], None]:
        """What the fuzzer calls: silent on a value or a refusal."""
        module, _, name = self.parser.partition(":")
        parse: Parse = getattr(importlib.import_module(module), name)
        arguments = dict(self.arguments)

        def once(data: bytes) -> None:
            try:
                parsed = parse(self.wrap(data), **arguments)
            except self.refusals:
                return
            if self.again and getattr(parsed, self.again)() != data:
                raise AssertionError(f"{self.name}: encoding again gives other bytes")

        return once


def nothing(_: Material) -> Iterator[bytes]:
    """No seed: the fuzzer starts from empty input."""
    yield b""


def encoded(material: Material) -> Iterator[bytes]:
    """Whole evidence envelopes."""
    for sample in material.samples.values():
        yield sample.evidence.encode()


def crls(material: Material) -> Iterator[bytes]:
    """Revocation lists, DER."""
    for sample in material.samples.values():
        yield from sample.verifier.collateral.crls
    yield from material.real("tdx/*crl.der", "tdx/lunal-collateral/*.der")


def event_logs(material: Material) -> Iterator[bytes]:
    """Firmware logs, those of a size that is worth mutating."""
    logs = material.real("tdx/coco-CCEL*", "tpm/*eventlog*", "tpm/keylime-binary*")
    yield from (log for log in logs if len(log) <= 64 * 1024)


def hcl_reports(material: Material) -> Iterator[bytes]:
    """Azure's, out of NV index or with the zeros that follow."""
    yield from hcl_of_azure(material)
    yield from material.real("az/snp/*hcl*.bin", "az/tdx/*hcl*.bin")


def tpm_enrolments(material: Material) -> Iterator[bytes]:
    """Of the simulated TPM."""
    for sample in material.samples.values():
        yield from sample.verifier.collateral.tpm.enrolments


def tpm_public_areas(material: Material) -> Iterator[bytes]:
    """Of the simulated TPM's AK."""
    for report in material.reports("tpm"):
        yield parse_tpm_quote(report).ak_public


def hcl_of_azure(material: Material) -> Iterator[bytes]:
    """Simulated HCL reports."""
    for tee in ("az-snp-vtpm", "az-tdx-vtpm"):
        for report in material.reports(tee):
            yield parse_azure(report).hcl_report


def rims(material: Material) -> Iterator[bytes]:
    """Reference values of the simulated GPUs."""
    for sample in material.samples.values():
        yield from sample.verifier.collateral.rims


def images(kind: str) -> Callable[[Material], Iterator[bytes]]:
    """One small synthetic image."""

    def make(_: Material) -> Iterator[bytes]:
        if kind == "pe":
            yield uki_image({".linux": b"kernel", ".cmdline": b"quiet"})
        elif kind == "eif":
            sections = usual_sections(kernel=b"kernel", cmdline=b"quiet", ramdisks=(b"a", b"b"))
            yield eif_image(Image(sections=sections))
        else:
            yield ovmf_image(Firmware())
            yield ovmf_image(Firmware(tdx=tdvf_sections(Firmware().size)))

    return make


def spdm(material: Material) -> Iterator[bytes]:
    """Of simulated GPUs, and real ones as hex in text files."""
    for sample in material.samples.values():
        for device in sample.evidence.devices[:1]:
            yield device.report
    for text in material.real("nvidia/sdk/*AttestationReport*.txt"):
        yield bytes.fromhex("".join(text.decode().split()))


def runtime_data(material: Material) -> Iterator[bytes]:
    """JSON that Azure's hypervisor hashes into the hardware's report."""
    for report in hcl_of_azure(material):
        yield parse_hcl(report).runtime_data


def nvidia_json(material: Material) -> Iterator[bytes]:
    """As NVIDIA's tools write it."""
    yield from material.real("nvidia/sdk/*evidence*.json")


def anything(material: Material) -> Iterator[bytes]:
    """A little of everything that somebody may hand to ``regalia attest``."""
    yield from encoded(material)
    for sample in material.samples.values():
        yield sample.evidence.report
    yield from material.real("*/*.bin", "*/*/*.bin", "*/*.json", "nitro/*", "tpm/*.pb")


_WHAT = (("what", "fuzzed"),)
_LIMITED = (("limit", MIB), ("what", "fuzzed"))

TARGETS = (
    Target(
        "whatever kind of evidence",
        "regalia.formats.recognize:recognize",
        anything,
        max_size=64 * 1024,
    ),
    Target("evidence envelope", "regalia.formats.evidence:parse_evidence", encoded),
    Target(
        "SNP report",
        "regalia.formats.snp:parse_report",
        lambda m: (*m.reports("sev-snp"), *m.real("snp/*/*-report.bin")),
        again="encode",
        max_size=1200,
    ),
    Target(
        "certificate",
        "regalia.attest.pki.certificates:parse_certificate",
        Material.certificates,
        _WHAT,
        max_size=4096,
    ),
    Target("CRL", "regalia.attest.pki.crl:parse_crl", crls, max_size=4096),
    Target(
        "PEM",
        "regalia.attest.pki.pem:parse_pem_certificates",
        lambda m: m.real("snp/*/*.pem"),
        (("count_max", 8), *_WHAT),
    ),
    Target(
        "collateral files",
        "regalia.attest.collateral:parse_collateral",
        lambda m: (*crls(m), *m.real("snp/*/*.pem")),
        wrap=lambda data: {"fuzzed.pem": data},
    ),
    Target(
        "DSSE",
        "regalia.crypto.dsse:parse_envelope",
        lambda m: m.own("policy/signed-policy.json"),
        _WHAT,
    ),
    Target(
        "release policy",
        "regalia.formats.policy:parse_release_policy",
        lambda m: m.own("policy/release-policy.json"),
    ),
    Target(
        "client policy",
        "regalia.formats.policy:parse_client_policy",
        lambda m: m.own("policy/client-policy.json"),
    ),
    Target(
        "runtime configuration",
        "regalia.formats.runtime_config:parse_runtime_config",
        lambda _: iter([Scene().config.encode()]),
    ),
    Target("EAR", "regalia.formats.ear:parse_ear", lambda m: m.real("tokens/*.json")),
    Target(
        "Intel quote",
        "regalia.formats.intel_quote:parse_quote",
        lambda m: (*m.reports("tdx"), *m.reports("sgx"), *m.real("tdx/*quote*.bin")),
    ),
    Target(
        "Intel TCB info",
        "regalia.attest.intel.documents:parse_tcb_info",
        lambda m: m.real("tdx/google-tcb_info*.json"),
    ),
    Target(
        "Intel identity",
        "regalia.attest.intel.documents:parse_identity",
        lambda m: m.real("tdx/google-qe_identity.json"),
    ),
    Target(
        "Intel collateral",
        "regalia.attest.intel.collateral:parse_json_collateral",
        lambda m: m.real("tdx/*_collateral.json"),
        _WHAT,
    ),
    Target(
        "CBOR",
        "regalia.formats.cbor:decode_cbor",
        lambda m: (*m.reports("aws-nitro"), *m.real("nitro/*.cbor")),
        _LIMITED,
    ),
    Target(
        "COSE_Sign1",
        "regalia.formats.cose:parse_sign1",
        lambda m: (*m.reports("aws-nitro"), *m.real("nitro/*.cbor")),
        _LIMITED,
    ),
    Target(
        "Nitro document",
        "regalia.formats.nitro:parse_nitro",
        lambda m: (*m.reports("aws-nitro"), *m.real("nitro/*.cbor")),
    ),
    Target("TPM quote", "regalia.formats.tpm:parse_quote", lambda m: m.real("az/*/*.msg")),
    Target("TPM signature", "regalia.formats.tpm:parse_signature", lambda m: m.real("az/*/*.sig")),
    Target("TPM public area", "regalia.formats.tpm_public:parse_public", tpm_public_areas),
    Target(
        "TPM document",
        "regalia.formats.tpm_quote:parse_tpm_quote",
        lambda m: m.reports("tpm"),
    ),
    Target("TPM enrolment request", "regalia.formats.tpm_enrol_steps:parse_request", nothing),
    Target("TPM enrolment challenge", "regalia.formats.tpm_enrol_steps:parse_challenge", nothing),
    Target(
        "go-tpm-tools attestation",
        "regalia.formats.go_tpm_tools:parse_go_attestation",
        lambda m: m.real("tpm/*.pb"),
        max_size=64 * 1024,
    ),
    Target("TPM enrolment", "regalia.formats.tpm_enrolment:parse_enrolment", tpm_enrolments),
    Target(
        "event log",
        "regalia.formats.tcg_log:parse_event_log",
        event_logs,
        again="encode",
        max_size=64 * 1024,
    ),
    Target("UEFI variable", "regalia.formats.uefi:parse_variable", nothing),
    Target("HCL runtime data", "regalia.formats.hcl:parse_runtime_data", runtime_data),
    Target("HCL report", "regalia.formats.hcl:parse_hcl", hcl_reports),
    Target(
        "HCL runtime data",
        "regalia.formats.hcl:parse_runtime_data",
        lambda m: (report[0x4D4:].rstrip(b"\0") for report in hcl_reports(m)),
    ),
    Target(
        "TDREPORT",
        "regalia.formats.td_report:parse_local_td_report",
        lambda m: (report[0x20:0x420] for report in hcl_reports(m)),
    ),
    Target("SNP certificate table", "regalia.formats.snp_certs:parse_certificate_table", nothing),
    Target(
        "Azure document",
        "regalia.formats.azure:parse_azure",
        lambda m: m.reports("az-snp-vtpm"),
    ),
    Target("SPDM report", "regalia.formats.spdm:parse_report", spdm, again="encode"),
    Target(
        "NVIDIA evidence list",
        "regalia.formats.nvidia_evidence:parse_nvidia_evidence",
        lambda m: m.real("nvidia/sdk/*evidence*.json"),
        max_size=64 * 1024,
    ),
    Target(
        "RIM",
        "regalia.formats.rim:parse_rim",
        rims,
        max_size=64 * 1024,
    ),
    Target(
        "RIM XML",
        "regalia.attest.nvidia.rim.document:parse_xml",
        lambda m: m.real("nvidia/rim/*"),
        max_size=64 * 1024,
    ),
    Target("NVIDIA evidence", "regalia.formats.nvidia_evidence:parse_nvidia_evidence", nvidia_json),
    Target("key denials", "regalia.formats.key_denials:parse_key_denials", nothing),
    Target("collateral bundle", "regalia.formats.collateral:parse_bundle", nothing),
    Target("deny list", "regalia.formats.deny_list:parse_deny_list", nothing),
    Target("PE image", "regalia.formats.pe:parse_pe", images("pe"), max_size=64 * 1024),
    Target("EIF signature", "regalia.formats.eif_signature:parse_eif_signature", nothing),
    Target("EIF image", "regalia.formats.eif:parse_eif", images("eif"), max_size=64 * 1024),
    Target("OVMF image", "regalia.formats.ovmf:parse_ovmf", images("ovmf"), max_size=64 * 1024),
    Target("release record", "regalia.formats.release:parse_record", nothing),
    Target(
        "sealed prefix",
        "regalia.formats.sealed_prefix:parse_prefix",
        lambda m: m.own("sealed-model/sealed/*"),
        _WHAT,
    ),
    Target("sealed index", "regalia.formats.sealed_index:parse_index", nothing),
    Target(
        "safetensors",
        "regalia.formats.safetensors:parse_safetensors",
        nothing,
        _WHAT,
        wrap=memoryview,
    ),
)


def verifiers(material: Material) -> dict[Target, Callable[[bytes], None]]:
    """For each sample, the whole verifier with other bytes in place of its report."""
    found = {}
    for name, sample in material.samples.items():
        target = Target(
            f"verify {name}", "", lambda _, report=sample.evidence.report: iter([report])
        )
        found[target] = verifier_of(sample)
    return found


def verifier_of(sample: Sample) -> Callable[[bytes], None]:
    """Verify a report in place of the sample's; refusals of any kind are right."""

    def once(data: bytes) -> None:
        with suppress(RegaliaError):
            sample.verify(replace(sample.evidence, report=data))

    return once
