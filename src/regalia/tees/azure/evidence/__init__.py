"""Verifier of Azure confidential VMs. Spec: docs/spec/azure-appraisal.md.

``verify`` is the walk, once for each kind of hardware; ``guest`` is what both have in common.
"""

from regalia.tees.azure.evidence.codes import AzureCode
from regalia.tees.azure.evidence.guest import GuestParts, VouchedGuest, require_vouched
from regalia.tees.azure.evidence.verify import (
    GenuineAzureSnp,
    GenuineAzureTdx,
    parse_snp,
    parse_tdx,
    snp_claims,
    tdx_claims,
    verify_genuine_snp,
    verify_genuine_tdx,
)

__all__ = [
    "AzureCode",
    "GenuineAzureSnp",
    "GenuineAzureTdx",
    "GuestParts",
    "VouchedGuest",
    "parse_snp",
    "parse_tdx",
    "require_vouched",
    "snp_claims",
    "tdx_claims",
    "verify_genuine_snp",
    "verify_genuine_tdx",
]
