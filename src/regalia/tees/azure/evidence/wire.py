"""``regalia/azure-cvm/v1``: what an Azure VM shows. Spec: docs/spec/azure-appraisal.md.

The document stands in ``Evidence.report``. The VCEK and its issuers are the evidence's
endorsements; the vTPM's TCG event log is its event log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import at_most, canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.azure.evidence.hcl import HCL_MAX
from regalia.tees.tpm.evidence.document import parse_pcrs, pcrs_as_text
from regalia.tees.tpm.evidence.wire import ATTEST_MAX, SIGNATURE_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.tees.tpm.evidence.layout import HashAlg

FORMAT = "regalia/azure-cvm/v1"
DOCUMENT_LIMIT = 128 * 1024  # bytes
TD_QUOTE_MAX = 32 * 1024  # bytes


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    hcl_report: bytes
    pcrs: dict[str, dict[str, str]]
    quoted: bytes
    signature: bytes
    td_quote: bytes


@dataclass(frozen=True, slots=True)
class AzureDocument:
    """Parts as received.

    Attributes:
        hcl_report: from NV index 0x01400001, with or without the zeros that follow it.
        td_quote: TDX: the quote of the TDREPORT in it; empty for SNP.
        quoted: TPMS_ATTEST of the vTPM's quote.
        signature: TPMT_SIGNATURE by the AK of the HCL report.
        pcrs: for each bank, values by register.
    """

    hcl_report: bytes
    td_quote: bytes
    quoted: bytes
    signature: bytes
    pcrs: Mapping[HashAlg, Mapping[int, bytes]]

    def encode(self) -> bytes:
        """Canonical JSON. ``parse_azure(b).encode() == b`` for every ``b`` that parses."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                hcl_report=self.hcl_report,
                pcrs=pcrs_as_text(self.pcrs),
                quoted=self.quoted,
                signature=self.signature,
                td_quote=self.td_quote,
            )
        )


def parse_azure(data: bytes) -> AzureDocument:
    """Inverse of ``AzureDocument.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=DOCUMENT_LIMIT, what="Azure evidence")
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"Azure evidence: format {wire.format[:80]!r}")
    return AzureDocument(
        hcl_report=at_most(wire.hcl_report, HCL_MAX, what="Azure evidence.hcl_report"),
        td_quote=at_most(wire.td_quote, TD_QUOTE_MAX, what="Azure evidence.td_quote"),
        quoted=at_most(wire.quoted, ATTEST_MAX, what="Azure evidence.quoted"),
        signature=at_most(wire.signature, SIGNATURE_MAX, what="Azure evidence.signature"),
        pcrs=parse_pcrs(wire.pcrs),
    )
