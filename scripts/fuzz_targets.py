"""Every parser of hostile bytes, with seeds, for scripts/fuzz.py."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import fuzz_seeds as seeds

from regalia.core.errors import ParseError, RegaliaError
from regalia.testing.policy_scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fuzz_seeds import Material

    from regalia.testing.samples import Sample

Parse = Any  # Callable[..., object]: each target knows what it calls

MIB = 1 << 20


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
    seeds: Callable[[Material], Iterable[bytes]]
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
        parse = self._parser()

        def once(data: bytes) -> None:
            try:
                parsed = parse(data)
            except self.refusals:
                return
            if self.again and getattr(parsed, self.again)() != data:
                raise AssertionError(f"{self.name}: encoding again gives other bytes")

        return once

    def accepts(self, data: bytes) -> bool:
        """Whether the parser gives a value."""
        try:
            self._parser()(data)
        except self.refusals:
            return False
        return True

    def _parser(self) -> Callable[[bytes], object]:
        module, _, name = self.parser.partition(":")
        parse: Parse = getattr(importlib.import_module(module), name)
        arguments = dict(self.arguments)
        return lambda data: parse(self.wrap(data), **arguments)


_WHAT = (("what", "fuzzed"),)
_LIMITED = (("limit", MIB), ("what", "fuzzed"))

TARGETS = (
    Target(
        "whatever kind of evidence",
        "regalia.formats.recognize:recognize",
        seeds.anything,
        max_size=64 * 1024,
    ),
    Target(
        "evidence envelope",
        "regalia.formats.evidence:parse_evidence",
        seeds.envelopes,
        max_size=64 * 1024,
    ),
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
        seeds.Material.certificates,
        _WHAT,
        max_size=4096,
    ),
    Target("CRL", "regalia.attest.pki.crl:parse_crl", seeds.crls, max_size=4096),
    Target(
        "PEM",
        "regalia.attest.pki.pem:parse_pem_certificates",
        seeds.pem_files,
        (("count_max", 8), *_WHAT),
    ),
    Target(
        "collateral files",
        "regalia.attest.collateral:parse_collateral",
        lambda m: (*seeds.crls(m), *seeds.pem_files(m)),
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
    Target("EAR", "regalia.formats.ear:parse_ear", seeds.results),
    Target(
        "Intel quote",
        "regalia.formats.intel_quote:parse_quote",
        lambda m: (*m.reports("tdx"), *m.reports("sgx"), *m.real("tdx/*quote*.bin")),
    ),
    Target(
        "Intel TCB info",
        "regalia.attest.intel.documents:parse_tcb_info",
        seeds.tcb_infos,
    ),
    Target(
        "Intel identity",
        "regalia.attest.intel.documents:parse_identity",
        seeds.identities,
    ),
    Target(
        "Intel collateral",
        "regalia.attest.intel.collateral:parse_json_collateral",
        seeds.intel_files,
        _WHAT,
        max_size=64 * 1024,
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
    Target("TPM quote", "regalia.formats.tpm:parse_quote", seeds.tpm_quotes),
    Target("TPM signature", "regalia.formats.tpm:parse_signature", seeds.tpm_signatures),
    Target("TPM public area", "regalia.formats.tpm_public:parse_public", seeds.tpm_public_areas),
    Target(
        "TPM document",
        "regalia.formats.tpm_quote:parse_tpm_quote",
        lambda m: m.reports("tpm"),
    ),
    Target(
        "TPM enrolment request", "regalia.formats.tpm_enrol_steps:parse_request", seeds.tpm_requests
    ),
    Target(
        "TPM enrolment challenge",
        "regalia.formats.tpm_enrol_steps:parse_challenge",
        seeds.tpm_challenges,
    ),
    Target(
        "go-tpm-tools attestation",
        "regalia.formats.go_tpm_tools:parse_go_attestation",
        seeds.go_attestations,
        max_size=64 * 1024,
    ),
    Target("TPM enrolment", "regalia.formats.tpm_enrolment:parse_enrolment", seeds.tpm_enrolments),
    Target(
        "event log",
        "regalia.formats.tcg_log:parse_event_log",
        seeds.event_logs,
        again="encode",
        max_size=64 * 1024,
    ),
    Target("UEFI variable", "regalia.formats.uefi:parse_variable", seeds.uefi_variables),
    Target("HCL runtime data", "regalia.formats.hcl:parse_runtime_data", seeds.runtime_data),
    Target("HCL report", "regalia.formats.hcl:parse_hcl", seeds.hcl_reports),
    Target(
        "TDREPORT",
        "regalia.formats.td_report:parse_local_td_report",
        lambda m: (report[0x20:0x420] for report in seeds.hcl_reports(m)),
    ),
    Target(
        "SNP certificate table",
        "regalia.formats.snp_certs:parse_certificate_table",
        seeds.certificate_tables,
    ),
    Target(
        "Azure document",
        "regalia.formats.azure:parse_azure",
        lambda m: m.reports("az-snp-vtpm", "az-tdx-vtpm"),
    ),
    Target("SPDM report", "regalia.formats.spdm:parse_report", seeds.spdm, again="encode"),
    Target(
        "NVIDIA evidence",
        "regalia.formats.nvidia_evidence:parse_nvidia_evidence",
        seeds.nvidia_json,
        max_size=64 * 1024,
    ),
    Target(
        "RIM",
        "regalia.formats.rim:parse_rim",
        seeds.rims,
        max_size=64 * 1024,
    ),
    Target(
        "RIM XML",
        "regalia.attest.nvidia.rim.document:parse_xml",
        seeds.rim_files,
        max_size=64 * 1024,
    ),
    Target("key denials", "regalia.formats.key_denials:parse_key_denials", seeds.key_denials),
    Target("collateral bundle", "regalia.formats.collateral:parse_bundle", seeds.bundles),
    Target("deny list", "regalia.formats.deny_list:parse_deny_list", seeds.deny_lists),
    Target("PE image", "regalia.formats.pe:parse_pe", seeds.pe_images, max_size=64 * 1024),
    Target(
        "EIF signature", "regalia.formats.eif_signature:parse_eif_signature", seeds.eif_signatures
    ),
    Target("EIF image", "regalia.formats.eif:parse_eif", seeds.eif_images, max_size=64 * 1024),
    Target("OVMF image", "regalia.formats.ovmf:parse_ovmf", seeds.ovmf_images, max_size=64 * 1024),
    Target("release record", "regalia.formats.release:parse_record", seeds.records),
    Target(
        "sealed prefix",
        "regalia.formats.sealed_prefix:parse_prefix",
        seeds.prefixes,
        _WHAT,
    ),
    Target(
        "sealed index",
        "regalia.formats.sealed_index:parse_index",
        seeds.indexes,
        max_size=64 * 1024,
    ),
    Target(
        "safetensors",
        "regalia.formats.safetensors:parse_safetensors",
        seeds.tensors,
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
