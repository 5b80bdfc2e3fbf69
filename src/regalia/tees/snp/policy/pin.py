"""The SEV-SNP section of a policy, from known-good claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from regalia.appraisal.claims import Revocation
from regalia.core.bits import bit
from regalia.tees.snp.names import ABI_MAJOR_SHIFT, ABI_MINOR_MASK, GuestPolicyBit, PlatformInfoBit
from regalia.tees.snp.policy.section import FirmwareMinimum, GuestPolicy, IdBlock, Snp, TcbMinimum

if TYPE_CHECKING:
    from regalia.tees.snp.claims import SnpClaims

# Bits of PLATFORM_INFO that protect the guest; those that the known-good platform sets are pinned.
_PROTECTIVE = (
    PlatformInfoBit.TSME_EN,
    PlatformInfoBit.ECC_EN,
    PlatformInfoBit.RAPL_DIS,
    PlatformInfoBit.CIPHERTEXT_HIDING_EN,
    PlatformInfoBit.ALIAS_CHECK_COMPLETE,
)


def pin_snp(claims: SnpClaims, *, pin_machine: bool, pin_config: bool) -> Snp:
    """The section that these claims meet."""
    committed = (
        claims.current_tcb == claims.committed_tcb
        and claims.current_firmware == claims.committed_firmware
    )
    firmware = min(
        (version.major, version.minor, version.build)
        for version in (claims.current_firmware, claims.committed_firmware)
    )
    return Snp(
        products=[claims.product],
        measurements=[claims.measurement.hex()],
        host_data=[claims.host_data.hex()] if pin_config else "any",
        id_blocks=[_id_block(claims)],
        vmpl=[claims.vmpl],
        guest_policy=_guest_policy(claims),
        platform_info_required=[
            index.name for index in _PROTECTIVE if bit(claims.platform_info, index)
        ],
        tcb_minimum={claims.product: _tcb_minimum(claims)},
        firmware_minimum=FirmwareMinimum(major=firmware[0], minor=firmware[1], build=firmware[2]),
        provisional_firmware="deny" if committed else "allow",
        mitigations_required=(claims.launch_mit_vector & claims.current_mit_vector) or "any",
        report_version_minimum=claims.report_version,
        signing_keys=["vlek" if claims.signing_key == "vlek" else "vcek"],
        csp_ids=[] if claims.csp_id is None else [claims.csp_id],
        chip_ids=[claims.chip_id.hex()] if pin_machine else "any",
        revocation="required" if claims.revocation is Revocation.CHECKED else "any",
    )


def _guest_policy(claims: SnpClaims) -> GuestPolicy:
    have = claims.policy
    return GuestPolicy(
        abi_major_min=(have >> ABI_MAJOR_SHIFT) & ABI_MINOR_MASK,
        abi_minor_min=have & ABI_MINOR_MASK,
        smt="allow" if bit(have, GuestPolicyBit.SMT) else "deny",
        single_socket=_demanded(have, GuestPolicyBit.SINGLE_SOCKET),
        cxl="allow" if bit(have, GuestPolicyBit.CXL_ALLOW) else "deny",
        mem_aes_256_xts=_demanded(have, GuestPolicyBit.MEM_AES_256_XTS),
        rapl_dis=_demanded(have, GuestPolicyBit.RAPL_DIS),
        ciphertext_hiding=_demanded(have, GuestPolicyBit.CIPHERTEXT_HIDING_DRAM),
        page_swap_disable=_demanded(have, GuestPolicyBit.PAGE_SWAP_DISABLE),
    )


def _demanded(policy: int, index: GuestPolicyBit) -> Literal["required", "any"]:
    return "required" if bit(policy, index) else "any"


def _id_block(claims: SnpClaims) -> IdBlock:
    """The one that was shown, and later ones of the same image."""
    return IdBlock(
        id_key=claims.id_key_digest.hex(),
        author_key=claims.author_key_digest.hex(),
        family_id=claims.family_id.hex(),
        image_id=claims.image_id.hex(),
        guest_svn_minimum=claims.guest_svn,
    )


def _tcb_minimum(claims: SnpClaims) -> TcbMinimum:
    """The lowest of reported, committed and launch, by component, so that the evidence meets it."""
    each = [
        tcb.components() for tcb in (claims.reported_tcb, claims.committed_tcb, claims.launch_tcb)
    ]
    lowest = {name: min(tcb[name] for tcb in each) for name in each[0]}
    return TcbMinimum(**lowest)
