"""No altered byte of what is signed or hashed is accepted, whatever part it stands in."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.tees.azure.evidence.hcl import (
    HclReport,
    ReportType,
    encode_hcl,
    parse_hcl,
    parse_runtime_data,
)
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.intel.evidence.td_report import (
    TD_REPORT_SIZE,
    LocalTdReport,
    encode_local_td_report,
    parse_local_td_report,
)
from regalia_testing.mutation import dropped, every_flip, none_accepted, reordered
from regalia_testing.tees.azure.testbed import altered_document

if TYPE_CHECKING:
    from regalia_testing.tees.azure.testbed import AzureTestbed

# Of a TDREPORT only these are out of a remote verifier's reach: CPUSVN, and the MAC that is for
# the quoting enclave; then what the quote does not repeat of TEE_TCB_INFO, held by its digest,
# which the MAC alone covers.
UNSEEN_IN_TD_REPORT = (*range(16, 32), *range(224, 256))
SAMPLE = 400  # bytes of each long part; all of them take minutes


def sample(mutants: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return random.Random(7).sample(mutants, min(SAMPLE, len(mutants)))  # noqa: S311 - a sample


def test_hcl_report_of_snp(azure_snp: AzureTestbed) -> None:
    evidence = azure_snp.evidence(padding=32)
    raw = parse_azure(evidence.report).hcl_report

    def verify(hcl: bytes) -> object:
        return azure_snp.verify(altered_document(evidence, hcl_report=hcl))

    verify(raw)
    codes = none_accepted(verify, sample(list(every_flip(raw))))
    assert {"SIGNATURE_INVALID", "RUNTIME_DATA_UNBOUND"} <= codes
    none_accepted(verify, every_flip(raw, end=32))
    none_accepted(verify, every_flip(raw, start=0x4C0, end=0x4D4))


def test_hcl_report_of_tdx(azure_tdx: AzureTestbed) -> None:
    evidence = azure_tdx.evidence()
    raw = parse_azure(evidence.report).hcl_report

    def verify(hcl: bytes) -> object:
        return azure_tdx.verify(altered_document(evidence, hcl_report=hcl))

    verify(raw)
    unseen = {32 + at for at in UNSEEN_IN_TD_REPORT}
    flips = [flip for at, flip in enumerate(every_flip(raw)) if at not in unseen]
    codes = none_accepted(verify, sample(flips))
    assert {"MALFORMED", "RUNTIME_DATA_UNBOUND"} <= codes


def test_td_quote(azure_tdx: AzureTestbed) -> None:
    evidence = azure_tdx.evidence()
    raw = parse_azure(evidence.report).td_quote

    def verify(quote: bytes) -> object:
        return azure_tdx.verify(altered_document(evidence, td_quote=quote))

    verify(raw)
    none_accepted(verify, sample(list(every_flip(raw, end=700))))


def test_vtpm_quote(azure_snp: AzureTestbed) -> None:
    evidence = azure_snp.evidence()
    document = parse_azure(evidence.report)
    none_accepted(
        lambda raw: azure_snp.verify(altered_document(evidence, quoted=raw)),
        every_flip(document.quoted),
    )
    none_accepted(
        lambda raw: azure_snp.verify(altered_document(evidence, signature=raw)),
        every_flip(document.signature),
    )


def test_registers(azure_snp: AzureTestbed) -> None:
    evidence = azure_snp.evidence(no_event_log=True)
    ((alg, bank),) = parse_azure(evidence.report).pcrs.items()

    def verify(values: tuple[tuple[int, bytes], ...]) -> object:
        return azure_snp.verify(altered_document(evidence, pcrs={alg: dict(values)}))

    items = tuple(bank.items())
    verify(items)
    none_accepted(verify, dropped(items))
    values = tuple(bank.values())
    none_accepted(lambda swapped: verify(tuple(zip(bank, swapped, strict=True))), reordered(values))
    empty = altered_document(evidence, pcrs={})
    none_accepted(azure_snp.verify, [("no bank", empty)])


def test_endorsements(azure_snp: AzureTestbed) -> None:
    """The chain is the hardware's; its own tests drop and alter each certificate."""
    evidence = azure_snp.evidence()
    leafless = replace(evidence, endorsements=evidence.endorsements[1:])
    none_accepted(azure_snp.verify, [("no leaf", leafless)])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000))
