"""What people give by mistake is named, and what lacks is named: nobody is told to fetch again."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import ParseError
from regalia.inspect.recognize import recognize
from regalia_testing.tees import wrappers
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.tees.wrappers import as_json, b64, pem

if TYPE_CHECKING:
    from tests.inspect.machines import Machines

KEY = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END PRIVATE KEY-----\n"
NAMED: dict[bytes, str] = {
    b"": "an empty file",
    b" \n": "empty",
    b'{"a": 1': "cannot be read as JSON: it ends too early, in line 1, after byte 7",
    b'{"a": 1,\n}': "cannot be read as JSON: line 2, byte 9",
    b"{'a': 1}": "cannot be read as JSON: line 1, byte 1",
    b'{"a": 1}\n{"a": 2}\n': "cannot be read as JSON: line 2, byte 10",
    gzip.compress(b"evidence", mtime=0): "(gzip): unpack it",
    b"PK\x03\x04" + bytes(40): "(zip): unpack it",
    b"name".ljust(257, b"\x00") + b"ustar\x00" + bytes(250): "(tar): unpack it",
    b"<!DOCTYPE html>\n<html><body>502</body></html>": "a web page",
    b"<HTML>": "a web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n": "git lfs pull",
    KEY: "a private key",
    KEY.replace(b"PRIVATE", b"PUBLIC"): "a public key",
    b"00000000: 0300 0000 0000 0000 1f00 0300 0000 0000  ................\n"
    b"00000010: 0000 0000 0000 0000 0000 0000 0000 0000  ................\n": "hex dump",
    b"00000000  03 00 00 00 00 00 00 00  1f 00 03 00 00 00 00 00  |........|\n"
    b"00000010\n": "hex dump",
    b"0000000 000003 000000 000000 000000\n0000010\n": "hex dump",
    b'{"code":"NO_EVIDENCE","what":"w","why":"y","fix":"f","reasons":[],"log":null}': (
        "a saved refusal (NO_EVIDENCE)"
    ),
    b'{"error":{"code":"NO_EVIDENCE","what":"w","why":"y","fix":"f"}}': "a saved refusal",
}


@pytest.mark.parametrize("data", NAMED)
def test_a_file_that_is_no_evidence_is_named(data: bytes) -> None:
    with pytest.raises(ParseError) as refusal:
        recognize(data)
    assert refusal.value.code.name == "FORM_UNKNOWN"
    assert NAMED[data] in refusal.value.what
    assert "c2VjcmV0" not in refusal.value.explain()
    assert "again" not in refusal.value.explain()


# -- certificates within something else ---------------------------------------------------------


def test_a_quote_that_is_not_whole_is_no_endorsement(machines: Machines) -> None:
    """Its certificates are not what the file is for."""
    quote = machines.tdx.report
    assert b"-----BEGIN CERTIFICATE" in quote
    header = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n"
    for data in (quote[11:], header + quote, quote[11:].hex().encode(), b64(quote[11:]).encode()):
        said = refused("FORM_UNKNOWN", recognize, data=data)
        assert "certificates or revocation lists in PEM stand in it" in said
        assert "the rest is not known" in said


def test_certificates_with_remarks_are_endorsements(machines: Machines) -> None:
    data = b"subject=CN = ARK-Milan\n\n" + pem(machines.snp.endorsements[0]).encode()
    refused("ENDORSEMENTS_NO_EVIDENCE", recognize, data=data)


def test_certificates_beside_a_report_that_cannot_be_read(machines: Machines) -> None:
    tsm = wrappers.tsm_snp(machines.snp, in_pem=True)
    cut = tsm | {"outblob": tsm["outblob"][:400]}
    said = refused("FORM_UNKNOWN", recognize, data=as_json(cut))
    assert "outblob holds 300 bytes" in said
    assert "certificates stand at auxblob" in said
    coco = {"attestation_report": None, "cert_chain": pem(machines.snp.endorsements[0])}
    for nothing, word in ((None, "null"), ("", "empty")):
        document = {"evidence": coco | {"attestation_report": nothing}}
        said = refused("EVIDENCE_INCOMPLETE", recognize, data=as_json(document))
        assert f"attestation_report is {word}" in said
        assert "evidence.cert_chain" in said


def test_certificates_in_somebodys_document(machines: Machines) -> None:
    chain = pem(machines.snp.endorsements[0])
    document = {"chain": chain, "report": "that somebody cut short, and more of it"}
    said = refused("FORM_UNKNOWN", recognize, data=as_json(document))
    assert "certificates stand at chain, and the rest is not known" in said
    document = {"quote?": b64(machines.tdx.report[11:])}
    refused("FORM_UNKNOWN", recognize, data=as_json(document))


def test_a_private_key_in_a_document_is_no_certificate() -> None:
    said = refused("FORM_UNKNOWN", recognize, data=as_json({"key": KEY.decode()}))
    assert "certificates stand" not in said


def test_bytes_that_begin_like_json_are_not_called_json() -> None:
    said = refused("FORM_UNKNOWN", recognize, data=b"[\x01\xff" + bytes(100))
    assert "103 bytes that are no evidence" in said


# -- members that lack --------------------------------------------------------------------------


def lacking(m: Machines) -> dict[str, tuple[Any, str]]:
    az = wrappers.coco_azure(m.azure_tdx, numbers=False)
    quote = az["tpm_quote"]
    gpu = wrappers.nvidia_list(m.devices[:1])[0]
    bare = {name: value for name, value in gpu.items() if name != "certificate"}
    unsigned = {name: value for name, value in quote.items() if name != "signature"}
    tdx = wrappers.coco_azure(m.azure_tdx, numbers=False)
    alone = {"td_quote": tdx["td_quote"], "tpm_quote": tdx["tpm_quote"]}
    return {
        "hcl_report": (az | {"hcl_report": None}, "hcl_report is null"),
        "tpm_quote": ({"tpm_quote": None, "hcl_report": None}, "tpm_quote is null"),
        "tpm_quote of a TD": (tdx | {"tpm_quote": None}, "of an Azure guest: tpm_quote is null"),
        "hcl_report of a TD": (alone, "of an Azure guest: hcl_report is missing"),
        "tpm_quote as a list": (tdx | {"tpm_quote": [tdx["tpm_quote"]]}, "no object of message"),
        "td_quote elsewhere": (
            {"tpm_quote": tdx["tpm_quote"], "cc": {"td_quote": tdx["td_quote"]}},
            "do not stand together: tpm_quote",
        ),
        "vTPM elsewhere": (
            {"td_quote": tdx["td_quote"], "vtpm": {n: tdx[n] for n in ("tpm_quote", "hcl_report")}},
            "do not stand together: Azure confidential VM",
        ),
        "other names": (
            {"tdQuote": tdx["td_quote"], "tpmQuote": tdx["tpm_quote"]},
            "do not stand together: tpmQuote",
        ),
        "an SNP report": (
            wrappers.coco_snp(m.snp) | {"hcl_report": az["hcl_report"]},
            "do not stand together: hcl_report",
        ),
        "signature": (az | {"tpm_quote": unsigned}, "signature is missing"),
        "pcrs": (az | {"tpm_quote": quote | {"pcrs": None}}, "pcrs is null"),
        "outblob": ({"outblob": None, "auxblob": ""}, "outblob is null"),
        "certificate": (gpu | {"certificate": None}, "certificate is null"),
        "certificate of a list": ([gpu, gpu | {"certificate": ""}], "[1].certificate is empty"),
        "certificate missing": ({"evidence_list": [bare]}, "evidence_list[0].certificate is miss"),
        "evidence": (gpu | {"evidence": None}, "evidence is null"),
        "evidence_list": ({"evidence_list": [], "arch": "HOPPER"}, "evidence_list is empty"),
        "devices": ({"device_evidence_list": None}, "device_evidence_list is null"),
        "gpus": ({"gpus": [], "nvswitches": []}, "gpus is empty"),
        "quote": ({"quote": None, "cc_eventlog": None}, "quote is null"),
    }


LACKING = (
    "hcl_report",
    "tpm_quote",
    "tpm_quote of a TD",
    "hcl_report of a TD",
    "tpm_quote as a list",
    "td_quote elsewhere",
    "vTPM elsewhere",
    "other names",
    "an SNP report",
    "signature",
    "pcrs",
    "outblob",
    "certificate",
    "certificate of a list",
    "certificate missing",
    "evidence",
    "evidence_list",
    "devices",
    "gpus",
    "quote",
)


@pytest.mark.parametrize("name", LACKING)
def test_what_lacks_is_named(machines: Machines, name: str) -> None:
    cases = lacking(machines)
    assert tuple(cases) == LACKING
    document, said = cases[name]
    code = "MALFORMED" if said == "no object of message" else "EVIDENCE_INCOMPLETE"
    assert said in refused(code, recognize, data=as_json(document))


def test_an_empty_list_beside_another_is_nothing(machines: Machines) -> None:
    document = wrappers.nvattest(machines.devices[:1])
    assert document["nvswitches"] == []
    assert recognize(as_json(document)).devices == machines.devices[:1]


def test_what_stands_beside_a_report_is_read_or_refused(machines: Machines) -> None:
    """Else a broken table is a chain that lacks, and a driver's name means nothing."""
    tsm = wrappers.tsm_snp(machines.snp)
    for broken, said in (("?", "auxblob is neither"), ("00" * 5 + "ff", "auxblob holds no cert")):
        document = tsm | {"auxblob": broken}
        assert said in refused("MALFORMED", recognize, data=as_json(document))
    for nothing in (None, ""):
        found = recognize(as_json(tsm | {"auxblob": nothing}))
        assert found.evidence is not None
        assert not found.evidence.endorsements
    said = refused("MALFORMED", recognize, data=as_json(tsm | {"provider": "tdx_guest\n"}))
    assert "provider says tdx, and outblob holds a SEV-SNP report" in said
    for known in ("sev_guest\n", "another_guest", None, 7):
        assert recognize(as_json(tsm | {"provider": known})).evidence is not None


