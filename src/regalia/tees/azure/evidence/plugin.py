"""Azure's confidential VMs, on SEV-SNP and on TDX, as the verifier sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT
from regalia.appraisal.evidence_plugin import EvidencePlugin, known_late
from regalia.tees.azure.evidence.checks import SNP_CHECKS, TDX_CHECKS
from regalia.tees.azure.evidence.needs import needs_snp, needs_tdx
from regalia.tees.azure.evidence.verify import (
    parse_snp,
    parse_tdx,
    verify_genuine_snp,
    verify_genuine_tdx,
)
from regalia.tees.intel.evidence.vendor import INTEL
from regalia.tees.snp.evidence.vendor import AMD
from regalia.tees.tpm.evidence.document import qualifying_data
from regalia.tees.tpm.evidence.verify import NONCE
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims


def _identities(
    claims: AzureSnpClaims | AzureTdxClaims, processor: Tee
) -> tuple[tuple[str, bytes], ...]:
    """The processor is the same, whatever stands above it."""
    return ((claims.tee.value, claims.instance), (processor.value, claims.instance))


AZURE_SNP = EvidencePlugin(
    kind=Tee.AZURE_SNP,
    about=(
        "An Azure confidential VM has two parts: an SEV-SNP report, made at boot, about"
        " Microsoft's paravisor; and a quote, made now, by the virtual TPM that the paravisor runs."
        " The report vouches for the TPM's key, the TPM for what booted above."
    ),
    vendor=AMD,
    checks=SNP_CHECKS,
    nonce=NONCE,
    nonce_of=qualifying_data,
    parse=parse_snp,
    genuine=verify_genuine_snp,
    needs=needs_snp,
    identities=lambda claims: _identities(claims, Tee.SEV_SNP),
    weaken=lambda claims: replace(claims, snp=known_late(claims.snp), mint=MINT),
)
AZURE_TDX = EvidencePlugin(
    kind=Tee.AZURE_TDX,
    about=(
        "An Azure confidential VM has two parts: a TDX quote, made at boot, about Microsoft's"
        " paravisor; and a quote, made now, by the virtual TPM that the paravisor runs. The first"
        " vouches for the TPM's key, the TPM for what booted above."
    ),
    vendor=INTEL,
    checks=TDX_CHECKS,
    nonce=NONCE,
    nonce_of=qualifying_data,
    parse=parse_tdx,
    genuine=verify_genuine_tdx,
    needs=needs_tdx,
    identities=lambda claims: _identities(claims, Tee.TDX),
    weaken=lambda claims: replace(claims, tdx=known_late(claims.tdx), mint=MINT),
)
