"""The SEV-SNP section of a policy. Spec: docs/spec/policy.md, section "platform.snp"."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from regalia.appraisal.policy_doc import Byte, Count, Doc, Listed, Requirement, Switch, Unrestricted


class TcbMinimum(Doc, frozen=True, kw_only=True):
    """Component-wise minimum for reported, committed and launch TCB of one product."""

    fmc: Byte  # 0 before Turin
    bootloader: Byte
    tee: Byte
    snp: Byte
    microcode: Byte


class FirmwareMinimum(Doc, frozen=True, kw_only=True):
    """Lowest accepted SEV firmware version, compared as (major, minor, build)."""

    major: Byte
    minor: Byte
    build: Byte


class GuestPolicy(Doc, frozen=True, kw_only=True):
    """Guest POLICY bits. DEBUG and MIGRATE_MA have no words here: they are always refused."""

    abi_major_min: Byte
    abi_minor_min: Byte
    smt: Switch
    single_socket: Requirement
    cxl: Switch
    mem_aes_256_xts: Requirement
    rapl_dis: Requirement
    ciphertext_hiding: Requirement  # CIPHERTEXT_HIDING_DRAM
    page_swap_disable: Requirement


class IdBlock(Doc, frozen=True, kw_only=True):
    """One accepted ID block: who signed the launch, of what, and how new it must be.

    48 zeros for ``id_key`` mean that the guest was launched without an ID block; then everything
    else is zero too.
    """

    id_key: str  # ID_KEY_DIGEST, 48 bytes
    author_key: str | Unrestricted  # AUTHOR_KEY_DIGEST, 48 bytes; zeros: no author key
    family_id: str | Unrestricted  # 16 bytes
    image_id: str | Unrestricted  # 16 bytes
    guest_svn_minimum: Count


class Snp(Doc, frozen=True, kw_only=True):
    """What an SEV-SNP platform must be. A list of accepted values that is empty denies."""

    products: list[str]  # Milan needs its chip named in chip_ids, see docs/limitations.md
    measurements: Listed  # 48 bytes each
    host_data: Listed  # 32 bytes each; SHA-256 of the accepted runtime configurations
    id_blocks: list[IdBlock] | Unrestricted
    vmpl: list[Annotated[int, msgspec.Meta(ge=0, le=3)]]
    guest_policy: GuestPolicy
    platform_info_required: list[str]  # names of PLATFORM_INFO bits, e.g. ALIAS_CHECK_COMPLETE
    tcb_minimum: dict[str, TcbMinimum] | Unrestricted  # by product
    firmware_minimum: FirmwareMinimum | Unrestricted
    provisional_firmware: Switch  # current TCB above the committed one
    mitigations_required: Count | Unrestricted  # bits of LAUNCH and CURRENT_MIT_VECTOR (report v5)
    report_version_minimum: Count
    signing_keys: list[Literal["vcek", "vlek"]]
    csp_ids: Listed  # for VLEK
    chip_ids: Listed  # 64 bytes each
    revocation: Requirement