def test_an_outblob_that_is_no_bytes_is_not_fetched_again(machines: Machines) -> None:
    tsm = wrappers.tsm_snp(machines.snp) | {"outblob": "?"}
    said = refused("FORM_UNKNOWN", recognize, data=as_json(tsm))
    assert "configfs-tsm: outblob is neither hex, nor base64" in said


def test_versions_of_azures_documents(machines: Machines) -> None:
    document = wrappers.coco_azure(machines.azure_snp, numbers=False)
    for version in (0, 1, "2", None):
        assert recognize(as_json(document | {"version": version})).evidence is not None
    for version in (3, "9"):
        said = refused(
            "UNSUPPORTED_VERSION", recognize, data=as_json(document | {"version": version})
        )
        assert f"CoCo evidence of Azure: version {version}; the newest known here is 2" in said
    for version in (True, "1.0", "", [1], 1.5, -1):
        refused("MALFORMED", recognize, data=as_json(document | {"version": version}))


@pytest.mark.parametrize("size", [32, 64, 255])
def test_no_byte_of_a_short_unknown_file_is_shown(size: int) -> None:
    """It may be a raw key."""
    key = bytes(range(0x90, 0x90 + 32)) * 8
    said = refused("FORM_UNKNOWN", recognize, data=key[:size])
    assert f"{size} bytes that are no evidence" in said
    assert "9091" not in said


