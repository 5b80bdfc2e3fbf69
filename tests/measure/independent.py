"""The two hypervisor measurements once more, written from the specifications in another way.

MRTD: Intel 348549, "MRTD", TDH.MEM.PAGE.ADD and TDH.MR.EXTEND. SNP: AMD 56860, table PAGE_INFO;
AMD 24593, appendix B, table B-4 (VMSA); QEMU, hw/i386/sev and KVM's initial vCPU state.
"""

from __future__ import annotations

import hashlib
import struct
from uuid import UUID

PAGE = 4096
ADD, EXTEND = 0, 1


def mrtd(image: bytes, sections: tuple[tuple[int, ...], ...], *, one_by_one: bool) -> str:
    """Every call as (what, address, contents), then one hash over all of them."""
    calls: list[tuple[int, int, bytes]] = []
    for offset, data_size, gpa, size, _, attributes in sections:
        if attributes & 2:
            continue
        memory = image[offset : offset + data_size] + bytes(size - data_size)
        adds = [(ADD, gpa + page, b"") for page in range(0, size, PAGE)]
        extends = [
            (EXTEND, gpa + chunk, memory[chunk : chunk + 256])
            for chunk in range(0, size, 256)
            if attributes & 1
        ]
        calls += (
            sorted(adds + extends, key=lambda c: (c[1] // PAGE, c[0]))
            if one_by_one
            else (adds + extends)
        )
    stream = bytearray()
    for what, address, contents in calls:
        name = (b"MEM.PAGE.ADD", b"MR.EXTEND")[what]
        block = bytearray(128)
        block[: len(name)] = name
        block[16:24] = address.to_bytes(8, "little")
        stream += block + contents
    return hashlib.sha384(stream).hexdigest()


def snp(
    image: bytes,
    sections: tuple[tuple[int, int, int], ...],
    *,
    vcpus: int,
    signature: int,
    features: int,
    reset_eip: int,
    hashes: bytes | None,
) -> str:
    """The launch digest under QEMU. ``hashes`` is the page of kernel hashes."""
    digest = bytes(48)

    def update(kind: int, gpa: int, contents: bytes) -> None:
        nonlocal digest
        info = digest + contents + struct.pack("<HBBBBBBQ", 0x70, kind, 0, 0, 0, 0, 0, gpa)
        digest = hashlib.sha384(info).digest()

    start = (1 << 32) - len(image)
    for offset in range(0, len(image), PAGE):
        update(1, start + offset, hashlib.sha384(image[offset : offset + PAGE]).digest())
    for gpa, size, kind in sections:
        for page in range(gpa, gpa + size, PAGE):
            if kind == 0x10 and hashes is not None:
                update(1, page, hashlib.sha384(hashes).digest())
            else:
                update({1: 3, 2: 5, 3: 6, 4: 3, 0x10: 3}[kind], page, bytes(48))
    for vcpu in range(vcpus):
        eip = 0xFFFFFFF0 if vcpu == 0 else reset_eip
        page = vmsa(eip, signature, features)
        update(2, 0xFFFFFFFFF000, hashlib.sha384(page).digest())
    return digest.hex()


def vmsa(eip: int, signature: int, features: int) -> bytes:
    """The first state of a vCPU: 16-bit real mode at ``eip``."""
    page = bytearray(PAGE)

    def segment(at: int, selector: int, attributes: int, base: int) -> None:
        struct.pack_into("<HHIQ", page, at, selector, attributes, 0xFFFF, base)

    segment(0x00, 0, 0x93, 0)  # ES
    segment(0x10, 0xF000, 0x9B, eip & 0xFFFF0000)  # CS
    for at in (0x20, 0x30, 0x40, 0x50):  # SS, DS, FS, GS
        segment(at, 0, 0x93, 0)
    segment(0x60, 0, 0, 0)  # GDTR
    segment(0x70, 0, 0x82, 0)  # LDTR
    segment(0x80, 0, 0, 0)  # IDTR
    segment(0x90, 0, 0x8B, 0)  # TR
    for at, value in {
        0x0D0: 0x1000,  # EFER: SVME
        0x148: 0x40,  # CR4: MCE
        0x158: 0x10,  # CR0: ET
        0x160: 0x400,  # DR7
        0x168: 0xFFFF0FF0,  # DR6
        0x170: 0x2,  # RFLAGS
        0x178: eip & 0xFFFF,  # RIP
        0x268: 0x7040600070406,  # G_PAT
        0x310: signature,  # RDX
        0x3B0: features,  # SEV_FEATURES
        0x3E8: 0x1,  # XCR0
    }.items():
        struct.pack_into("<Q", page, at, value)
    struct.pack_into("<I", page, 0x408, 0x1F80)  # MXCSR
    struct.pack_into("<H", page, 0x410, 0x37F)  # x87 FCW
    return bytes(page)


def kernel_hashes(kernel: bytes, initrd: bytes, cmdline: str, *, offset: int) -> bytes:
    """QEMU's page of hashes: command line, initrd, kernel, in a GUIDed table."""

    def entry(guid: str, data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        return UUID(guid).bytes_le + struct.pack("<H", 18 + len(digest)) + digest

    entries = (
        entry("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", cmdline.encode() + b"\0")
        + entry("44baf731-3a2f-4bd7-9af1-41e29169781d", initrd)
        + entry("4de79437-abd2-427f-b835-d5b172d2045b", kernel)
    )
    head = UUID("9438d606-4f22-4cc9-b479-a793d411fd21").bytes_le
    table = head + struct.pack("<H", 18 + len(entries)) + entries
    return (bytes(offset) + table).ljust(PAGE, b"\0")
