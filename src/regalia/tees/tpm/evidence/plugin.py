"""A TPM as the verifier sees it."""

from __future__ import annotations

from regalia.appraisal.evidence_plugin import EvidencePlugin, machine_identity
from regalia.tees.tpm.evidence import checks
from regalia.tees.tpm.evidence.document import qualifying_data
from regalia.tees.tpm.evidence.needs import needs
from regalia.tees.tpm.evidence.vendor import TPM_MAKERS
from regalia.tees.tpm.evidence.verify import NONCE, parse, verify_genuine
from regalia.wire.evidence import Tee

TPM = EvidencePlugin(
    kind=Tee.TPM,
    about=(
        "A TPM quote is signed by an attestation key (AK) in a TPM. Its registers (PCRs) hold"
        " digests of everything that booted. A TPM proves what booted and hides nothing: whoever"
        " runs the host of a virtual machine still reads its memory. The quote is worth something"
        " only if somebody you trust says that the AK lives in a genuine TPM."
    ),
    vendor=TPM_MAKERS,
    checks=checks.CHECKS,
    nonce=NONCE,
    nonce_of=qualifying_data,
    parse=parse,
    genuine=verify_genuine,
    needs=needs,
    identities=machine_identity,
)
