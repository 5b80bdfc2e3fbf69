"""A TPM as the verifier sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT
from regalia.appraisal.evidence_plugin import EvidencePlugin, machine_identity
from regalia.appraisal.unbound import NonceField, Unbound
from regalia.tees.tpm.evidence import checks
from regalia.tees.tpm.evidence.document import qualifying_data
from regalia.tees.tpm.evidence.needs import needs
from regalia.tees.tpm.evidence.vendor import TPM_MAKERS
from regalia.tees.tpm.evidence.verify import claims_of, parse, verify_genuine
from regalia.tees.tpm.evidence.wire import DATA_MAX
from regalia.wire.evidence import REPORT_DATA_SIZE, Tee

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.tpm.claims import TpmClaims
    from regalia.tees.tpm.evidence.anchors import PreparedCollateral, TpmAnchors
    from regalia.tees.tpm.evidence.document import TpmQuote
    from regalia.wire.evidence import Evidence

# Report data of zeros is nobody's choice, and its hash is as well known as itself.
NOBODYS_CHOICE = qualifying_data(bytes(REPORT_DATA_SIZE))
NONCE = NonceField(checks.NONCE, range(1, DATA_MAX + 1), (NOBODYS_CHOICE,))


def genuine(
    parsed: Parsed[Evidence, TpmQuote],
    *,
    anchors: TpmAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Unbound[TpmClaims]:
    """Every check but freshness. Raises as ``verify_genuine``."""
    found = verify_genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    claims = claims_of(parsed.raw, found)
    return Unbound(claims, claims.extra_data, NONCE, MINT)


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
    genuine=genuine,
    needs=needs,
    identities=machine_identity,
)
