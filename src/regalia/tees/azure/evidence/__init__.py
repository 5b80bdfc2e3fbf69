"""Verifier of Azure confidential VMs. Spec: docs/spec/azure-appraisal.md.

``verify`` is the walk, once for each kind of hardware; ``guest`` is what both have in common.
"""

from regalia.tees.azure.evidence.codes import AzureCode
from regalia.tees.azure.evidence.guest import (
    GuestParts,
    VouchedGuest,
    require_vouched,
    snp_report_within,
)
from regalia.tees.azure.evidence.verify import (
    GenuineAzureSnp,
    GenuineAzureTdx,
    snp_claims,
    tdx_claims,
    verify_azure_snp,
    verify_azure_tdx,
    verify_genuine_snp,
    verify_genuine_tdx,
)

__all__ = [
    "AzureCode",
    "GenuineAzureSnp",
    "GenuineAzureTdx",
    "GuestParts",
    "VouchedGuest",
    "require_vouched",
    "snp_claims",
    "snp_report_within",
    "tdx_claims",
    "verify_azure_snp",
    "verify_azure_tdx",
    "verify_genuine_snp",
    "verify_genuine_tdx",
]
