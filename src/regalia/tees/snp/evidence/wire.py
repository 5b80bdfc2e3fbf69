"""SEV-SNP attestation report: bytes to values and back. Spec: docs/spec/snp-appraisal.md.

Layout and names follow the SEV Secure Nested Paging Firmware ABI (AMD 56860), structure
ATTESTATION_REPORT. A report is 1184 bytes, little endian; its signature covers bytes 0x000 to
0x29F. Nothing here verifies anything: a parsed report is still raw, untrusted evidence.

AMD has published no text on version 4. Machines of product lines before Turin send it with the
fields of version 3, so it is read as such: everything that version 3 reserves must be zero, and
the layout of a TCB_VERSION is the product's, as in every version.
"""

from __future__ import annotations

import struct
from enum import IntEnum, StrEnum

import msgspec

from regalia.core.bits import bit
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.snp.claims import Tcb
from regalia.tees.snp.names import GENOA, GUEST_POLICY_DEFINED, MILAN, TURIN, GuestPolicyBit
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

REPORT_SIZE = 0x4A0  # bytes
SIGNED_SIZE = 0x2A0  # bytes at the start that the signature covers
VERSIONS = (2, 3, 4, 5)
CPUID_SINCE_VERSION = 3
MIT_VECTOR_SINCE_VERSION = 5
SIGNATURE_ALGO_ECDSA_P384_SHA384 = 1
CHIP_ID_SIZE = 64  # bytes
TURIN_CHIP_ID_SIZE = 8  # bytes that Turin uses of them; zeros follow
SCALAR_SIZE = 48  # bytes of R and S that P-384 uses, of 72; zeros follow


class Product(StrEnum):
    """Product lines, by the names that AMD's certificates carry. Each has its own root."""

    MILAN = MILAN
    GENOA = GENOA  # with Bergamo and Siena, which share its root
    TURIN = TURIN


class EndorsementKeyKind(IntEnum):
    """SIGNING_KEY. Values 2 to 6 are reserved."""

    VCEK = 0
    VLEK = 1
    NONE = 7


# (offset, struct code, field), in the order of the ABI's table. "" is reserved and must be zero.
FIELDS = (
    (0x000, "I", "version"),
    (0x004, "I", "guest_svn"),
    (0x008, "Q", "policy"),
    (0x010, "16s", "family_id"),
    (0x020, "16s", "image_id"),
    (0x030, "I", "vmpl"),
    (0x034, "I", "signature_algo"),
    (0x038, "8s", "current_tcb"),
    (0x040, "Q", "platform_info"),
    (0x048, "I", "key_info"),
    (0x04C, "4s", ""),
    (0x050, "64s", "report_data"),
    (0x090, "48s", "measurement"),
    (0x0C0, "32s", "host_data"),
    (0x0E0, "48s", "id_key_digest"),
    (0x110, "48s", "author_key_digest"),
    (0x140, "32s", "report_id"),
    (0x160, "32s", "report_id_ma"),
    (0x180, "8s", "reported_tcb"),
    (0x188, "B", "cpuid_fam_id"),
    (0x189, "B", "cpuid_mod_id"),
    (0x18A, "B", "cpuid_step"),
    (0x18B, "21s", ""),
    (0x1A0, "64s", "chip_id"),
    (0x1E0, "8s", "committed_tcb"),
    (0x1E8, "B", "current_build"),
    (0x1E9, "B", "current_minor"),
    (0x1EA, "B", "current_major"),
    (0x1EB, "1s", ""),
    (0x1EC, "B", "committed_build"),
    (0x1ED, "B", "committed_minor"),
    (0x1EE, "B", "committed_major"),
    (0x1EF, "1s", ""),
    (0x1F0, "8s", "launch_tcb"),
    (0x1F8, "Q", "launch_mit_vector"),
    (0x200, "Q", "current_mit_vector"),
    (0x208, "152s", ""),
    (0x2A0, "72s", "signature_r"),
    (0x2E8, "72s", "signature_s"),
    (0x330, "368s", ""),
)
# Reserved bytes are checked apart; packing fills them with zeros.
_LAYOUT = struct.Struct(
    "<" + "".join(code if name else code.replace("s", "x") for _, code, name in FIELDS)
)
_NAMES = tuple(name for _, _, name in FIELDS if name)
_RESERVED = tuple((offset, int(code[:-1])) for offset, code, name in FIELDS if not name)

