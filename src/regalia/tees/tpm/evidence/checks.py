"""The checks of a TPM's appraisal, as trails and explanations name them."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source

FORMAT = Check(
    "tpm/format",
    "The quote is one whole TPMS_ATTEST that a TPM made of its own registers",
    "A restricted key signs this magic number only over what the TPM itself wrote, so a quote "
    "cannot be made up outside and handed in for signing.",
    Source.VERIFIER_DERIVED,
)
SCHEME = Check(
    "tpm/scheme",
    "The quote is signed in the one scheme and hash that the attestation key is tied to",
    "An attacker who could choose the scheme would choose the weakest, such as SHA-1.",
    Source.VERIFIER_DERIVED,
)
QUOTE_SIGNATURE = Check(
    "tpm/quote-signature",
    "The attestation key signed exactly these bytes",
    "Whoever changes one bit of a quote breaks this signature.",
    Source.HARDWARE_PROVEN,
)
NONCE = Check(
    "tpm/nonce",
    "The quote was made for this challenge and these keys",
    "An old quote, or one that another machine made, carries other qualifying data.",
    Source.HARDWARE_PROVEN,
)
SELECTION = Check(
    "tpm/selection",
    "The quote covers exactly the expected registers, in a SHA-256 or SHA-384 bank",
    "A register that the quote leaves out could hold anything.",
    Source.HARDWARE_PROVEN,
)
PCR_DIGEST = Check(
    "tpm/pcr-digest",
    "The register values are the ones that the TPM hashed and signed",
    "A quote signs only a hash of the registers; their values travel beside it, unsigned.",
    Source.HARDWARE_PROVEN,
)
AK = Check(
    "tpm/ak-attributes",
    "The attestation key is restricted to quotes and cannot leave its TPM",
    "A key that also signs what somebody hands it, or that exists outside, could sign a forged "
    "quote.",
    Source.VERIFIER_DERIVED,
)
AK_BOUND = Check(
    "tpm/ak-bound",
    "Somebody trusted says that the attestation key lives in a TPM",
    "Anybody can make a key and sign with it: without this check a quote proves nothing.",
    Source.OPERATOR_ASSERTED,
)
EK_CHAIN = Check(
    "tpm/ek-chain",
    "The enrolled TPM's EK certificate leads to a trusted maker's root, today",
    "An endorsement key's certificate is the maker's word that the key is inside a TPM.",
    Source.HARDWARE_PROVEN,
)
AK_CERTIFICATE = Check(
    "tpm/ak-chain",
    "The attestation key's certificate leads to a root that is trusted for attestation keys",
    "Clouds certify the keys of their virtual TPMs; trusting one means trusting that cloud.",
    Source.HARDWARE_PROVEN,
)
RESET_COUNT = Check(
    "tpm/reset-count",
    "The TPM has been reset at least as often as when it was enrolled",
    "A count that went down is another TPM under the same name, or one that was cleared.",
    Source.HARDWARE_PROVEN,
)
EVENT_LOG = Check(
    "tpm/event-log",
    "The event log, replayed, gives the registers that the TPM signed",
    "Only then do its words about the kernel, command line and Secure Boot mean anything.",
    Source.HARDWARE_PROVEN,
)

# Of a quote by a key that is known, in the order in which they are made.
QUOTE_CHECKS = (FORMAT, SCHEME, QUOTE_SIGNATURE, SELECTION, PCR_DIGEST)
# Of a TPM: its key is vouched for by an enrolment or by a certificate. The nonce comes last.
CHECKS = (
    AK,
    FORMAT,
    SCHEME,
    QUOTE_SIGNATURE,
    AK_BOUND,
    EK_CHAIN,
    AK_CERTIFICATE,
    RESET_COUNT,
    SELECTION,
    PCR_DIGEST,
    EVENT_LOG,
    NONCE,
)
