"""Evidence in the wrappers of other projects: what their tools write, made from simulated evidence.

Each function is named for the tool. Members that those tools write and nobody needs are there too.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.snp.evidence.certificate_table import (
    ARK,
    ASK,
    VCEK,
    encode_certificate_table,
)
from regalia.tees.snp.evidence.wire import FIELDS, Product, decode_tcb, parse_report
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.wire.cbor import encode_cbor
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.wire.cbor import Cbor
    from regalia.wire.evidence import DeviceEvidence, Evidence

_ARCHITECTURES = {DeviceKind.NVIDIA_GPU: "HOPPER", DeviceKind.NVIDIA_SWITCH: "LS10"}
_SIGNATURE_HEAD = 6  # bytes of a TPMT_SIGNATURE before an RSA signature
_ORDER = (VCEK, ASK, ARK)


def b64(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def b64url(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def pem(der: bytes, label: str = "CERTIFICATE") -> str:
    """One PEM block."""
    text = b64(der)
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def as_json(document: object) -> bytes:
    """A document as tools write it, with white space."""
    return json.dumps(document, indent=2).encode()


# SEV-SNP.


def msg_report_rsp(report: bytes, *, status: int = 0, size: int = 4000) -> bytes:
    """MSG_REPORT_RSP, as ``/dev/sev-guest`` answers in its buffer."""
    return (struct.pack("<II24s", status, len(report), b"") + report).ljust(size, b"\x00")


def certificate_table(evidence: Evidence, *, in_pem: bool = False) -> bytes:
    """The table that a host hands to the guest; its certificates may be in PEM."""
    ders = evidence.endorsements
    entries = [pem(der).encode() if in_pem else der for der in ders]
    return encode_certificate_table(dict(zip(_ORDER, entries, strict=False)))


def coco_snp(evidence: Evidence, *, newer: bool = False) -> dict[str, Any]:
    """CoCo: every field of the report, as the Rust crate ``sev`` serializes it.

    Args:
        evidence: of a simulated platform before Turin, or of any with ``newer``.
        newer: the crate's names since its release 6.
    """
    report = parse_report(evidence.report)
    cpuid = report.cpuid_fam_id
    product = Product.TURIN if cpuid == 0x1A else Product.MILAN  # noqa: PLR2004 - its family
    fields: dict[str, Any] = {}
    for _, code, name in FIELDS:
        if not name:
            continue
        value = getattr(report, name)
        if name.endswith("_tcb"):
            components: dict[str, Any] = decode_tcb(value, product).components()
            components["fmc"] = components["fmc"] if product is Product.TURIN else None
            value = components
        elif code.endswith("s"):
            value = list(value)
        fields[name] = value
    fields["signature"] = {name: fields.pop(f"signature_{name}") for name in ("r", "s")}
    fields["sig_algo"] = fields.pop("signature_algo")
    fields["plat_info"] = fields.pop("platform_info")
    if newer:
        for which in ("current", "committed"):
            parts = ("major", "minor", "build")
            fields[which] = {part: fields.pop(f"{which}_{part}") for part in parts}
    else:
        fields["_author_key_en"] = fields.pop("key_info")
        fields["_reserved_0"] = 0
    names = ("VCEK", "ASK", "ARK")
    chain = [
        {"cert_type": name, "data": list(der)}
        for name, der in zip(names, evidence.endorsements, strict=False)
    ]
    return {"attestation_report": fields, "cert_chain": chain or None}


def platform_evidence(evidence: Evidence) -> dict[str, Any]:
    """``{platform, evidence}`` around a report and its VCEK."""
    inner = {
        "attestation_report": b64(evidence.report),
        "cert_chain": {"vcek": b64(evidence.endorsements[0])},
    }
    return {"platform": "snp", "evidence": inner}


def tsm_snp(evidence: Evidence, *, in_pem: bool = False) -> dict[str, Any]:
    """configfs-tsm's files of one report, base64url."""
    table = certificate_table(evidence, in_pem=in_pem)
    return {"provider": "sev_guest\n", "outblob": b64url(evidence.report), "auxblob": b64url(table)}


def thim(evidence: Evidence) -> dict[str, Any]:
    """What Azure's THIM gives for a machine."""
    leaf, *rest = evidence.endorsements
    chain = "".join(map(pem, rest))
    return {
        "vcekCert": pem(leaf),
        "tcbm": "DB18000000000004",
        "certificateChain": chain,
        "cacheControl": "86400",
    }


# Intel.


def coco_tdx(evidence: Evidence, log: bytes = b"") -> dict[str, Any]:
    """CoCo: a quote, and the CCEL if there is one."""
    return {"cc_eventlog": b64(log) if log else None, "quote": b64(evidence.report)}


