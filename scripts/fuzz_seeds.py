"""What the fuzzer starts from: simulated samples of everything, and real ones where there are any.

A parser whose seeds it refuses is fuzzed at its gate only (a length, a first byte, canonical JSON),
so a test holds every target to a seed that it accepts.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.core.types import Digest
from regalia.policy import ear_document as ear
from regalia.seal.format import prefix as sealed_prefix
from regalia.seal.format.index import Entry, Index
from regalia.tees.azure.evidence.hcl import parse_hcl
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.boot.evidence import uefi
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.tees.snp.evidence import certificate_table as snp_certs
from regalia.tees.tpm.evidence.document import parse_tpm_quote
from regalia.tees.tpm.evidence.enrol_steps import Credential
from regalia.verifier.collateral import parse_collateral
from regalia.wire import deny_list, release
from regalia.wire.collateral import CollateralKind
from regalia.wire.statement import log_statement
from regalia_testing.accepted_evidence import NOW
from regalia_testing.statements import Tenant
from regalia_testing.tees.boot.eventlog import SimulatedBoot
from regalia_testing.tees.boot.pe_images import uki_image
from regalia_testing.tees.intel.quotes import pem_chain
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.eif_images import (
    Image,
    eif_image,
    signature_section,
    usual_sections,
)
from regalia_testing.tees.nvidia.rim_xml import RimAuthority, swid
from regalia_testing.tees.snp.ovmf_images import Firmware, ovmf_image, tdvf_sections
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.simulator import TpmSimulator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from regalia_testing.accepted_evidence import AcceptedEvidence

_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----(.+?)-----END", re.DOTALL)


@dataclass(frozen=True)
class Material:
    """Where seeds come from.

    Attributes:
        samples: simulated evidence by name.
        vectors: the folder of real evidence, or None.
        project: this project's own test vectors.
    """

    accepted_evidence: dict[str, AcceptedEvidence]
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

    def reports(self, *tees: str) -> Iterator[bytes]:
        """Simulated reports of some kinds of TEE."""
        for accepted in self.accepted_evidence.values():
            if accepted.evidence.tee in tees:
                yield accepted.evidence.report

    def certificates(self) -> Iterator[bytes]:
        """Simulated and real, DER."""
        for accepted in self.accepted_evidence.values():
            yield from accepted.evidence.endorsements
            yield from accepted.verifier.collateral.certificates
        yield from der_blocks(self.real("roots/*", "snp/*/*.pem", "snp/*/*.der", "tpm/*.pem"))


def der_blocks(files: Iterable[bytes]) -> Iterator[bytes]:
    """What PEM files hold; other files as they are."""
    for data in files:
        blocks = _PEM.findall(data)
        yield from (base64.b64decode(block) for block in blocks) if blocks else (data,)


def anything(material: Material) -> Iterator[bytes]:
    """A little of everything that somebody may hand to ``regalia attest``."""
    yield from envelopes(material)
    for accepted in material.accepted_evidence.values():
        yield accepted.evidence.report
    yield from material.real("*/*.bin", "*/*/*.bin", "*/*.json", "nitro/*", "tpm/*.pb")


def store_versions(material: Material) -> Iterator[bytes]:
    """Documents of versions, as stores have them."""
    for file in material.own("stores/versions.json"):
        for text in json.loads(file)["accepted"].values():
            yield text.encode()


def envelopes(material: Material) -> Iterator[bytes]:
    """Whole evidence envelopes, without what makes them large: logs and all devices but one."""
    for accepted in material.accepted_evidence.values():
        evidence = accepted.evidence
        yield replace(evidence, event_log=b"", devices=evidence.devices[:1]).encode()


def pem_files(material: Material) -> Iterator[bytes]:
    """Certificates as text."""
    for accepted in material.accepted_evidence.values():
        if accepted.evidence.endorsements:
            yield pem_chain(*accepted.evidence.endorsements)
    yield from material.real("snp/*/*.pem")


def crls(material: Material) -> Iterator[bytes]:
    """Revocation lists, DER."""
    for accepted in material.accepted_evidence.values():
        yield from accepted.verifier.collateral.crls
    yield from material.real("tdx/*crl.der", "tdx/lunal-collateral/*.der")


def intel_files(material: Material) -> Iterator[bytes]:
    """JSON collateral as Intel's service answers, and as libraries exchange it."""
    for name, data in IntelSimulator.make(now=NOW).files().items():
        if name.endswith(".json"):
            yield data
    yield from material.real("tdx/*_collateral.json")


