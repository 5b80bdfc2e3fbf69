"""Every parser of hostile bytes, with seeds, for scripts/fuzz.py."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import fuzz_seeds as seeds

from regalia.core.errors import ParseError, RegaliaError
from regalia_testing.models import FilesInMemory
from regalia_testing.policy_scenario import PolicyScenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fuzz_seeds import Material

    from regalia_testing.accepted_evidence import AcceptedEvidence

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
        "regalia.inspect.recognize:recognize",
        seeds.anything,
        max_size=64 * 1024,
    ),
    Target(
        "version in a store",
        "regalia.store.image:parse_image",
        seeds.store_versions,
        (("where", "fuzzed"),),
        refusals=RegaliaError,
    ),
    Target(
        "evidence envelope",
        "regalia.wire.evidence:parse_evidence",
        seeds.envelopes,
        max_size=64 * 1024,
    ),
    Target(
        "SNP report",
        "regalia.tees.snp.evidence.wire:parse_report",
        lambda m: (*m.reports("sev-snp"), *m.real("snp/*/*-report.bin")),
        again="encode",
        max_size=1200,
    ),
    Target(
        "certificate",
        "regalia.appraisal.pki.certificates:parse_certificate",
        seeds.Material.certificates,
        _WHAT,
        max_size=4096,
    ),
    Target("CRL", "regalia.appraisal.pki.crl:parse_crl", seeds.crls, max_size=4096),
    Target(
        "PEM",
        "regalia.appraisal.pki.pem:parse_pem_certificates",
        seeds.pem_files,
        (("count_max", 8), *_WHAT),
    ),
    Target(
        "collateral files",
        "regalia.verifier.collateral:parse_collateral",
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
        "regalia.policy.documents:parse_release_policy",
        lambda m: m.own("policy/release-policy.json"),
    ),
    Target(
        "client policy",
        "regalia.policy.documents:parse_client_policy",
        lambda m: m.own("policy/client-policy.json"),
    ),
    Target(
        "runtime configuration",
        "regalia.wire.runtime_config:parse_runtime_config",
        lambda _: iter([PolicyScenario().config.encode()]),
    ),
    Target("EAR", "regalia.policy.ear_document:parse_ear", seeds.results),
    Target(
        "Intel quote",
        "regalia.tees.intel.evidence.wire:parse_quote",
        lambda m: (*m.reports("tdx"), *m.reports("sgx"), *m.real("tdx/*quote*.bin")),
    ),
    Target(
        "Intel TCB info",
        "regalia.tees.intel.evidence.documents:parse_tcb_info",
        seeds.tcb_infos,
    ),
    Target(
        "Intel identity",
        "regalia.tees.intel.evidence.documents:parse_identity",
        seeds.identities,
    ),
    Target(
        "Intel collateral",
        "regalia.tees.intel.evidence.collateral:parse_json_collateral",
        seeds.intel_files,
        _WHAT,
        max_size=64 * 1024,
    ),
    Target(
        "CBOR",
        "regalia.wire.cbor:decode_cbor",
        lambda m: (*m.reports("aws-nitro"), *m.real("nitro/*.cbor")),
        _LIMITED,
    ),
    Target(
        "COSE_Sign1",
        "regalia.wire.cose:parse_sign1",
        lambda m: (*m.reports("aws-nitro"), *m.real("nitro/*.cbor")),
        _LIMITED,
    ),
    Target(
        "Nitro document",
        "regalia.tees.nitro.evidence.wire:parse_nitro",
        lambda m: (*m.reports("aws-nitro"), *m.real("nitro/*.cbor")),
    ),
    Target("TPM quote", "regalia.tees.tpm.evidence.wire:parse_quote", seeds.tpm_quotes),
    Target("TPM signature", "regalia.tees.tpm.evidence.wire:parse_signature", seeds.tpm_signatures),
    Target(
        "TPM public area", "regalia.tees.tpm.evidence.public:parse_public", seeds.tpm_public_areas
    ),
    Target(
        "TPM document",
        "regalia.tees.tpm.evidence.document:parse_tpm_quote",
        lambda m: m.reports("tpm"),
    ),
    Target(
        "TPM enrolment request",
        "regalia.tees.tpm.evidence.enrol_steps:parse_request",
        seeds.tpm_requests,
    ),
    Target(
        "TPM enrolment challenge",
        "regalia.tees.tpm.evidence.enrol_steps:parse_challenge",
        seeds.tpm_challenges,
    ),
    Target(
        "go-tpm-tools attestation",
        "regalia.tees.tpm.evidence.go_tpm_tools:parse_go_attestation",
        seeds.go_attestations,
        max_size=64 * 1024,
    ),
    Target(
        "TPM enrolment", "regalia.tees.tpm.evidence.enrolment:parse_enrolment", seeds.tpm_enrolments
    ),
    Target(
        "event log",
        "regalia.tees.boot.evidence.log:parse_event_log",
        seeds.event_logs,
        again="encode",
        max_size=64 * 1024,
    ),
    Target("UEFI variable", "regalia.tees.boot.evidence.uefi:parse_variable", seeds.uefi_variables),
    Target(
        "HCL runtime data", "regalia.tees.azure.evidence.hcl:parse_runtime_data", seeds.runtime_data
    ),
    Target("HCL report", "regalia.tees.azure.evidence.hcl:parse_hcl", seeds.hcl_reports),
    Target(
        "TDREPORT",
        "regalia.tees.intel.evidence.td_report:parse_local_td_report",
        lambda m: (report[0x20:0x420] for report in seeds.hcl_reports(m)),
    ),
    Target(
        "SNP certificate table",
        "regalia.tees.snp.evidence.certificate_table:parse_certificate_table",
        seeds.certificate_tables,
    ),
    Target(
        "Azure document",
        "regalia.tees.azure.evidence.wire:parse_azure",
        lambda m: m.reports("az-snp-vtpm", "az-tdx-vtpm"),
    ),
    Target(
        "SPDM report", "regalia.tees.nvidia.evidence.spdm:parse_report", seeds.spdm, again="encode"
    ),
    Target(
        "NVIDIA evidence",
        "regalia.tees.nvidia.evidence.nvtrust:parse_nvidia_evidence",
        seeds.nvidia_json,
        max_size=64 * 1024,
    ),
    Target(
        "RIM",
        "regalia.tees.nvidia.evidence.rims:parse_rim",
        seeds.rims,
        max_size=64 * 1024,
    ),
    Target(
        "RIM XML",
        "regalia.tees.nvidia.evidence.rim_xml.document:parse_xml",
        seeds.rim_files,
        max_size=64 * 1024,
    ),
    Target(
        "key denials",
        "regalia.tees.nvidia.evidence.key_denials:parse_key_denials",
        seeds.key_denials,
    ),
    Target("collateral bundle", "regalia.wire.collateral:parse_bundle", seeds.bundles),
    Target("deny list", "regalia.wire.deny_list:parse_deny_list", seeds.deny_lists),
    Target("PE image", "regalia.measure.images.pe:parse_pe", seeds.pe_images, max_size=64 * 1024),
    Target(
        "EIF signature",
        "regalia.tees.nitro.eif_signature:parse_eif_signature",
        seeds.eif_signatures,
    ),
    Target("EIF image", "regalia.tees.nitro.eif:parse_eif", seeds.eif_images, max_size=64 * 1024),
    Target(
        "OVMF image",
        "regalia.measure.images.ovmf:parse_ovmf",
        seeds.ovmf_images,
        max_size=64 * 1024,
    ),
    Target("release record", "regalia.wire.release:parse_record", seeds.records),
    Target("statement", "regalia.wire.statement:parse_statement", seeds.statements, again="encode"),
    Target(
        "signed statement",
        "regalia.control.verify:read_unverified",
        seeds.signed_statements,
        refusals=RegaliaError,
    ),
    Target(
        "log statement",
        "regalia.wire.statement:parse_log_statement",
        seeds.statement_entries,
        again="encode",
    ),
    Target(
        "sealed prefix",
        "regalia.seal.format.prefix:parse_prefix",
        seeds.prefixes,
        _WHAT,
    ),
    Target(
        "sealed index",
        "regalia.seal.format.index:parse_index",
        seeds.indexes,
        max_size=64 * 1024,
    ),
    Target(
        "safetensors",
        "regalia.engines.safetensors:parse_safetensors",
        seeds.tensors,
        _WHAT,
        refusals=RegaliaError,  # quantized weights and Git LFS pointers are refused by name
        wrap=memoryview,
    ),
    Target(
        "GGUF head",
        "regalia.engines.llama_cpp.gguf:parse_gguf",
        seeds.gguf_files,
        _WHAT,
        refusals=RegaliaError,  # unknown types and files that are cut off are refused by name
        wrap=memoryview,
    ),
    Target(
        "ONNX file",
        "regalia.engines.onnx.graph:separate",
        seeds.onnx_files,
        (("path", "m.onnx"),),
        refusals=RegaliaError,  # what cannot stay in place is refused by name
        wrap=lambda data: FilesInMemory({"m.onnx": data}),
    ),
)


def verifiers(material: Material) -> dict[Target, Callable[[bytes], None]]:
    """For each sample, the whole verifier with other bytes in place of its report."""
    found = {}
    for name, accepted in material.accepted_evidence.items():
        target = Target(
            f"verify {name}", "", lambda _, report=accepted.evidence.report: iter([report])
        )
        found[target] = verifier_of(accepted)
    return found


def verifier_of(accepted: AcceptedEvidence) -> Callable[[bytes], None]:
    """Verify a report in place of the sample's; refusals of any kind are right."""

    def once(data: bytes) -> None:
        with suppress(RegaliaError):
            accepted.verify(replace(accepted.evidence, report=data))

    return once
