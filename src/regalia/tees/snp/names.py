"""Names of AMD SEV-SNP products and of the bits of POLICY and PLATFORM_INFO (SEV-SNP firmware ABI).

Only what policies and explanations speak of; where a bit stands in a report is its index here.
"""

from __future__ import annotations

from enum import IntEnum

MILAN = "Milan"
GENOA = "Genoa"
TURIN = "Turin"
PRODUCTS = (MILAN, GENOA, TURIN)

ABI_MINOR_MASK = 0xFF  # guest POLICY bits 7:0
ABI_MAJOR_SHIFT = 8  # guest POLICY bits 15:8


class GuestPolicyBit(IntEnum):
    """Bit numbers of the guest POLICY field."""

    SMT = 16
    RESERVED_ONE = 17  # must be one
    MIGRATE_MA = 18
    DEBUG = 19
    SINGLE_SOCKET = 20
    CXL_ALLOW = 21
    MEM_AES_256_XTS = 22
    RAPL_DIS = 23
    CIPHERTEXT_HIDING_DRAM = 24
    PAGE_SWAP_DISABLE = 25


GUEST_POLICY_DEFINED = (1 << 26) - 1  # bits 63:26 must be zero


class PlatformInfoBit(IntEnum):
    """Bit numbers of the PLATFORM_INFO field. Bit 6 is reserved and set on some machines."""

    SMT_EN = 0
    TSME_EN = 1
    ECC_EN = 2
    RAPL_DIS = 3
    CIPHERTEXT_HIDING_EN = 4
    ALIAS_CHECK_COMPLETE = 5
    TIO_EN = 7
