"""Parts of evidence that come alone, and what is no evidence: each gets a name of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import ParseError
from regalia.inspect.decoded_fields import decoded_fields
from regalia.inspect.json_forms import JSON_FORMS
from regalia.inspect.known import KNOWN_FORMS
from regalia.inspect.recognize import recognize
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.snp.evidence.wire import REPORT_SIZE
from regalia.tees.tpm.evidence.document import parse_tpm_quote
from regalia_testing.tees import wrappers
from regalia_testing.tees.nitro.eif_images import Image, eif_image, usual_sections
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.tees.wrappers import as_json, b64, pem

if TYPE_CHECKING:
    from tests.inspect.machines import Machines

from tests.inspect.machines import TOKEN, old_log

# -- parts that come alone ----------------------------------------------------------------------


def parts_alone(m: Machines) -> dict[str, tuple[bytes, str]]:
    azure = parse_azure(m.azure_tdx.report)
    return {
        "HCL report": (azure.hcl_report, "TDREPORT"),
        "HCL report of SNP": (parse_azure(m.azure_snp.report).hcl_report, "ATTESTATION_REPORT"),
        "TDREPORT": (azure.hcl_report[0x20 : 0x20 + 1024], "TDREPORT"),
        "TPMS_ATTEST": (azure.quoted, "TPMS_ATTEST"),
        "log": (m.ccel, "event log"),
    }


@pytest.mark.parametrize(
    "name", ["HCL report", "HCL report of SNP", "TDREPORT", "TPMS_ATTEST", "log"]
)
def test_a_part_alone_can_be_looked_at(machines: Machines, name: str) -> None:
    data, shown = parts_alone(machines)[name]
    for spelled in (data, data.hex().encode(), b64(data).encode(), as_json({"part": b64(data)})):
        found = recognize(spelled)
        assert found.evidence is None
        assert found.fragment is not None
        assert found.fragment.data == data
        assert found.subject == found.fragment.part.value
        assert shown in decoded_fields(found)
        assert "alone" in refused("EVIDENCE_INCOMPLETE", found.require_whole)


@pytest.mark.parametrize("spec_id", [b"", b"Spec ID Event00\0" + bytes(9), b"Spec ID Event02\0"])
def test_a_log_with_sha1_only_is_told_as_one(spec_id: bytes) -> None:
    found = recognize(old_log(spec_id))
    refused("EVENTLOG_SHA1_ONLY", decoded_fields, found=found)


def test_a_log_of_a_version_to_come(machines: Machines) -> None:
    data = machines.ccel.replace(b"Spec ID Event03", b"Spec ID Event04")
    said = refused("UNSUPPORTED_VERSION", decoded_fields, found=recognize(data))
    assert said == "event log: Spec ID Event 4; the newest known here is 3 (known: 3)"


@pytest.mark.parametrize("data", [bytes(64), old_log()[:-1], old_log() + b"x", b"\x18" + old_log()])
def test_bytes_that_are_no_log(data: bytes) -> None:
    refused("FORM_UNKNOWN", recognize, data=data)


def test_an_answer_of_keylime(machines: Machines) -> None:
    quote = parse_tpm_quote(machines.tpm.report)
    answer = wrappers.keylime_answer(quote.quoted, quote.signature)
    for document in (answer, answer["results"]):
        found = recognize(as_json(document))
        assert found.bare_quote is not None
        assert (found.bare_quote.quoted, found.bare_quote.ak_spki) == (quote.quoted, b"")
        assert found.bare_quote.signature == quote.signature
        assert "without its key" in found.form
        assert "TPMS_ATTEST" in decoded_fields(found)
    cut = wrappers.keylime_answer(quote.quoted[:-9], quote.signature)
    refused("MALFORMED", recognize, data=as_json(cut))  # for inspect and verify alike
    answer["results"]["quote"] = answer["results"]["quote"][:-30]
    refused("FORM_UNKNOWN", recognize, data=as_json(answer["results"] | {"quote": "r::"}))


# -- refusals -----------------------------------------------------------------------------------


def test_a_refusal_lists_the_forms() -> None:
    """And does not say to fetch the file again: another copy has the same form."""
    for data in (b"", b"no evidence", bytes(100), b"{}", b"[]", b'{"a": [1, 2]}', b"{", b"[" * 99):
        with pytest.raises(ParseError) as refusal:
            recognize(data)
        assert refusal.value.code.name == "FORM_UNKNOWN", data
        assert all(form in refusal.value.explain() for form in KNOWN_FORMS)
        assert "again" not in refusal.value.explain()


def test_endorsements_are_no_evidence(machines: Machines) -> None:
    leaf, *rest = machines.snp.endorsements
    for data in (
        leaf,
        leaf + rest[0],
        pem(leaf).encode(),
        b64(leaf).encode(),
        wrappers.certificate_table(machines.snp),
        as_json(wrappers.thim(machines.snp)),
        as_json({"chain": [pem(leaf)]}),
        b'{"tcbInfo":{},"signature":"00"}',
        b'<SoftwareIdentity name="GH100"/>',
    ):
        refused("ENDORSEMENTS_NO_EVIDENCE", recognize, data=data)


def test_tokens_in_a_document_are_no_evidence() -> None:
    data = as_json([["JWT", TOKEN], {"GPU-0": TOKEN}])
    assert "2 in all" in refused("TOKEN_NO_EVIDENCE", recognize, data=data)


def test_an_enclave_image_is_no_evidence() -> None:
    image = eif_image(Image(sections=usual_sections(kernel=b"k", cmdline=b"c", ramdisks=(b"r",))))
    assert "regalia measure" in refused("EVIDENCE_INCOMPLETE", recognize, data=image)


def test_firmware_that_made_no_report(machines: Machines) -> None:
    data = wrappers.msg_report_rsp(machines.snp.report, status=0x16)
    assert "0x16" in refused("EVIDENCE_INCOMPLETE", recognize, data=data)


def test_other_bytes_behind_a_report_are_left_to_the_verifier(machines: Machines) -> None:
    for behind in (b"x", bytes(24) + b"x", wrappers.certificate_table(machines.snp)[:-1]):
        found = recognize(machines.snp.report + behind)
        refused("TRAILING_DATA", decoded_fields, found=found)
    cut = recognize(machines.snp.report[:-1])
    refused("MALFORMED", decoded_fields, found=cut)


def test_two_machines_in_one_document(machines: Machines) -> None:
    data = as_json([b64(machines.snp.report), b64(machines.tdx.report)])
    assert "2 machines" in refused("EVIDENCE_OF_SEVERAL", recognize, data=data)


def test_documents_have_limits(machines: Machines) -> None:
    deep: object = b64(machines.snp.report)
    for _ in range(20):
        deep = {"inner": deep}
    refused("TOO_LARGE", recognize, data=as_json(deep))
    refused("TOO_LARGE", recognize, data=b"[" + b" " * (4 << 20) + b"]")
    many = wrappers.nvidia_list(machines.devices[:1] * 40)
    refused("TOO_LARGE", recognize, data=as_json({"a": many, "b": many, "c": {"q": many}}))


def test_members_that_only_look_like_a_form() -> None:
    """A row of the table that does not fit after all leaves the document to the search."""
    for names in {" ".join(sorted(form.members)) for form in JSON_FORMS}:
        data = as_json({name: {} for name in names.split()})
        with pytest.raises(ParseError) as refusal:
            recognize(data)
        assert refusal.value.code.name in {
            "FORM_UNKNOWN",
            "MALFORMED",
            "EVIDENCE_INCOMPLETE",
            "ENDORSEMENTS_NO_EVIDENCE",
        }


def test_the_size_of_a_report_is_not_enough_for_a_token() -> None:
    refused("TOKEN_NO_EVIDENCE", recognize, data=TOKEN.encode().ljust(REPORT_SIZE, b"A"))