def tcb_infos(material: Material) -> Iterator[bytes]:
    """The signed documents themselves."""
    for data in intel_files(material):
        for document in collateral_of(parse_collateral({"x.json": data})).tcb_infos:
            yield document.body


def identities(material: Material) -> Iterator[bytes]:
    """Likewise, of quoting enclaves."""
    for data in intel_files(material):
        for document in collateral_of(parse_collateral({"x.json": data})).identities:
            yield document.body


def event_logs(material: Material) -> Iterator[bytes]:
    """Firmware logs, those of a size that is worth mutating."""
    yield SimulatedBoot().pcr_log().encode()
    yield SimulatedBoot().ccel().encode()
    logs = material.real("tdx/coco-CCEL*", "tpm/*eventlog*", "tpm/keylime-binary*")
    yield from (log for log in logs if len(log) <= 64 * 1024)


def uefi_variables(_: Material) -> Iterator[bytes]:
    """As firmware measures them."""
    yield uefi.UefiVariable(uefi.EFI_GLOBAL_VARIABLE, "SecureBoot", b"\x01").encode()


def tpm_quotes(material: Material) -> Iterator[bytes]:
    """TPMS_ATTEST."""
    for report in material.reports("tpm"):
        yield parse_tpm_quote(report).quoted
    yield from material.real("az/*/*.msg")


def tpm_signatures(material: Material) -> Iterator[bytes]:
    """TPMT_SIGNATURE."""
    for report in material.reports("tpm"):
        yield parse_tpm_quote(report).signature
    for report in material.reports("az-snp-vtpm"):
        yield parse_azure(report).signature


def tpm_public_areas(material: Material) -> Iterator[bytes]:
    """Of the simulated TPM's AK."""
    for report in material.reports("tpm"):
        yield parse_tpm_quote(report).ak_public


def tpm_enrolments(material: Material) -> Iterator[bytes]:
    """Of the simulated TPM."""
    for accepted in material.accepted_evidence.values():
        yield from accepted.verifier.collateral.of(CollateralKind.ENROLMENT)


def tpm_requests(_: Material) -> Iterator[bytes]:
    """What starts an enrolment."""
    yield TpmSimulator.create(TpmAuthority.create(now=NOW)).request().encode()


def tpm_challenges(_: Material) -> Iterator[bytes]:
    """What TPM2_ActivateCredential takes."""
    yield Credential(bytes(52), bytes(256)).encode()


def go_attestations(material: Material) -> Iterator[bytes]:
    """Protocol buffers of go-tpm-tools: a quote of two registers, and real ones."""
    pcrs = _field(1, 0x0B) + _field(2, _field(2, bytes(32)))
    quote = _field(1, b"quoted") + _field(2, b"signature") + _field(3, pcrs)
    yield _field(1, b"public") + _field(2, quote) + _field(3, b"log") + _field(6, b"certificate")
    yield from material.real("tpm/*.pb")


def _field(number: int, value: bytes | int) -> bytes:
    """One field of a protocol buffer, shorter than 128 bytes."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    return bytes((number << 3 | 2, len(value))) + value


def hcl_reports(material: Material) -> Iterator[bytes]:
    """Azure's, out of NV index or with the zeros that follow."""
    yield from hcl_of_azure(material)
    yield from material.real("az/snp/*hcl*.bin", "az/tdx/*hcl*.bin")


def hcl_of_azure(material: Material) -> Iterator[bytes]:
    """Simulated HCL reports."""
    for report in material.reports("az-snp-vtpm", "az-tdx-vtpm"):
        yield parse_azure(report).hcl_report


def runtime_data(material: Material) -> Iterator[bytes]:
    """JSON that Azure's hypervisor hashes into the hardware's report."""
    for report in hcl_reports(material):
        yield parse_hcl(report).runtime_data


def certificate_tables(material: Material) -> Iterator[bytes]:
    """As a hypervisor hands out AMD's certificates."""
    for accepted in material.accepted_evidence.values():
        if accepted.evidence.tee == "sev-snp" and len(accepted.evidence.endorsements) == 3:  # noqa: PLR2004 - a whole chain
            names = (snp_certs.VCEK, snp_certs.ASK, snp_certs.ARK)
            table = dict(zip(names, accepted.evidence.endorsements, strict=True))
            yield snp_certs.encode_certificate_table(table)