# -- other forms --------------------------------------------------------------------------------


def test_devices_as_nvidias_python_tools_write_them(machines: Machines) -> None:
    items = [
        {
            "attestationReportHexStr": device.report.hex(),
            "certChainBase64Encoded": b64("".join(map(pem, device.endorsements)).encode()),
        }
        for device in machines.devices
    ]
    assert recognize(as_json(items)).devices == machines.devices
    assert recognize(as_json(items[0])).devices == machines.devices[:1]


def test_a_document_in_a_text(machines: Machines) -> None:
    inner = as_json(wrappers.coco_tdx(machines.tdx)).decode()
    found = recognize(json.dumps(inner).encode())
    assert found.evidence is not None
    assert found.evidence.report == machines.tdx.report


@pytest.mark.parametrize("where", ["", "inner", "text"])
def test_a_member_that_stands_twice(machines: Machines, where: str) -> None:
    """One reader takes the first of two quotes, and another one the last."""
    quote = machines.tdx.report.hex()
    twice = f'{{"quote": "{quote}", "quote": "{quote}"}}'
    documents = {
        "": twice,
        "inner": f'{{"a": [{twice}]}}',
        "text": json.dumps({"a": base64.b64encode(twice.encode()).decode()}),
    }
    said = refused("MALFORMED", recognize, data=documents[where].encode())
    assert "'quote' stands twice" in said
