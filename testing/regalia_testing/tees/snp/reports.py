"""Simulated reports: what a platform in a given state would sign, and its signature."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from regalia.tees.snp.claims import Tcb
from regalia.tees.snp.evidence.wire import (
    CHIP_ID_SIZE,
    CPUID_SINCE_VERSION,
    MIT_VECTOR_SINCE_VERSION,
    SIGNED_SIZE,
    EndorsementKeyKind,
    Product,
    SnpReport,
    encode_tcb,
    key_info,
)
from regalia.tees.snp.names import GuestPolicyBit, PlatformInfoBit

if TYPE_CHECKING:
    from regalia_testing.tees.snp.defects import SnpDefects

ABI_MINOR = 31  # of the guest POLICY; firmware ABI 0.31
STALE_REPORT_DATA = hashlib.sha512(b"regalia: the challenge of another day").digest()
_NO_MIGRATION_AGENT = b"\xff" * 32
_ECDSA_SIGNATURE_R = 0x2A0
_KEY_INFO = 0x048
_POLICY = 0x008
_CURRENT_TCB_RESERVED = 0x038 + 5  # reserved on every product


@dataclass(frozen=True, slots=True)
class Profile:
    """A healthy platform of one product line; numbers as seen on real machines."""

    version: int
    cpuid: tuple[int, int, int]  # family, model, stepping
    tcb: Tcb
    old_tcb: Tcb
    firmware: tuple[int, int, int]  # major, minor, build


PROFILES = {
    Product.MILAN: Profile(
        version=3,
        cpuid=(0x19, 0x01, 0x01),
        tcb=Tcb(fmc=0, bootloader=4, tee=0, snp=0x18, microcode=0xDB),
        old_tcb=Tcb(fmc=0, bootloader=2, tee=0, snp=5, microcode=0x44),
        firmware=(1, 55, 29),
    ),
    Product.GENOA: Profile(
        version=3,
        cpuid=(0x19, 0x11, 0x01),
        tcb=Tcb(fmc=0, bootloader=0x0A, tee=0, snp=0x17, microcode=0x54),
        old_tcb=Tcb(fmc=0, bootloader=7, tee=0, snp=0x0E, microcode=0x48),
        firmware=(1, 55, 40),
    ),
    Product.TURIN: Profile(
        version=5,
        cpuid=(0x1A, 0x02, 0x01),
        tcb=Tcb(fmc=1, bootloader=1, tee=1, snp=4, microcode=0x51),
        old_tcb=Tcb(fmc=0, bootloader=1, tee=0, snp=1, microcode=0x30),
        firmware=(1, 55, 65),
    ),
}


@dataclass(frozen=True, slots=True)
class Guest:
    """What the caller decides about one report."""

    report_data: bytes  # 64
    measurement: bytes  # 48
    host_data: bytes  # 32


def reported_tcb(product: Product, defects: SnpDefects) -> Tcb:
    """The TCB that the report states and the leaf is normally issued for."""
    profile = PROFILES[product]
    return profile.old_tcb if defects.old_tcb else profile.tcb


def build_report(
    product: Product, hwid: bytes, report_id: bytes, guest: Guest, defects: SnpDefects
) -> SnpReport:
    """The report of a platform in the state that the defects say, with an empty signature."""
    profile = PROFILES[product]
    version = defects.report_version or profile.version
    tcb = reported_tcb(product, defects)
    current = replace(tcb, microcode=tcb.microcode + 1) if defects.provisional_firmware else tcb
    launch = profile.old_tcb if defects.old_launch_tcb else tcb
    major, minor, build = profile.firmware
    cpuid = profile.cpuid if version >= CPUID_SINCE_VERSION else (0, 0, 0)
    if defects.cpuid_mismatch:
        other = Product.TURIN if product is not Product.TURIN else Product.GENOA
        cpuid = PROFILES[other].cpuid
    mit_vector = defects.mit_vector if version >= MIT_VECTOR_SINCE_VERSION else 0
    masked = defects.mask_chip_id or defects.key is EndorsementKeyKind.VLEK
    return SnpReport(
        version=version,
        guest_svn=defects.guest_svn,
        policy=_policy(defects),
        family_id=_id_block_field("family", defects, 16),
        image_id=_id_block_field("image", defects, 16),
        vmpl=defects.vmpl,
        signature_algo=defects.signature_algo,
        current_tcb=encode_tcb(current, product),
        platform_info=_platform_info(defects),
        key_info=key_info(
            signing_key=defects.key,
            mask_chip_key=defects.mask_chip_key,
            author_key_en=defects.author_key,
        ),
        report_data=_report_data(guest, defects),
        measurement=_altered(guest.measurement, defects.wrong_measurement),
        host_data=_altered(guest.host_data, defects.wrong_host_data),
        id_key_digest=_id_block_field("key", defects, 48),
        author_key_digest=hashlib.sha384(b"author key").digest()
        if defects.author_key
        else bytes(48),
        report_id=report_id,
        report_id_ma=_NO_MIGRATION_AGENT,
        reported_tcb=encode_tcb(tcb, product),
        cpuid_fam_id=cpuid[0],
        cpuid_mod_id=cpuid[1],
        cpuid_step=cpuid[2],
        chip_id=(b"" if masked else hwid).ljust(CHIP_ID_SIZE, b"\x00"),
        committed_tcb=encode_tcb(tcb, product),
        current_build=build + defects.provisional_firmware,
        current_minor=minor,
        current_major=major,
        committed_build=build,
        committed_minor=minor,
        committed_major=major,
        launch_tcb=encode_tcb(launch, product),
        launch_mit_vector=mit_vector,
        current_mit_vector=mit_vector,
        signature_r=b"",
        signature_s=b"",
    )


def sign_report(report: SnpReport, key: ec.EllipticCurvePrivateKey, defects: SnpDefects) -> bytes:
    """The report's bytes, signed; defects of single bytes are made before signing."""
    raw = bytearray(report.encode())
    if defects.reserved_byte:
        raw[defects.reserved_byte] = 1
    if defects.reserved_tcb_byte:
        raw[_CURRENT_TCB_RESERVED] = 1
    if defects.policy_reserved_bit:
        raw[_POLICY + 3] |= 1 << 2
    if defects.key_info_reserved_bit:
        raw[_KEY_INFO] |= 1 << 5
    scalars = decode_dss_signature(key.sign(bytes(raw[:SIGNED_SIZE]), ec.ECDSA(SHA384())))
    r, s = (scalar.to_bytes(72, "little") for scalar in scalars)
    raw[_ECDSA_SIGNATURE_R : _ECDSA_SIGNATURE_R + 144] = r + s
    if defects.bad_signature:
        raw[_ECDSA_SIGNATURE_R] ^= 1
    if defects.wide_signature:
        raw[_ECDSA_SIGNATURE_R + 48] = 1
    if defects.trailing_byte:
        raw += b"\x00"
    return bytes(raw[:-1] if defects.truncated else raw)


