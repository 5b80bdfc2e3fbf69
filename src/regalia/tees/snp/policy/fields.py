"""What conditions may say of SEV-SNP claims. These members stand directly in ``claims``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import all_bool, bits, record
from regalia.core.bits import bit
from regalia.tees.snp.names import ABI_MAJOR_SHIFT, ABI_MINOR_MASK, GuestPolicyBit, PlatformInfoBit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.condition_types import Fields, Values
    from regalia.tees.snp.claims import Firmware, SnpClaims

_GUEST_BITS: Mapping[str, GuestPolicyBit] = MappingProxyType(
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


_TCB = record(fmc="int", bootloader="int", tee="int", snp="int", microcode="int")
_FIRMWARE = record(major="int", minor="int", build="int")

SNP_FIELDS: Fields = record(
    report_version="int",
    guest_svn="int",
    vmpl="int",
    signing_key="text",
    csp_id="text",  # empty unless a VLEK signed
    family_id="text",
    image_id="text",
    measurement="text",
    host_data="text",
    id_key_digest="text",
    author_key_digest="text",
    chip_id="text",
    guest_policy=record(abi_major="int", abi_minor="int", **all_bool(_GUEST_BITS)),
    platform_info=record(**all_bool(PlatformInfoBit.__members__)),
    tcb=record(current=_TCB, reported=_TCB, committed=_TCB, launch=_TCB),
    firmware=record(current=_FIRMWARE, committed=_FIRMWARE),
    launch_mitigations="list of int",  # numbers of the bits that are set
    current_mitigations="list of int",
)


def snp_values(claims: SnpClaims) -> Values:
    """Values of ``SNP_FIELDS``. Bytes are lower-case hex."""
    return {
        "report_version": claims.report_version,
        "guest_svn": claims.guest_svn,
        "vmpl": claims.vmpl,
        "signing_key": claims.signing_key,
        "csp_id": claims.csp_id or "",
        "family_id": claims.family_id.hex(),
        "image_id": claims.image_id.hex(),
        "measurement": claims.measurement.hex(),
        "host_data": claims.host_data.hex(),
        "id_key_digest": claims.id_key_digest.hex(),
        "author_key_digest": claims.author_key_digest.hex(),
        "chip_id": claims.chip_id.hex(),
        "guest_policy": {
            "abi_major": (claims.policy >> ABI_MAJOR_SHIFT) & ABI_MINOR_MASK,
            "abi_minor": claims.policy & ABI_MINOR_MASK,
            **{name: bit(claims.policy, index) for name, index in _GUEST_BITS.items()},
        },
        "platform_info": {
            name: bit(claims.platform_info, index)
            for name, index in PlatformInfoBit.__members__.items()
        },
        "tcb": {
            "current": claims.current_tcb.components(),
            "reported": claims.reported_tcb.components(),
            "committed": claims.committed_tcb.components(),
            "launch": claims.launch_tcb.components(),
        },
        "firmware": {
            "current": _firmware(claims.current_firmware),
            "committed": _firmware(claims.committed_firmware),
        },
        "launch_mitigations": bits(claims.launch_mit_vector),
        "current_mitigations": bits(claims.current_mit_vector),
    }


def _firmware(version: Firmware) -> dict[str, int]:
    return {"major": version.major, "minor": version.minor, "build": version.build}
