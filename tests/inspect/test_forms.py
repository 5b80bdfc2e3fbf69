"""Evidence as other tools write it: one fixture for each tool, and what becomes of it.

Every form must give the evidence that it was made from, byte for byte, so that verification is
the same whatever carried it.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from regalia.inspect.decoded_fields import decoded_fields
from regalia.inspect.recognize import recognize
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.wire.evidence import Tee
from regalia_testing.tees import wrappers
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.tees.wrappers import as_json, b64, b64url, pem

if TYPE_CHECKING:
    from tests.inspect.machines import Machines


# -- what gives a CPU's evidence ----------------------------------------------------------------


def snp_forms(m: Machines) -> dict[str, bytes]:
    report, table = m.snp.report, wrappers.certificate_table(m.snp)
    return {
        "report": report,
        "MSG_REPORT_RSP in its buffer": wrappers.msg_report_rsp(report),
        "MSG_REPORT_RSP alone": wrappers.msg_report_rsp(report, size=0),
        "extended report": report + table,
        "extended report with padding": report + table + bytes(4096),
        "MSG_REPORT_RSP and a table": wrappers.msg_report_rsp(report, size=0) + table,
        "zeros behind": report + bytes(16),
        "hex": report.hex().encode(),
        "0x hex": b"0x" + report.hex().upper().encode() + b"\n",
        "hex with colons": report.hex(":").encode(),
        "hex in lines": b"\n".join(report.hex()[i : i + 77].encode() for i in range(0, 2368, 77)),
        "bytes of C": ("{" + ", ".join(f"0x{byte:02x}" for byte in report) + "};").encode()[:-1],
        "base64": base64.encodebytes(report),
        "base64url": b64url(report).encode(),
        "base64 of hex": b64(report.hex().encode()).encode(),
        "PEM": pem(report, "ATTESTATION REPORT").encode(),
        "byte order mark": b"\xef\xbb\xbf" + report.hex().encode(),
        "UTF-16": report.hex().encode("ascii").decode().encode("utf-16"),
        "list of numbers": as_json(list(report)),
        "CoCo, fields": as_json(wrappers.coco_snp(m.snp)),
        "CoCo, newer fields": as_json(wrappers.coco_snp(m.snp, newer=True)),
        "CoCo, bytes": as_json({"attestation_report": b64(report), "cert_chain": None}),
        "CoCo, bytes of text": as_json({"attestation_report": report.hex()}),
        "platform and evidence": as_json(wrappers.platform_evidence(m.snp)),
        "platform and text": as_json(
            {"platform": "snp", "evidence": b64url(as_json(wrappers.coco_snp(m.snp)))}
        ),
        "base64 of a document": b64url(as_json(wrappers.platform_evidence(m.snp))).encode(),
        "KBS request": as_json(
            {
                "tee-pubkey": {"kty": "RSA", "n": "AQAB" * 100},
                "tee-evidence": {"primary_evidence": wrappers.coco_snp(m.snp)},
            }
        ),
        "AS request": as_json(
            {"verification_requests": [{"tee": "snp", "evidence": b64url(report)}]}
        ),
        "TSM": as_json(wrappers.tsm_snp(m.snp)),
        "TSM, PEM in its table": as_json(wrappers.tsm_snp(m.snp, in_pem=True)),
        "conceptual message": as_json(["application/vnd.amd.sevsnp.report", b64url(report)]),
        "unknown document": as_json({"v": 1, "r": {"data": list(report), "type": "Buffer"}}),
    }


SNP_FORMS = (
    "report",
    "MSG_REPORT_RSP in its buffer",
    "MSG_REPORT_RSP alone",
    "extended report",
    "extended report with padding",
    "MSG_REPORT_RSP and a table",
    "zeros behind",
    "hex",
    "0x hex",
    "hex with colons",
    "hex in lines",
    "bytes of C",
    "base64",
    "base64url",
    "base64 of hex",
    "PEM",
    "byte order mark",
    "UTF-16",
    "list of numbers",
    "CoCo, fields",
    "CoCo, newer fields",
    "CoCo, bytes",
    "CoCo, bytes of text",
    "platform and evidence",
    "platform and text",
    "base64 of a document",
    "KBS request",
    "AS request",
    "TSM",
    "TSM, PEM in its table",
    "conceptual message",
    "unknown document",
)


@pytest.mark.parametrize("name", SNP_FORMS)
def test_a_report_of_sev_snp(machines: Machines, name: str) -> None:
    forms = snp_forms(machines)
    assert tuple(forms) == SNP_FORMS
    found = recognize(forms[name])
    assert found.evidence is not None
    assert (found.evidence.tee, found.evidence.report) == (Tee.SEV_SNP, machines.snp.report)
    assert "SEV-SNP report" in found.form
    assert "ATTESTATION_REPORT" in decoded_fields(found)


@pytest.mark.parametrize(
    "name",
    [
        "extended report",
        "MSG_REPORT_RSP and a table",
        "CoCo, fields",
        "KBS request",
        "TSM",
        "TSM, PEM in its table",
    ],
)
def test_certificates_beside_a_report_come_along(machines: Machines, name: str) -> None:
    found = recognize(snp_forms(machines)[name])
    assert found.evidence is not None
    assert found.evidence.endorsements == machines.snp.endorsements


def test_a_vcek_alone_beside_a_report(machines: Machines) -> None:
    found = recognize(as_json(wrappers.platform_evidence(machines.snp)))
    assert found.evidence is not None
    assert found.evidence.endorsements == machines.snp.endorsements[:1]


def test_fields_of_turin_have_another_tcb_layout(machines: Machines) -> None:
    for newer in (False, True):
        found = recognize(as_json(wrappers.coco_snp(machines.turin, newer=newer)))
        assert found.evidence is not None
        assert found.evidence.report == machines.turin.report


def test_fields_without_all_of_them(machines: Machines) -> None:
    document = wrappers.coco_snp(machines.snp)
    del document["attestation_report"]["guest_svn"]
    said = refused("EVIDENCE_INCOMPLETE", recognize, data=as_json(document))
    assert "guest_svn" in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 1 << 32),
        ("version", True),
        ("policy", "x"),
        ("measurement", [0] * 47),
        ("measurement", "zz"),
        ("chip_id", [256] * 64),
        ("reported_tcb", {"bootloader": 256}),
        ("reported_tcb", [0] * 7),
        ("signature", {"r": [0] * 73, "s": [0] * 72}),
    ],
)
def test_fields_of_another_size(machines: Machines, field: str, value: object) -> None:
    document = wrappers.coco_snp(machines.snp)
    document["attestation_report"][field] = value
    assert field in refused("MALFORMED", recognize, data=as_json(document))


def test_a_tcb_may_be_a_number_or_bytes(machines: Machines) -> None:
    document = wrappers.coco_snp(machines.snp)
    raw = machines.snp.report[0x180:0x188]
    for value in (list(raw), raw.hex(), int.from_bytes(raw, "little")):
        document["attestation_report"]["reported_tcb"] = value
        found = recognize(as_json(document))
        assert found.evidence is not None
        assert found.evidence.report == machines.snp.report


def quote_forms(m: Machines) -> dict[str, bytes]:
    quote = m.tdx.report
    return {
        "quote": quote,
        "GetQuote buffer": wrappers.get_quote_buffer(quote),
        "hex": b"0x" + quote.hex().encode(),
        "CoCo": as_json(wrappers.coco_tdx(m.tdx)),
        "CoCo with a log": as_json(wrappers.coco_tdx(m.tdx, m.ccel)),
        "dstack": as_json(wrappers.dstack(m.tdx)),
        "intel_quote": as_json({"signing_address": "0x00", "intel_quote": quote.hex()}),
        "TSM": as_json({"provider": "tdx_guest\n", "outblob": b64(quote), "auxblob": ""}),
        "numbers": as_json({"quote": list(quote)}),
        "platform": as_json({"platform": "tdx", "evidence": {"quote": b64(quote)}}),
        "deep": as_json({"a": [{"b": {"c": b64url(quote)}}]}),
    }


@pytest.mark.parametrize(
    "name",
    [
        "quote",
        "GetQuote buffer",
        "hex",
        "CoCo",
        "CoCo with a log",
        "dstack",
        "intel_quote",
        "TSM",
        "numbers",
        "platform",
        "deep",
    ],
)
def test_a_quote_of_tdx(machines: Machines, name: str) -> None:
    found = recognize(quote_forms(machines)[name])
    assert found.evidence is not None
    assert (found.evidence.tee, found.evidence.report) == (Tee.TDX, machines.tdx.report)
    assert found.evidence.event_log == (machines.ccel if name == "CoCo with a log" else b"")
    assert "quote" in decoded_fields(found)


def test_a_cloud_that_calls_the_log_otherwise(machines: Machines) -> None:
    beside = {"tdQuote": b64(machines.tdx.report), "ccelData": b64(machines.ccel)}
    found = recognize(as_json({"tdxCcel": {**beside, "ccelAcpiTable": b64(bytes(56))}}))
    assert found.evidence is not None
    assert found.evidence.report == machines.tdx.report
    assert found.evidence.event_log == machines.ccel


def test_a_request_to_azures_service(machines: Machines) -> None:
    """A report and its chain in base64, in a document in base64."""
    chain = "".join(map(pem, machines.snp.endorsements)).encode()
    inner = {"SnpReport": b64url(machines.snp.report), "VcekCertChain": b64url(chain)}
    found = recognize(as_json({"report": b64url(as_json(inner)), "nonce": "0" * 40}))
    assert found.evidence is not None
    assert found.evidence.report == machines.snp.report
    assert found.evidence.endorsements == machines.snp.endorsements


def test_a_quote_of_a_version_to_come_is_one(machines: Machines) -> None:
    """It is told by its header, and the verifier says which versions it knows."""
    found = recognize(b"\x06\x00" + machines.tdx.report[2:])
    refused("UNSUPPORTED_VERSION", decoded_fields, found=found)


def test_documents_of_nitro(machines: Machines) -> None:
    document = machines.nitro.report
    forms = {
        "": document,
        "tag": b"\xd2" + document,
        "response": wrappers.nsm_response(document),
        "response in base64": b64(wrappers.nsm_response(document)).encode(),
        "JSON": as_json({"attestation_document": b64(document)}),
        "JSON of serde": as_json({"Attestation": {"document": list(document)}}),
    }
    for name, data in forms.items():
        found = recognize(data)
        assert found.evidence is not None, name
        assert found.evidence.tee is Tee.NITRO
        assert found.evidence.report.removeprefix(b"\xd2") == document
        assert ("response of the NSM" in found.form) is name.startswith("response")


def test_an_error_of_the_nsm_is_told() -> None:
    data = b"\xa1\x65Error\x6fInvalidArgument"
    assert "InvalidArgument" in refused("EVIDENCE_INCOMPLETE", recognize, data=data)
    refused("MALFORMED", recognize, data=wrappers.nsm_response(b"")[:-1])
    refused("FORM_UNKNOWN", recognize, data=wrappers.nsm_response(b"no document"))


@pytest.mark.parametrize("numbers", [True, False])
def test_coco_on_azure(machines: Machines, *, numbers: bool) -> None:
    for evidence in (machines.azure_snp, machines.azure_tdx):
        found = recognize(as_json(wrappers.coco_azure(evidence, numbers=numbers)))
        assert found.evidence is not None
        assert found.evidence.tee is evidence.tee
        assert parse_azure(found.evidence.report) == parse_azure(evidence.report)
        assert found.evidence.endorsements == evidence.endorsements[:1]
        assert "registers" in decoded_fields(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pcrs", [[0] * 32] * 23),
        ("pcrs", [[0] * 31] * 24),
        ("pcrs", "x"),
        ("message", "?"),
        ("signature", [0] * 65536),
    ],
)
def test_ill_formed_azure(machines: Machines, name: str, value: object) -> None:
    document = wrappers.coco_azure(machines.azure_tdx, numbers=True)
    document["tpm_quote"][name] = value
    refused("MALFORMED", recognize, data=as_json(document))


# -- devices ------------------------------------------------------------------------------------


def device_forms(m: Machines) -> dict[str, bytes]:
    items = wrappers.nvidia_list(m.devices)
    lower = [{**item, "arch": item["arch"].lower()} for item in items]
    anonymous = [{name: item[name] for name in ("evidence", "certificate")} for item in items]
    bare = [
        {**item, "certificate": base64.b64decode(item["certificate"]).decode()} for item in items
    ]
    return {
        "list": as_json(items),
        "list, lower case": as_json(lower),
        "list without architectures": as_json(anonymous),
        "list with PEM": as_json(bare),
        "list in hex": as_json(
            [{**i, "evidence": d.report.hex()} for i, d in zip(items, m.devices, strict=True)]
        ),
        "CoCo": as_json(wrappers.coco_gpu(m.devices)),
        "nvattest": as_json(wrappers.nvattest(m.devices)),
        "nested": as_json({"gpu": {"evidence": items}}),
        "in a text": as_json({"additional_evidence": json.dumps({"nvidia": items})}),
    }


@pytest.mark.parametrize(
    "name",
    [
        "list",
        "list, lower case",
        "list without architectures",
        "list with PEM",
        "list in hex",
        "CoCo",
        "nvattest",
        "nested",
        "in a text",
    ],
)
def test_devices(machines: Machines, name: str) -> None:
    found = recognize(device_forms(machines)[name])
    assert found.evidence is None
    assert found.devices == machines.devices
    assert "2 device" in found.form or "2 NVIDIA devices" in found.form
    assert len(decoded_fields(found)) == 2


def test_a_request_to_nvidias_service(machines: Machines) -> None:
    gpu = machines.devices[:1]
    assert recognize(as_json(wrappers.nras_request(gpu * 2))).devices == gpu * 2
    one = wrappers.nras_request(gpu)["evidence_list"][0]
    assert recognize(as_json({**one, "nonce": "00" * 32, "arch": "HOPPER"})).devices == gpu


def test_a_cpu_and_its_devices(machines: Machines) -> None:
    payload = wrappers.nras_request(machines.devices[:1])
    document = {"intel_quote": machines.tdx.report.hex(), "nvidia_payload": json.dumps(payload)}
    found = recognize(as_json(document))
    assert found.evidence is not None
    assert found.evidence.report == machines.tdx.report
    assert found.evidence.devices == machines.devices[:1]
    assert found.form.endswith("with 1 NVIDIA device")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arch": "AMPERE", "certificate": b64(b"0\x03\x02\x01\x01")}, "certificate"),
        ({"evidence": "?"}, "neither base64 nor hex"),
        ({"certificate": "?"}, "0 certificates"),
    ],
)
def test_ill_formed_devices(machines: Machines, change: dict[str, str], said: str) -> None:
    item = wrappers.nvidia_list(machines.devices)[0] | change
    assert said in refused("MALFORMED", recognize, data=as_json([item]))


def test_a_response_without_its_request(machines: Machines) -> None:
    response = machines.devices[0].report[37:]
    assert "request" in refused("EVIDENCE_INCOMPLETE", recognize, data=response)
    refused("FORM_UNKNOWN", recognize, data=response[:2] + bytes(400))
