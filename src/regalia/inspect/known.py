"""The forms that evidence may come in, as refusals list them and the documentation shows them."""

from __future__ import annotations

from regalia.core.errors import ParseError
from regalia.wire.evidence_codes import EvidenceCode

# In the order of the table in docs/reference/evidence-forms.md; a test compares the two.
KNOWN_FORMS = (
    "Regalia's own evidence and a runtime's answer",
    "SEV-SNP report (bare, MSG_REPORT_RSP, extended report with its certificate table)",
    "TDX or SGX quote",
    "AWS Nitro document or NSM response",
    "NVIDIA SPDM report",
    "go-tpm-tools attestation",
    "Azure HCL report, TCG event log, TDREPORT, TPMS_ATTEST (to look at)",
    "JSON of CoCo, configfs-tsm, dstack, Keylime, NVIDIA's tools and service, or any around these",
)
SPELLINGS = "each as bytes, hex, base64, PEM or a list of numbers"


_SHOWN_FROM = 256  # bytes; what is shorter may be a raw key, of which nothing is shown


def beginning(data: bytes) -> str:
    """The first bytes of what is not known, as the end of a sentence; empty for a short one.

    Args:
        data: raw, untrusted.
    """
    return f"; they begin with {data[:8].hex()}" if len(data) >= _SHOWN_FROM else ""


def unknown(what: str) -> ParseError:
    """A refusal of what is no evidence known here; it lists what is.

    Args:
        what: was found, as far as it can be told.
    """
    return ParseError(
        EvidenceCode.FORM_UNKNOWN, f"{what}. Known are: {'; '.join(KNOWN_FORMS)}; {SPELLINGS}"
    )