def test_noise(azure_snp: AzureTestbed, noise: bytes) -> None:
    for parse in (parse_azure, parse_hcl, parse_runtime_data, parse_local_td_report):
        with pytest.raises(ParseError):
            parse(noise)
    with pytest.raises(ParseError):
        azure_snp.verify(replace(azure_snp.evidence(), report=noise))


# Codecs.


def test_documents_have_one_encoding(azure_snp: AzureTestbed) -> None:
    raw = azure_snp.evidence().report
    assert parse_azure(raw).encode() == raw
    for broken in (raw + b" ", raw.replace(b"azure-cvm/v1", b"azure-cvm/v2"), b"{}", b""):
        with pytest.raises(ParseError):
            parse_azure(broken)


@given(
    st.sampled_from(ReportType),
    st.binary(min_size=1184, max_size=1184),
    st.binary(max_size=200),
    st.sampled_from([1, 2]),
    st.integers(0, 300),
)
def test_hcl_reports_come_back(
    kind: ReportType, hardware: bytes, data: bytes, version: int, padding: int
) -> None:
    report = HclReport(kind, hardware, data)
    encoded = encode_hcl(report, version=version)
    assert parse_hcl(encoded + bytes(padding)) == report
    for size in (0, 31, 1215, len(encoded) - 1):
        with pytest.raises(ParseError):
            parse_hcl(encoded[:size])


@given(st.data())
def test_td_reports_come_back(data: st.DataObject) -> None:
    sizes = {"tee_tcb_svn": 16, "seam_attributes": 8, "report_data": 64}
    values: dict[str, object] = {}
    for name in LocalTdReport.__dataclass_fields__:
        if name in {"td_attributes", "xfam"}:
            values[name] = data.draw(st.integers(0, (1 << 64) - 1))
        else:
            size = sizes.get(name, 48)
            values[name] = data.draw(st.binary(min_size=size, max_size=size))
    report = LocalTdReport(**values)  # type: ignore[arg-type] # of the right sizes
    encoded = encode_local_td_report(report)
    assert len(encoded) == TD_REPORT_SIZE
    assert parse_local_td_report(encoded) == report


def test_every_byte_of_a_td_report() -> None:
    """Parsing alone refuses all but what is meant to vary: each digest holds its part."""
    zeros = dict.fromkeys(LocalTdReport.__dataclass_fields__, bytes(48))
    report = LocalTdReport(
        **{  # type: ignore[arg-type] # of the right sizes
            **zeros,
            "tee_tcb_svn": bytes(16),
            "seam_attributes": bytes(8),
            "report_data": bytes(64),
            "td_attributes": 0,
            "xfam": 3,
        }
    )
    raw = encode_local_td_report(report)
    free = {*UNSEEN_IN_TD_REPORT, *range(128, 192), 2}  # REPORTDATA, VERSION
    none_accepted(
        parse_local_td_report, [f for at, f in enumerate(every_flip(raw)) if at not in free]
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys":[],"vm-configuration":{}}',
        b'{"keys":[],"keys":[],"vm-configuration":{"console-enabled":true}}',
        (
            b'{"keys":[{"kid":1}],"vm-configuration":{"console-enabled":true,"secure-boot":true,'
            b'"tpm-enabled":true,"vmUniqueId":"A"}}'
        ),
        (
            b'{"keys":[],"vm-configuration":{"console-enabled":1,"secure-boot":true,'
            b'"tpm-enabled":true,"vmUniqueId":"A"}}'
        ),
        (
            b'{"keys":[],"vm-configuration":{"console-enabled":true,"secure-boot":true,'
            b'"tpm-enabled":true,"vmUniqueId":""}}'
        ),
        (
            b'{"keys":[],"more":1.5,"vm-configuration":{"console-enabled":true,"secure-boot":true,'
            b'"tpm-enabled":true,"vmUniqueId":"A"}}'
        ),
        (
            b'{"keys":[],"more":NaN,"vm-configuration":{"console-enabled":true,"secure-boot":true,'
            b'"tpm-enabled":true,"vmUniqueId":"A"}}'
        ),
        b"\xff",
        b"[" * 5000,
        b" " * 9000,
    ],
)
def test_runtime_data(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_runtime_data(data)