def _policy(defects: SnpDefects) -> int:
    bits = {
        GuestPolicyBit.SMT: defects.smt,
        GuestPolicyBit.RESERVED_ONE: not defects.policy_bit_17_clear,
        GuestPolicyBit.MIGRATE_MA: defects.migrate,
        GuestPolicyBit.DEBUG: defects.debug,
        GuestPolicyBit.SINGLE_SOCKET: defects.single_socket,
        GuestPolicyBit.MEM_AES_256_XTS: defects.mem_aes_256_xts,
        GuestPolicyBit.RAPL_DIS: defects.rapl_dis,
        GuestPolicyBit.CIPHERTEXT_HIDING_DRAM: defects.ciphertext_hiding,
        GuestPolicyBit.PAGE_SWAP_DISABLE: defects.page_swap_disable,
    }
    return ABI_MINOR | sum(1 << bit for bit, on in bits.items() if on)


def _id_block_field(name: str, defects: SnpDefects, size: int) -> bytes:
    """Blocks 1 to 9 are signed by one key, 11 to 19 by another, and so on."""
    if not defects.id_block:
        return bytes(size)
    which = defects.id_block // 10 if name == "key" else defects.id_block
    return hashlib.sha384(f"ID block {name} {which}".encode()).digest()[:size]


def _platform_info(defects: SnpDefects) -> int:
    bits = {
        PlatformInfoBit.SMT_EN: True,
        PlatformInfoBit.ECC_EN: not defects.missing_ecc,
        PlatformInfoBit.ALIAS_CHECK_COMPLETE: not defects.missing_alias_check,
    }
    return sum(1 << bit for bit, on in bits.items() if on)


def _report_data(guest: Guest, defects: SnpDefects) -> bytes:
    if defects.zero_report_data:
        return bytes(len(guest.report_data))
    return STALE_REPORT_DATA if defects.stale_nonce else guest.report_data


def _altered(value: bytes, wrong: bool) -> bytes:  # noqa: FBT001 - the field, passed on
    return bytes((value[0] ^ 1, *value[1:])) if wrong else value