def dstack(evidence: Evidence) -> dict[str, Any]:
    """What getQuote of dstack answers: its event log is no TCG log, and is written into a text."""
    event = {"imr": 3, "event_type": 134217729, "digest": "00" * 48, "event": "app-id"}
    return {
        "quote": evidence.report.hex(),
        "event_log": json.dumps([event]),
        "report_data": "00" * 64,
        "vm_config": json.dumps({"spec_version": 1, "os_image_hash": "00" * 32}),
    }


def get_quote_buffer(quote: bytes) -> bytes:
    """The buffer of TDG.VP.VMCALL<GetQuote>, as old drivers hand it on."""
    return (struct.pack("<QQII", 1, 0, 1024, len(quote)) + quote).ljust(16384, b"\x00")


# NVIDIA.


def nvidia_list(devices: Sequence[DeviceEvidence]) -> list[dict[str, Any]]:
    """A list as NVIDIA's tools write it."""
    return [
        {
            "arch": _ARCHITECTURES[device.kind],
            "evidence": b64(device.report),
            "certificate": b64("".join(map(pem, device.endorsements)).encode()),
            "nonce": "not read",
        }
        for device in devices
    ]


def nras_request(devices: Sequence[DeviceEvidence]) -> dict[str, Any]:
    """The body of a request to NVIDIA's service: one nonce and one architecture for all."""
    items = nvidia_list(devices)
    names = ("certificate", "evidence")
    return {
        "nonce": devices[0].report[4:36].hex(),
        "evidence_list": [{name: item[name] for name in names} for item in items],
        "arch": items[0]["arch"],
    }


def coco_gpu(devices: Sequence[DeviceEvidence]) -> dict[str, Any]:
    """CoCo: a list of devices."""
    return {"device_evidence_list": [{**item, "uuid": "GPU-0"} for item in nvidia_list(devices)]}


def nvattest(devices: Sequence[DeviceEvidence]) -> dict[str, Any]:
    """Objects of NVIDIA's Python verifier, as jsonpickle writes them."""

    def chain(device: DeviceEvidence) -> list[dict[str, str]]:
        return [
            {"py/object": "OpenSSL.crypto.X509", "pem": b64(pem(der).encode())}
            for der in device.endorsements
        ]

    def gpu(device: DeviceEvidence) -> dict[str, Any]:
        chains = {"GpuAttestationCertificateChain": chain(device)}
        report = {"py/b64": b64(device.report)}
        return {"Index": 0, "CertificateChains": chains, "AttestationReport": report}

    def switch(device: DeviceEvidence) -> dict[str, Any]:
        report = {"py/b64": b64(device.report)}
        return {"attestation_cert_chain": chain(device), "attestation_report": report}

    return {
        "gpus": [gpu(each) for each in devices if each.kind is DeviceKind.NVIDIA_GPU],
        "nvswitches": [switch(each) for each in devices if each.kind is DeviceKind.NVIDIA_SWITCH],
    }


# TPM, Azure and Nitro.


def coco_azure(evidence: Evidence, *, numbers: bool) -> dict[str, Any]:
    """CoCo on Azure: lists of numbers (version 0), or text (version 1).

    Args:
        evidence: of a simulated VM.
        numbers: version 0.
    """
    document = parse_azure(evidence.report)
    signature = document.signature[_SIGNATURE_HEAD:]
    bank = document.pcrs[HashAlg.SHA256]
    registers = [bank[index] for index in sorted(bank)]
    if numbers:
        quote: dict[str, Any] = {
            "signature": list(signature),
            "message": list(document.quoted),
            "pcrs": [list(value) for value in registers],
        }
        found: dict[str, Any] = {"tpm_quote": quote, "hcl_report": list(document.hcl_report)}
    else:
        quote = {
            "signature": signature.hex(),
            "message": document.quoted.hex(),
            "pcrs": [value.hex() for value in registers],
        }
        hcl = b64url(document.hcl_report)
        found = {"version": 1, "tpm_quote": quote, "hcl_report": hcl}
    if document.td_quote:
        raw = document.td_quote
        return {**found, "td_quote": list(raw) if numbers else b64url(raw)}
    if not numbers:
        return {**found, "vcek": pem(evidence.endorsements[0])}
    # The first release called the two parts otherwise where the hardware is AMD's.
    vcek = pem(evidence.endorsements[0])
    return {"quote": quote, "report": found["hcl_report"], "vcek": vcek}


def keylime_answer(quoted: bytes, signature: bytes) -> dict[str, Any]:
    """What Keylime's agent answers to a request for a quote."""
    quote = "r" + ":".join(map(b64, (quoted, signature, bytes(16))))
    results = {
        "quote": quote,
        "hash_alg": "sha256",
        "enc_alg": "rsa",
        "sign_alg": "rsassa",
        "pubkey": "-----BEGIN PUBLIC KEY-----\n",
        "boottime": 1,
    }
    return {"code": 200, "status": "Success", "results": results}


def nsm_response(document: bytes) -> bytes:
    """What the NSM's device answers to a request for a document."""
    response: dict[str, Cbor] = {"Attestation": {"document": document}}
    return encode_cbor(response)