def spdm(material: Material) -> Iterator[bytes]:
    """Of simulated GPUs, and real ones as hex in text files."""
    for accepted in material.accepted_evidence.values():
        for device in accepted.evidence.devices[:1]:
            yield device.report
    for text in material.real("nvidia/sdk/*AttestationReport*.txt"):
        yield bytes.fromhex("".join(text.decode().split()))


def nvidia_json(material: Material) -> Iterator[bytes]:
    """As NVIDIA's tools write it."""
    for accepted in material.accepted_evidence.values():
        for device in accepted.evidence.devices[:1]:
            chain = base64.b64encode(pem_chain(*device.endorsements)).decode()
            item = {"arch": "HOPPER", "evidence": base64.b64encode(device.report).decode()}
            yield json.dumps([{**item, "certificate": chain}]).encode()
    yield from material.real("nvidia/sdk/*evidence*.json")


def rims(material: Material) -> Iterator[bytes]:
    """Reference values of the simulated GPUs."""
    for accepted in material.accepted_evidence.values():
        yield from accepted.verifier.collateral.of(CollateralKind.RIM)


def rim_files(material: Material) -> Iterator[bytes]:
    """As NVIDIA publishes them: signed XML."""
    yield RimAuthority.make(NOW).sign(swid({0: ["ab" * 48]}))
    yield from material.real("nvidia/rim/*")


def key_denials(material: Material) -> Iterator[bytes]:
    """Lists of denied device keys."""
    for accepted in material.accepted_evidence.values():
        yield from accepted.verifier.collateral.of(CollateralKind.KEY_DENIALS)


def deny_lists(_: Material) -> Iterator[bytes]:
    """One entry of each kind."""
    key = "key:" + "ab" * 32
    entries = [
        deny_list.DeniedKey(key=key, reason="leaked"),
        deny_list.DeniedSerial(issuer=key, serial="1f", reason="leaked"),
        deny_list.DeniedIdentity(identity="cd" * 64, of="sev-snp", reason="stolen"),
    ]
    yield deny_list.DenyList(entries=entries, format=deny_list.FORMAT, name="list").encode()


def bundles(material: Material) -> Iterator[bytes]:
    """Payloads of collateral bundles."""
    for envelope in material.own("collateral/bundle.json"):
        yield base64.b64decode(json.loads(envelope)["payload"])


def results(material: Material) -> Iterator[bytes]:
    """Attestation results, ours and those of others."""
    submod = ear.Submod(
        status=ear.Status.WARNING,
        vector=ear.TrustVector(hardware=2),
        policy_ids=("policy",),
        attester_claims={"debug": {"value": False, "source": "hardware_proven"}},
        verifier_claims={},
    )
    yield ear.Ear(
        profile=ear.PROFILE,
        issued_at=1,
        nonce="00" * 32,
        developer="somebody",
        build="1",
        submods={"cpu": submod},
        topology={"cpu": ()},
    ).encode()
    yield from material.real("tokens/*.json")


def records(_: Material) -> Iterator[bytes]:
    """A refusal, as the log holds it."""
    yield release.ReleaseRecord(
        format=release.RECORD_FORMAT,
        decision="denial",
        time="2026-11-22T10:00:00Z",
        broker="broker",
        model_id="model:" + "1" * 64,
        model_version=3,
        policy_id="policy:" + "2" * 64,
        policy_version=4,
        hardware="simulated",
        tee="sev-snp",
        product="Genoa",
        measurement="3" * 96,
        chip_id="4" * 128,
        devices=[],
        revocation="checked",
        evidence_digest="sha256:" + "5" * 64,
        recipient="key:" + "6" * 64,
        key_wrapping="none",
        control="",
        custody="broker",
        lease_id="",
        lease_until="",
        wildcards=["platform.snp.id_blocks"],
        reasons=[release.Reason(code="DEBUG_ENABLED", what="debug mode")],
    ).encode()


def statements(material: Material) -> Iterator[bytes]:
    """Payloads of statements of every kind."""
    for data in material.own("statements/documents.json"):
        for each in json.loads(data)["accepted"].values():
            yield each["payload"].encode()


def signed_statements(_: Material) -> Iterator[bytes]:
    """A charter with the signatures of its owners."""
    tenant = Tenant()
    tenant.found()
    yield from tenant.chain


