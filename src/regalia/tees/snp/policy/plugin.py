"""The policy half of AMD SEV-SNP."""

from __future__ import annotations

from regalia.appraisal.condition_types import (
    SAID_FOR_ALL,
    SET_BITS,
    Reading,
    because,
    derived,
    flags,
    record_of,
)
from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.policy_plugin import PolicyPlugin
from regalia.tees.snp.claims import Firmware, SnpClaims, Tcb
from regalia.tees.snp.names import ABI_MAJOR_SHIFT, ABI_MINOR_MASK, GuestPolicyBit, PlatformInfoBit
from regalia.tees.snp.policy import rules
from regalia.tees.snp.policy.fields import FIELDS, GUEST_POLICY
from regalia.tees.snp.policy.section import Snp
from regalia.wire.evidence import Tee

# The policy's own names of the bits, where they are not the ABI's.
_GUEST_BITS = {
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
_ABI_MAJOR: Reading[int] = Reading(
    "int", lambda policy: (policy >> ABI_MAJOR_SHIFT) & ABI_MINOR_MASK
)
_ABI_MINOR: Reading[int] = Reading("int", lambda policy: policy & ABI_MINOR_MASK)
_TCB = record_of(derived(Tcb))
_FIRMWARE = record_of(derived(Firmware))
_LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("drawn anew at each launch", "report_id"),
    **because("read as a record or a list below", "policy", "platform_info"),
    **because("likewise", "current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"),
    **because("likewise", "current_firmware", "committed_firmware"),
    **because("likewise", "launch_mit_vector", "current_mit_vector"),
}

# These members stand directly in ``claims``.
_CONDITIONS: dict[str, Reading[SnpClaims]] = {
    **derived(SnpClaims, left_out=_LEFT_OUT),
    "guest_policy": record_of(
        {"abi_major": _ABI_MAJOR, "abi_minor": _ABI_MINOR, **flags(_GUEST_BITS)}
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

SNP = PolicyPlugin(
    tee=Tee.SEV_SNP,
    name="snp",
    section=Snp,
    claims=SnpClaims,
    fields=FIELDS,
    order=(
        rules.guest_policy_shape,
        *(field.name for field in GUEST_POLICY if field.compare is not None),
        rules.product,
        *("report_version_minimum", "signing_keys"),
        rules.csp_id,
        *("revocation", "chip_ids"),
        *(rules.tcb, rules.firmware),
        "provisional_firmware",
        *(rules.mitigations, rules.platform_info),
        "vmpl",
        rules.workload,
        "measurements",
        rules.id_block,
        "host_data",
    ),
    conditions=_CONDITIONS,
    left_out=_LEFT_OUT,
    machines="chip_ids",
    binding=BINDINGS[Tee.SEV_SNP],
)
