"""The numbered checks of the Azure verifier, beside those of the hardware's and the TPM's."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source
from regalia.tees.intel.evidence import checks as intel
from regalia.tees.snp.evidence import checks as snp
from regalia.tees.tpm.evidence import checks as tpm

DOCUMENT = Check(
    "azure/document",
    "Document and HCL report parse, and are of the kind that the envelope names",
    "Two readers that understand the same bytes differently can be played against each other.",
    Source.HARDWARE_PROVEN,
)
PARAVISOR_LEVEL = Check(
    "azure/paravisor-level",
    "The report was asked for at VMPL 0, where the paravisor alone runs",
    "A guest above could otherwise have a report made over keys that it invented.",
    Source.HARDWARE_PROVEN,
)
TD_REPORT = Check(
    "azure/td-report",
    "The quote says what the TD report in the HCL report says, field by field",
    "The paravisor's TD report and the quote must be of one and the same domain.",
    Source.HARDWARE_PROVEN,
)
RUNTIME_DATA = Check(
    "azure/runtime-data",
    "The hardware's report data is the SHA-256 of the runtime data, and nothing else",
    "It holds the vTPM's attestation key: without this anybody's key would do.",
    Source.HARDWARE_PROVEN,
)
EVENT_LOG = Check(
    "azure/event-log",
    "The event log that came along leads to the quoted registers",
    "A log is text that anybody can write; the registers say whether the boot went that way.",
    Source.HARDWARE_PROVEN,
)

# In the order in which they are made: of the hardware without its own nonce, of the paravisor's
# word, and of the vTPM, whose nonce comes last.
_VTPM_CHECKS = (RUNTIME_DATA, *tpm.QUOTE_CHECKS, EVENT_LOG, tpm.NONCE)
SNP_CHECKS = (DOCUMENT, *snp.CHECKS[:-1], PARAVISOR_LEVEL, *_VTPM_CHECKS)
TDX_CHECKS = (
    DOCUMENT,
    *(each for each in intel.TDX_CHECKS if each not in (intel.EVENT_LOG, intel.REPORT_DATA)),
    TD_REPORT,
    *_VTPM_CHECKS,
)