def statement_entries(_: Material) -> Iterator[bytes]:
    """The same, as the log holds it."""
    tenant = Tenant()
    tenant.found()
    entry = log_statement(tenant.chain[0], broker="broker", time="2026-12-01T12:00:00Z")
    yield entry.encode()


def prefixes(material: Material) -> Iterator[bytes]:
    """What each sealed file begins with."""
    for data in material.own("sealed-model/sealed/*.seal"):
        yield data[: sealed_prefix.PREFIX_SIZE]


def indexes(_: Material) -> Iterator[bytes]:
    """The list of a model's files, decrypted."""
    yield Index((Entry("config.json", 0, 2, Digest.of(b"{}")),), 2).encode()


def gguf_files(_: Material) -> Iterator[bytes]:
    """A file of one value of each kind and one tensor, and one that is cut off."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def value(key: bytes, kind: int, data: bytes) -> bytes:
        return text(key) + struct.pack("<I", kind) + data

    values = [
        value(b"general.architecture", 8, text(b"llama")),
        value(b"general.alignment", 4, struct.pack("<I", 32)),
        value(b"tokens", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"b")),
        value(b"scores", 9, struct.pack("<IQ", 6, 2) + bytes(8)),
        value(b"flag", 7, b"\1"),
    ]
    tensor = text(b"w") + struct.pack("<IQQIQ", 2, 32, 2, 3, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values)) + b"".join(values) + tensor
    whole = head + bytes(-len(head) % 32) + bytes(40)
    yield from (whole, whole[:-30])


def onnx_files(_: Material) -> Iterator[bytes]:
    """A graph with an initializer of each place, a constant, and a nested graph."""
    inline = [varint_field(1, 300), varint_field(2, 1), bytes_field(8, b"w")]
    inside = b"".join([*inline, bytes_field(9, bytes(1200))])
    entry = bytes_field(1, b"location") + bytes_field(2, b"m.onnx")
    length = bytes_field(1, b"length") + bytes_field(2, b"1200")
    outside = b"".join(
        [*inline, bytes_field(13, entry), bytes_field(13, length), varint_field(14, 1)]
    )
    small = varint_field(2, 7) + bytes_field(8, b"s") + bytes_field(9, bytes(8))
    constant = bytes_field(1, bytes_field(5, bytes_field(5, small)))
    nested = bytes_field(1, bytes_field(5, bytes_field(6, constant + bytes_field(5, small))))
    declared = bytes_field(11, bytes_field(1, b"input_ids"))
    for weights in (inside, outside):
        graph = bytes_field(5, weights) + bytes_field(5, small) + constant + nested + declared
        yield varint_field(1, 8) + bytes_field(7, graph)


def varint_field(number: int, value: int) -> bytes:
    """A field of a protocol buffer that is a number below 16384."""
    low, high = value & 0x7F, value >> 7
    return bytes([number << 3]) + (bytes([low | 0x80, high]) if high else bytes([low]))


def bytes_field(number: int, value: bytes) -> bytes:
    """A field of a protocol buffer that is bytes, shorter than 16384."""
    tag = number << 3 | 2
    head = varint_field(0, tag)[1:] + varint_field(0, len(value))[1:]
    return head + value


def tensors(_: Material) -> Iterator[bytes]:
    """A safetensors file of one tensor."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    header += b" " * (-len(header) % 8)
    yield len(header).to_bytes(8, "little") + header + bytes(8)


def pe_images(_: Material) -> Iterator[bytes]:
    """A small unified kernel image."""
    yield uki_image({".linux": b"kernel", ".cmdline": b"quiet"})


def eif_images(_: Material) -> Iterator[bytes]:
    """A small enclave image."""
    sections = usual_sections(kernel=b"kernel", cmdline=b"quiet", ramdisks=(b"a", b"b"))
    yield eif_image(Image(sections=sections))


def eif_signatures(_: Material) -> Iterator[bytes]:
    """Its signature, both ways of writing it."""
    yield signature_section(b"certificate", b"signature")
    yield signature_section(b"certificate", b"signature", as_integers=False)


def ovmf_images(_: Material) -> Iterator[bytes]:
    """Small firmware images."""
    yield ovmf_image(Firmware())
    yield ovmf_image(Firmware(tdx=tdvf_sections(Firmware().size)))
