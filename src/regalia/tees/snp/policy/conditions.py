"""What conditions may say of SEV-SNP claims. These members stand directly in ``claims``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import (
    SAID_FOR_ALL,
    SET_BITS,
    Reading,
    because,
    derived,
    flags,
    record_of,
)
from regalia.tees.snp.claims import Firmware, SnpClaims, Tcb
from regalia.tees.snp.names import ABI_MAJOR_SHIFT, ABI_MINOR_MASK, GuestPolicyBit, PlatformInfoBit

if TYPE_CHECKING:
    from collections.abc import Mapping

# The policy's own names of the bits, where they are not the ABI's.
GUEST_BITS: Mapping[str, GuestPolicyBit] = MappingProxyType(
    {
        "smt": GuestPolicyBit.SMT,
        "migrate_ma": GuestPolicyBit.MIGRATE_MA,
        "debug": GuestPolicyBit.DEBUG,
        "single_socket": GuestPolicyBit.SINGLE_SOCKET,
        "cxl": GuestPolicyBit.CXL_ALLOW,
        "mem_aes_256_xts": GuestPolicyBit.MEM_AES_256_XTS,
        "rapl_dis": GuestPolicyBit.RAPL_DIS,
        "ciphertext_hiding": GuestPolicyBit.CIPHERTEXT_HIDING_DRAM,
        "page_swap_disable": GuestPolicyBit.PAGE_SWAP_DISABLE,
    }
)
_ABI_MAJOR: Reading[int] = Reading(
    "int", lambda policy: (policy >> ABI_MAJOR_SHIFT) & ABI_MINOR_MASK
)
_ABI_MINOR: Reading[int] = Reading("int", lambda policy: policy & ABI_MINOR_MASK)
_TCB = record_of(derived(Tcb))
_FIRMWARE = record_of(derived(Firmware))
LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("drawn anew at each launch", "report_id"),
    **because("read as a record or a list below", "policy", "platform_info"),
    **because("likewise", "current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"),
    **because("likewise", "current_firmware", "committed_firmware"),
    **because("likewise", "launch_mit_vector", "current_mit_vector"),
}

CONDITIONS: dict[str, Reading[SnpClaims]] = {
    **derived(SnpClaims, left_out=LEFT_OUT),
    "guest_policy": record_of(
        {
            "abi_major": _ABI_MAJOR,
            "abi_minor": _ABI_MINOR,
            **flags(GUEST_BITS),
        }
    ).of(lambda claims: claims.policy),
    "platform_info": record_of(flags(PlatformInfoBit.__members__)).of(
        lambda claims: claims.platform_info
    ),
    "tcb": record_of(
        {
            "current": _TCB.of(lambda claims: claims.current_tcb),
            "reported": _TCB.of(lambda claims: claims.reported_tcb),
            "committed": _TCB.of(lambda claims: claims.committed_tcb),
            "launch": _TCB.of(lambda claims: claims.launch_tcb),
        }
    ),
    "firmware": record_of(
        {
            "current": _FIRMWARE.of(lambda claims: claims.current_firmware),
            "committed": _FIRMWARE.of(lambda claims: claims.committed_firmware),
        }
    ),
    "launch_mitigations": SET_BITS.of(lambda claims: claims.launch_mit_vector),
    "current_mitigations": SET_BITS.of(lambda claims: claims.current_mit_vector),
}
