"""docs/reference/formats-known.md is true: its versions are those of the parsers, its forms are
those of the recognizer, and every parser names the newest version when it meets the next.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import ParseError
from regalia.inspect import tpm_json
from regalia.inspect.json_forms import JSON_FORMS
from regalia.inspect.known import KNOWN_FORMS
from regalia.inspect.recognize import recognize
from regalia.measure.images.ovmf import METADATA_VERSIONS, parse_ovmf
from regalia.tees.azure.evidence import hcl
from regalia.tees.boot.evidence import log
from regalia.tees.intel.evidence import documents, td_report
from regalia.tees.intel.evidence import wire as intel
from regalia.tees.nitro import eif
from regalia.tees.nvidia.evidence import opaque, spdm
from regalia.tees.nvidia.evidence import wire as nvidia
from regalia.tees.snp.evidence import wire as snp
from regalia_testing.tees.nitro.eif_images import Image, eif_image, usual_sections
from regalia_testing.tees.snp.ovmf_images import Firmware, ovmf_image

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs/reference/formats-known.md"
_DATE = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}")


def rows(start: str, columns: int) -> list[tuple[str, ...]]:
    """Of the table whose first heading is ``start``."""
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index(f"| {start} |") :].split("\n\n")[0].splitlines()[2:]
    found = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in table]
    assert all(len(row) == columns for row in found)
    return found


@dataclass(frozen=True)
class Format:
    """Versions that a parser reads, and how to give it another one."""

    known: tuple[int, ...]
    parse: Callable[[int], object]


def _quote(version: int, body_type: int = 3) -> bytes:
    header = struct.pack("<HHIHH16s20s", version, 2, 0x81, 0, 0, intel.INTEL_QE_VENDOR_ID, b"")
    return header + struct.pack("<HI", body_type, 648) + bytes(4096)


def _opaque(profile: int, major: int) -> bytes:
    return opaque.MAGIC + struct.pack("<HBBBB", profile, major, 0, 0, 0)


def _old_opaque(version: int) -> object:
    report = spdm.SpdmReport(
        nonce=bytes(32),
        slot=0,
        indices=b"\x01",
        kinds=b"\x01",
        values=(bytes(48),),
        responder_nonce=bytes(32),
        opaque=((34, bytes([version])),),
        signature=bytes(96),
    )
    return nvidia.decode_opaque(report, switch=False)


def _hcl(version: int, runtime: int) -> object:
    """Sizes are checked later: those of another version may be others."""
    header = struct.pack("<4s4I12s", b"HCLA", version, 1300, 2, 0, b"")
    return hcl.parse_hcl(header + bytes(1184) + struct.pack("<5I", 20, runtime, 2, 1, 0))


def _log(number: int) -> object:
    spec_id = b"Spec ID Event%02d\0" % number + bytes(16)
    head = struct.pack("<II20sI", 0, 3, b"", len(spec_id))
    return log.parse_event_log(head + spec_id)


def _eif(version: int) -> object:
    sections = usual_sections(kernel=b"k", cmdline=b"c", ramdisks=(b"r",))
    return eif.parse_eif(eif_image(Image(sections=sections, version=version)))


FORMATS: dict[str, Format] = {
    "SNP report: VERSION": Format(
        snp.VERSIONS, lambda v: snp.parse_report(v.to_bytes(4, "little") + bytes(2000))
    ),
    "Intel quote: version": Format(intel.VERSIONS, lambda v: intel.parse_quote(_quote(v))),
    "Intel quote: body type": Format(
        tuple(intel.BodyType), lambda v: intel.parse_quote(_quote(5, v))
    ),
    "TDREPORT: version": Format(
        td_report.TD_REPORT_VERSIONS,
        lambda v: td_report.parse_local_td_report(bytes((0x81, 0, v)) + bytes(1021)),
    ),
    "TCB info: version": Format(
        (documents.TCB_INFO_VERSION,),
        lambda v: documents.parse_tcb_info(json.dumps({"version": v, "other": 1}).encode()),
    ),
    "QE identity: version": Format(
        (documents.IDENTITY_VERSION,),
        lambda v: documents.parse_identity(json.dumps({"version": v, "other": 1}).encode()),
    ),
    "SPDM report: SPDMVersion": Format(
        spdm.VERSIONS, lambda v: spdm.parse_report(bytes((v, 0xE0)) + bytes(10))
    ),
    "NVIDIA opaque data: profile": Format(
        (opaque.PROFILE,), lambda v: opaque.parse_opaque(_opaque(v, 2))
    ),
    "NVIDIA opaque data: major version": Format(
        opaque.HEADER_MAJORS, lambda v: opaque.parse_opaque(_opaque(0, v))
    ),
    "opaque data: version": Format(nvidia.OPAQUE_VERSIONS, _old_opaque),
    "HCL report: version": Format(hcl.HCL_VERSIONS, lambda v: _hcl(v, 1)),
    "HCL report: runtime data of version": Format((hcl.RUNTIME_VERSION,), lambda v: _hcl(1, v)),
    "event log: Spec ID Event": Format(log.SPEC_IDS, _log),
    "CoCo evidence of Azure: version": Format(
        tpm_json._AZURE_VERSIONS,
        lambda v: recognize(json.dumps({"version": v, "tpm_quote": {}, "hcl_report": ""}).encode()),
    ),
    "EIF: version": Format(eif.VERSIONS, _eif),
    "OVMF image: ASEV metadata version": Format(
        METADATA_VERSIONS, lambda v: parse_ovmf(ovmf_image(Firmware(sev_head=(b"ASEV", v))))
    ),
}


def test_the_page_has_every_format() -> None:
    assert [row[0] for row in rows("format and field", 4)] == list(FORMATS)


@pytest.mark.parametrize("row", rows("format and field", 4), ids=lambda row: row[0])
def test_the_page_knows_what_the_parser_knows(row: tuple[str, ...]) -> None:
    name, known, source, date = row
    assert tuple(int(version) for version in known.split(", ")) == FORMATS[name].known
    assert source
    assert _DATE.fullmatch(date)


@pytest.mark.parametrize("name", FORMATS)
def test_the_version_after_the_newest_is_named(name: str) -> None:
    """Whatever else has changed with it: the version is looked at first."""
    known = FORMATS[name].known
    with pytest.raises(ParseError) as refusal:
        FORMATS[name].parse(max(known) + 1)
    assert refusal.value.code.name == "UNSUPPORTED_VERSION"
    every = ", ".join(str(int(version)) for version in known)
    assert refusal.value.what == (
        f"{name} {max(known) + 1}; the newest known here is {int(max(known))} (known: {every})"
    )


def test_the_page_has_every_form() -> None:
    assert tuple(row[0] for row in rows("form", 2)) == KNOWN_FORMS
    documents_there = [row[0] for row in rows("JSON document", 3)]
    names = {form.name.replace(other, "quote") for form in JSON_FORMS for other in _OTHERS}
    assert set(documents_there) == {name for name in names if not name.endswith(_OTHERS)}
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{member}`" in text for form in JSON_FORMS for member in form.members - _UNUSUAL)


_OTHERS = ("intel_quote", "td_quote", "tdx_quote", "tdQuote")
# NVIDIA's verifier pickles its objects: these names are those of their attributes.
_UNUSUAL = {"AttestationReport", "CertificateChains", "attestation_cert_chain"}
