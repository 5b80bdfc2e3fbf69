"""The SEV-SNP section of a policy. Spec: docs/spec/policy.md, section "platform.snp"."""

from __future__ import annotations

from typing import Literal

from regalia.appraisal.policy_doc import Byte, Count, Doc, Unrestricted, Vmpl
from regalia.appraisal.policy_words import (
    WORD_MAX,
    any_number,
    any_text,
    bad,
    each,
    hex_bytes,
    word,
)
from regalia.core.codec import unhex
from regalia.tees.snp.names import PRODUCTS, TURIN, PlatformInfoBit

PATH = "platform.snp"


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

    abi_minor_min: Byte
    abi_major_min: Byte
    smt: Literal["allow", "deny"]
    single_socket: Literal["required", "any"]
    cxl: Literal["allow", "deny"]
    mem_aes_256_xts: Literal["required", "any"]
    rapl_dis: Literal["required", "any"]
    ciphertext_hiding: Literal["required", "any"]  # CIPHERTEXT_HIDING_DRAM
    page_swap_disable: Literal["required", "any"]


class IdBlock(Doc, frozen=True, kw_only=True):
    """One accepted ID block: who signed the launch, of what, and how new it must be.

    48 zeros for ``id_key`` mean that the guest was launched without an ID block; then everything
    else is zero too.
    """

    id_key: str  # ID_KEY_DIGEST, 48 bytes
    author_key: (
        str | Unrestricted
    )  # AUTHOR_KEY_DIGEST, 48 bytes; zeros: the ID key stands for itself
    family_id: str | Unrestricted  # 16 bytes
    image_id: str | Unrestricted  # 16 bytes
    guest_svn_minimum: Count


class Snp(Doc, frozen=True, kw_only=True):
    """What an SEV-SNP platform must be. A list of accepted values that is empty denies."""

    products: list[str]  # Milan needs its chip named in chip_ids, see docs/limitations.md
    measurements: list[str] | Unrestricted  # 48 bytes each
    host_data: (
        list[str] | Unrestricted
    )  # 32 bytes each; SHA-256 of the accepted runtime configurations
    id_blocks: list[IdBlock] | Unrestricted
    vmpl: list[Vmpl]
    guest_policy: GuestPolicy
    platform_info_required: list[str]  # names of PLATFORM_INFO bits, e.g. ALIAS_CHECK_COMPLETE
    tcb_minimum: dict[str, TcbMinimum] | Unrestricted  # by product
    firmware_minimum: FirmwareMinimum | Unrestricted
    provisional_firmware: Literal["deny", "allow"]  # current TCB above the committed one
    mitigations_required: Count | Unrestricted  # bits of LAUNCH and CURRENT_MIT_VECTOR (report v5)
    report_version_minimum: Count
    signing_keys: list[Literal["vcek", "vlek"]]
    csp_ids: list[str] | Unrestricted  # for VLEK
    chip_ids: list[str] | Unrestricted  # 64 bytes each
    revocation: Literal["required", "any"]


def check_snp(snp: Snp, path: str = PATH) -> None:
    """Raise ParseError MALFORMED at the first rule that the section breaks."""
    each(snp.products, f"{path}.products", _product)
    each(snp.measurements, f"{path}.measurements", hex_bytes(48))
    each(snp.host_data, f"{path}.host_data", hex_bytes(32))
    each(snp.id_blocks, f"{path}.id_blocks", _id_block)
    each(snp.vmpl, f"{path}.vmpl", any_number)
    each(snp.platform_info_required, f"{path}.platform_info_required", _platform_bit)
    if snp.tcb_minimum != "any":
        each(tuple(snp.tcb_minimum), f"{path}.tcb_minimum", _product)
        for product, low in snp.tcb_minimum.items():
            _components(low, product, f"{path}.tcb_minimum.{product}")
    each(snp.signing_keys, f"{path}.signing_keys", any_text)
    each(snp.csp_ids, f"{path}.csp_ids", word)
    each(snp.chip_ids, f"{path}.chip_ids", _chip_id)


def _product(value: str, path: str) -> None:
    if value not in PRODUCTS:
        raise bad(path, f"{value[:WORD_MAX]!r} is no product; known are {', '.join(PRODUCTS)}")


def _components(low: TcbMinimum, product: str, path: str) -> None:
    if low.fmc and product != TURIN:
        raise bad(f"{path}.fmc", f"{product} has no FMC: a minimum above 0 is met by nothing")


def _id_block(block: IdBlock, path: str) -> None:
    hex_bytes(48)(block.id_key, f"{path}.id_key")
    for name, size in (("author_key", 48), ("family_id", 16), ("image_id", 16)):
        value = getattr(block, name)
        if value != "any":
            hex_bytes(size)(value, f"{path}.{name}")


def _platform_bit(value: str, path: str) -> None:
    if value not in PlatformInfoBit.__members__:
        known = ", ".join(PlatformInfoBit.__members__)
        raise bad(path, f"{value[:WORD_MAX]!r} is no PLATFORM_INFO bit; known are {known}")


def _chip_id(value: str, path: str) -> None:
    if not any(unhex(value, what=f"policy, {path}", size=64)):
        raise bad(path, "all zero is what every VLEK-signed report says, so it names no chip")
