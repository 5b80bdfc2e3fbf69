"""Decodes recognized evidence into plain values under the vendors' names. Verifies nothing."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.core.plain import plain, plain_fields
from regalia.inspect.recognized import Part
from regalia.tees.azure.evidence.hcl import ReportType, parse_hcl, parse_runtime_data
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.boot.evidence.log import parse_event_log
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.td_report import TD_REPORT_SIZE, parse_local_td_report
from regalia.tees.intel.evidence.wire import parse_quote, quote_size
from regalia.tees.intel.names import SgxAttributeBit, TdAttributeBit
from regalia.tees.nitro.evidence.wire import parse_nitro
from regalia.tees.nvidia.evidence.spdm import parse_report as parse_spdm
from regalia.tees.snp.evidence.wire import parse_report
from regalia.tees.snp.names import GuestPolicyBit, PlatformInfoBit
from regalia.tees.tpm.evidence.document import parse_tpm_quote
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.evidence.wire import parse_quote as parse_tpm_attest
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from enum import IntEnum

    from regalia.core.plain import Plain
    from regalia.inspect.recognized import Fragment, Recognized
    from regalia.tees.azure.evidence.hcl import HclReport
    from regalia.wire.evidence import DeviceEvidence, Evidence

Parts = dict[str, "Plain"]

_ABI_BITS = 16  # of the guest POLICY


def decoded_fields(found: Recognized) -> Parts:
    """All parts of the evidence, by name. Raises ParseError if one is malformed."""
    parts: Parts = {}
    if found.serving is not None:
        parts["serving"] = {
            "model_id": str(found.serving.model_id),
            "model_version": found.serving.model_version,
        }
    if found.evidence is not None:
        parts |= _evidence(found.evidence)
    for index, device in enumerate(found.devices):
        parts[f"device {index}"] = _device(device)
    if found.bare_quote is not None:
        parts["TPMS_ATTEST"] = plain_fields(parse_tpm_attest(found.bare_quote.quoted))
        parts["public key, bound to nothing"] = found.bare_quote.ak_spki.hex()
    if found.fragment is not None:
        parts |= _fragment(found.fragment)
    return parts


def _fragment(fragment: Fragment) -> Parts:
    match fragment.part:
        case Part.EVENT_LOG:
            return {"event log": plain_fields(parse_event_log(fragment.data))}
        case Part.TPM_ATTEST:
            return {"TPMS_ATTEST": plain_fields(parse_tpm_attest(fragment.data))}
        case Part.TD_REPORT:
            return {"TDREPORT": plain_fields(parse_local_td_report(fragment.data))}
        case Part.HCL_REPORT:
            return _hcl(parse_hcl(fragment.data))


def _hcl(hcl: HclReport) -> Parts:
    parts: Parts = {
        "HCL report": {"report_type": hcl.report_type.name},
        "runtime data": plain_fields(parse_runtime_data(hcl.runtime_data)),
    }
    if hcl.report_type is ReportType.SNP:
        return parts | _snp(hcl.hardware_report)
    report = parse_local_td_report(hcl.hardware_report[:TD_REPORT_SIZE])
    return parts | {"TDREPORT": plain_fields(report)}


def _evidence(evidence: Evidence) -> Parts:
    parts = _report(evidence.tee, evidence.report)
    if evidence.endorsements:
        parts["endorsements"] = [
            f"{len(der)} bytes, {der[:16].hex()}..." for der in evidence.endorsements
        ]
    if evidence.event_log:
        log = parse_event_log(evidence.event_log)
        parts["event log"] = plain_fields(log)
    if evidence.runtime_config:
        parts["runtime configuration"] = evidence.runtime_config.decode("utf-8", "replace")
    for index, device in enumerate(evidence.devices):
        parts[f"device {index}"] = _device(device)
    return parts


def _report(tee: Tee, report: bytes) -> Parts:
    return _READERS.get(tee, _bytes)(report)


def _bytes(report: bytes) -> Parts:
    """The report in hex, for a TEE without a reader. No release depends on readers."""
    return {"report": report.hex()}


def _nitro(report: bytes) -> Parts:
    found = parse_nitro(report)
    return {
        "COSE_Sign1": plain_fields(found.message),
        "attestation document": plain_fields(found.document),
    }


def _snp(report: bytes) -> Parts:
    parsed = parse_report(report)
    flags = parsed.policy >> _ABI_BITS << _ABI_BITS  # below them is the ABI version
    return {
        "ATTESTATION_REPORT": plain_fields(parsed),
        "bits that are set": {
            "POLICY": _names(GuestPolicyBit, flags),
            "PLATFORM_INFO": _names(PlatformInfoBit, parsed.platform_info),
        },
    }


def _names(bits: type[IntEnum], value: int) -> list[Plain]:
    """Names of the bits that are set; a bit without a name is shown by its number."""
    known = {each.value: each.name for each in bits}
    ones = (index for index in range(value.bit_length()) if value >> index & 1)
    return [known.get(index, f"bit {index}") for index in ones]


def _quote(report: bytes) -> Parts:
    """Bytes after the quote are shown too; a verifier refuses them unless they are zero."""
    size = quote_size(report)
    quote = parse_quote(report[:size])
    parts: Parts = {"quote": plain_fields(quote)}
    if isinstance(quote.body, TdReport):
        names = _names(TdAttributeBit, quote.body.td_attributes)
        parts["bits that are set"] = {"TDATTRIBUTES": names}
    else:
        names = _names(SgxAttributeBit, quote.body.attributes)
        parts["bits that are set"] = {"ATTRIBUTES": names}
    if report[size:]:
        parts["behind the quote, signed by nobody"] = report[size:].hex()
    return parts


def _tpm(report: bytes) -> Parts:
    quote = parse_tpm_quote(report)
    return {
        "TPMS_ATTEST": plain_fields(parse_tpm_attest(quote.quoted)),
        "TPMT_SIGNATURE": quote.signature.hex(),
        "TPMT_PUBLIC of the AK": plain_fields(parse_public(quote.ak_public)),
        "registers": plain(quote.pcrs),
    }


def _azure(report: bytes) -> Parts:
    document = parse_azure(report)
    hcl = parse_hcl(document.hcl_report)
    parts: Parts = {
        "HCL report": {"report_type": hcl.report_type.name},
        "runtime data": plain_fields(parse_runtime_data(hcl.runtime_data)),
        "TPMS_ATTEST": plain_fields(parse_tpm_attest(document.quoted)),
        "registers": plain(document.pcrs),
    }
    if hcl.report_type is ReportType.SNP:
        parts |= _snp(hcl.hardware_report)
    if document.td_quote:
        parts |= _quote(document.td_quote)
    return parts


_READERS: Mapping[Tee, Callable[[bytes], Parts]] = MappingProxyType(
    {
        Tee.SEV_SNP: _snp,
        Tee.TDX: _quote,
        Tee.SGX: _quote,
        Tee.NITRO: _nitro,
        Tee.TPM: _tpm,
        Tee.AZURE_SNP: _azure,
        Tee.AZURE_TDX: _azure,
    }
)


def _device(device: DeviceEvidence) -> Plain:
    return {
        "kind": device.kind.value,
        **plain_fields(parse_spdm(device.report)),
        "certificates": len(device.endorsements),
    }