_VERSION = slice(0, 4)
_KEY_INFO_AUTHOR_KEY_EN = 1 << 0
_KEY_INFO_MASK_CHIP_KEY = 1 << 1
_KEY_INFO_SIGNING_KEY_SHIFT = 2
_KEY_INFO_SIGNING_KEY_MASK = 0b111
_KEY_INFO_DEFINED = 0b1_1111


class SnpReport(msgspec.Struct, frozen=True):
    """Every field of one report, untrusted. TCB fields are raw: their layout is the product's.

    In the order of ``FIELDS``. A struct, since one is made for each report: a frozen dataclass
    with as many fields takes as long to make as all the rest of parsing.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes  # 16
    image_id: bytes  # 16
    vmpl: int
    signature_algo: int
    current_tcb: bytes  # 8
    platform_info: int
    key_info: int  # AUTHOR_KEY_EN, MASK_CHIP_KEY and SIGNING_KEY, as properties below
    report_data: bytes  # 64
    measurement: bytes  # 48
    host_data: bytes  # 32
    id_key_digest: bytes  # 48
    author_key_digest: bytes  # 48
    report_id: bytes  # 32
    report_id_ma: bytes  # 32; all 0xFF when there is no migration agent
    reported_tcb: bytes  # 8
    cpuid_fam_id: int  # combined family; 0 before version 3, like the next two
    cpuid_mod_id: int  # combined model
    cpuid_step: int
    chip_id: bytes  # 64
    committed_tcb: bytes  # 8
    current_build: int
    current_minor: int
    current_major: int
    committed_build: int
    committed_minor: int
    committed_major: int
    launch_tcb: bytes  # 8
    launch_mit_vector: int  # 0 before version 5, like the next one
    current_mit_vector: int
    signature_r: bytes  # 72, little endian, 24 zeros at the end
    signature_s: bytes  # likewise

    @property
    def author_key_en(self) -> bool:
        """AUTHOR_KEY_EN: the ID key was certified by an author key."""
        return bool(self.key_info & _KEY_INFO_AUTHOR_KEY_EN)

    @property
    def mask_chip_key(self) -> bool:
        """MASK_CHIP_KEY: the host told the firmware not to sign with the chip's key."""
        return bool(self.key_info & _KEY_INFO_MASK_CHIP_KEY)

    @property
    def signing_key(self) -> int:
        """SIGNING_KEY, 0 to 7; see ``EndorsementKeyKind``."""
        return self.key_info >> _KEY_INFO_SIGNING_KEY_SHIFT & _KEY_INFO_SIGNING_KEY_MASK

    def encode(self) -> bytes:
        """The 1184 bytes. ``parse_report(b).encode() == b`` for every ``b`` that parses."""
        return _LAYOUT.pack(*(getattr(self, name) for name in _NAMES))


def key_info(*, signing_key: int, mask_chip_key: bool, author_key_en: bool) -> int:
    """The word at 0x048.

    Args:
        signing_key: SIGNING_KEY, which key signs the report.
        mask_chip_key: MASK_CHIP_KEY.
        author_key_en: AUTHOR_KEY_EN.
    """
    return (
        (_KEY_INFO_AUTHOR_KEY_EN if author_key_en else 0)
        | (_KEY_INFO_MASK_CHIP_KEY if mask_chip_key else 0)
        | signing_key << _KEY_INFO_SIGNING_KEY_SHIFT
    )


