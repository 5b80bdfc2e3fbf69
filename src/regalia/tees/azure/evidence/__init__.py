"""Verifier of Azure confidential VMs. Spec: docs/spec/azure-appraisal.md.

``verify`` is the walk, once for each kind of hardware; ``guest`` is what both have in common.
"""

from regalia.tees.azure.evidence.codes import AzureCode
from regalia.tees.azure.evidence.guest import GuestParts, VouchedGuest, require_vouched
from regalia.tees.azure.evidence.verify import (
    parse_snp,
    parse_tdx,
    verify_genuine_snp,
    verify_genuine_tdx,
)

__all__ = [
    "AzureCode",
    "GuestParts",
    "VouchedGuest",
    "parse_snp",
    "parse_tdx",
    "require_vouched",
    "verify_genuine_snp",
    "verify_genuine_tdx",
]
