"""The numbered checks of a TDX or SGX appraisal, as trails and people name them."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source

QUOTE = Check(
    "intel/quote",
    "The quote parses to its last byte",
    "Everything reserved is zero, and nothing unsigned comes along that could carry a second name.",
    Source.VERIFIER_DERIVED,
)
PCK_CHAIN = Check(
    "intel/pck-chain",
    "The platform's certificate leads to Intel's pinned root",
    "Intel certified the key of this very platform; a key that anybody made proves nothing.",
    Source.HARDWARE_PROVEN,
)
DATES = Check(
    "intel/dates",
    "The platform's certificates are valid at that time",
    "Intel stands by a certificate for a while; an old one may be of a key that has leaked since.",
    Source.VERIFIER_DERIVED,
)
REVOCATION = Check(
    "intel/revocation",
    "Intel's revocation lists are current and name none of the certificates",
    "A platform whose keys leaked is found here, and nowhere else.",
    Source.VERIFIER_DERIVED,
)
TCB_INFO = Check(
    "intel/tcb-info",
    "Intel's TCB info for this kind of platform is at hand, signed and in date",
    "It lists the security versions of firmware and what is wrong with each of them.",
    Source.VERIFIER_DERIVED,
)
QE_IDENTITY_DOCUMENT = Check(
    "intel/qe-identity-document",
    "Intel's description of its quoting enclave is at hand, signed and in date",
    "Without it any enclave on the platform could pose as the one that quotes.",
    Source.VERIFIER_DERIVED,
)
QE_REPORT = Check(
    "intel/qe-report",
    "The platform's key signed the quoting enclave's report",
    "The enclave that made this quote ran on the certified platform.",
    Source.HARDWARE_PROVEN,
)
ATTESTATION_KEY = Check(
    "intel/attestation-key",
    "The quoting enclave vouches for the key that signed the quote",
    "Otherwise a quote could be signed by any key that somebody puts beside a good QE report.",
    Source.HARDWARE_PROVEN,
)
QE_IDENTITY = Check(
    "intel/qe-identity",
    "The quoting enclave is Intel's, in production mode",
    "Another enclave, or a debugged one, would sign whatever its host asks.",
    Source.HARDWARE_PROVEN,
)
SIGNATURE = Check(
    "intel/signature",
    "The attestation key signed header and body",
    "Not one bit of the measurements was changed on the way.",
    Source.HARDWARE_PROVEN,
)
TDX_MODULE = Check(
    "tdx/module",
    "The TDX module is one that Intel signed and lists",
    "The module is what keeps the host out of the TD.",
    Source.HARDWARE_PROVEN,
)
TCB_LEVEL = Check(
    "intel/tcb-level",
    "Intel lists the platform's security versions, and did not revoke them",
    "Old firmware has known holes; which levels are acceptable is for the policy.",
    Source.VERIFIER_DERIVED,
)
REPORT_DATA = Check(
    "intel/report-data",
    "REPORTDATA is what was asked for",
    "It binds the quote to a fresh challenge and to the keys of this very workload.",
    Source.HARDWARE_PROVEN,
)
EVENT_LOG = Check(
    "tdx/event-log",
    "The event log that came along reproduces RTMR0 to RTMR3",
    "Only then does its text say what was measured.",
    Source.HARDWARE_PROVEN,
)

# In the order in which ``verify_genuine`` makes them; the nonce comes last.
SGX_CHECKS = (
    QUOTE,
    PCK_CHAIN,
    QE_REPORT,
    ATTESTATION_KEY,
    DATES,
    TCB_INFO,
    QE_IDENTITY_DOCUMENT,
    REVOCATION,
    QE_IDENTITY,
    SIGNATURE,
    TCB_LEVEL,
    REPORT_DATA,
)
TDX_CHECKS = (*SGX_CHECKS[:-2], TDX_MODULE, TCB_LEVEL, EVENT_LOG, REPORT_DATA)