def parse_report(data: bytes) -> SnpReport:
    """Parse one report. Everything reserved must be zero, and POLICY bit 17 one.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: MALFORMED, TRAILING_DATA, UNSUPPORTED_VERSION or RESERVED_BIT_SET.
    """
    version = int.from_bytes(data[: _VERSION.stop], "little")
    if len(data) >= _VERSION.stop and version not in VERSIONS:
        raise unsupported_version("SNP report: VERSION", version, VERSIONS)
    if len(data) > REPORT_SIZE:
        raise ParseError(
            EvidenceCode.TRAILING_DATA, f"SNP report: {len(data)} bytes, want {REPORT_SIZE}"
        )
    if len(data) < REPORT_SIZE:
        raise ParseError(CoreCode.MALFORMED, f"SNP report: {len(data)} bytes, want {REPORT_SIZE}")
    unpacked = _LAYOUT.unpack(data)
    for offset, size in _RESERVED:
        if data.count(0, offset, offset + size) != size:
            raise _reserved(f"the reserved bytes at {offset:#05x} are not zero")
    report = SnpReport(*unpacked)
    _require_known(report)
    return report


def _require_known(report: SnpReport) -> None:
    """Refuse values whose meaning the ABI leaves open."""
    if report.signature_algo != SIGNATURE_ALGO_ECDSA_P384_SHA384:
        raise ParseError(
            CoreCode.MALFORMED,
            f"SNP report: SIGNATURE_ALGO {report.signature_algo}, want ECDSA P-384 (1)",
        )
    if report.policy & ~GUEST_POLICY_DEFINED:
        raise _reserved("POLICY bits 63 to 26 are not zero")
    if not bit(report.policy, GuestPolicyBit.RESERVED_ONE):
        raise _reserved("POLICY bit 17 must be one")
    if report.key_info & ~_KEY_INFO_DEFINED:
        raise _reserved("key information bits 31 to 5 are not zero")
    cpuid = report.cpuid_fam_id | report.cpuid_mod_id | report.cpuid_step
    if report.version < CPUID_SINCE_VERSION and cpuid:
        raise _reserved("CPUID fields before version 3 are not zero")
    mit_vectors = report.launch_mit_vector | report.current_mit_vector
    if report.version < MIT_VECTOR_SINCE_VERSION and mit_vectors:
        raise _reserved("mitigation vectors before version 5 are not zero")
    if any(report.signature_r[SCALAR_SIZE:]) or any(report.signature_s[SCALAR_SIZE:]):
        raise ParseError(CoreCode.MALFORMED, "SNP report: a signature scalar exceeds 48 bytes")


def _reserved(what: str) -> ParseError:
    return ParseError(EvidenceCode.RESERVED_BIT_SET, f"SNP report: {what}")


# TCB_VERSION, byte by byte, low address first; "" is reserved. Turin moved every component.
_TCB_BEFORE_TURIN = ("bootloader", "tee", "", "", "", "", "snp", "microcode")
_TCB_TURIN = ("fmc", "bootloader", "tee", "snp", "", "", "", "microcode")


def tcb_layout(product: Product) -> tuple[str, ...]:
    """Component names of the eight bytes of a TCB_VERSION; "" is reserved."""
    return _TCB_TURIN if product is Product.TURIN else _TCB_BEFORE_TURIN


def decode_tcb(raw: bytes, product: Product) -> Tcb:
    """Split a TCB_VERSION of 8 bytes into components.

    Args:
        raw: 8 bytes, untrusted.
        product: product line whose layout they have.

    Raises:
        ParseError: RESERVED_BIT_SET if a byte that the product does not define is not zero.
    """
    components = {"fmc": 0}
    for value, name in zip(raw, tcb_layout(product), strict=True):
        if name:
            components[name] = value
        elif value:
            raise _reserved(f"TCB_VERSION {raw.hex()} has a reserved component on {product}")
    return Tcb(**components)


def encode_tcb(tcb: Tcb, product: Product) -> bytes:
    """Inverse of ``decode_tcb``; a component that does not fit is a ValueError.

    Args:
        tcb: the components.
        product: product line whose layout is wanted.
    """
    components = tcb.components()
    if components["fmc"] and product is not Product.TURIN:
        raise ValueError(f"{product} has no FMC component")
    return bytes(components[name] if name else 0 for name in tcb_layout(product))
