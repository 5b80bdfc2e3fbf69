"""MRTD of a TDX virtual machine, from its firmware (TDVF).

Sources: Intel 348549, "TDX Module Base Architecture Specification", section "MRTD", and the
interface functions TDH.MEM.PAGE.ADD and TDH.MR.EXTEND (what each call hashes); Intel 344991, "TDX
Virtual Firmware Design Guide", section 11 (which pages are added, and which of them measured). MRTD
covers the firmware alone: kernel and command line are in the RTMRs.
"""

from __future__ import annotations

import hashlib
import struct
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.measure.codes import MeasureCode
from regalia.measure.images.ovmf import PAGE_SIZE, TdxAttribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.measure.images.ovmf import OvmfImage, TdxSection

ADDED_MAX = 1 << 30  # bytes of memory that is added before launch
_CHUNK = 256  # bytes that one TDH.MR.EXTEND measures
# A call's first block of 128 bytes: its name, zeros up to 16, the address, zeros.
_BLOCK = struct.Struct("<16sQ104x")
_PAGE_ADD = b"MEM.PAGE.ADD"
_EXTEND = b"MR.EXTEND"


class PageOrder(StrEnum):
    """In which order the host makes its calls for one section. MRTD depends on it."""

    INTERLEAVED = "interleaved"  # each page is added, then measured: KVM in Linux 6.16 and later
    TWO_STEPS = "two-steps"  # all pages are added, then all measured: Intel's out-of-tree KVM


def tdx_mrtd(image: OvmfImage, order: PageOrder) -> bytes:
    """Compute MRTD, 48 bytes.

    Args:
        image: the firmware, parsed.
        order: of the host's calls.

    Raises:
        ParseError: NO_TDX_METADATA or TOO_LARGE.
    """
    if image.tdx_sections is None:
        raise ParseError(MeasureCode.NO_TDX_METADATA, "the firmware has no TDX metadata")
    added = [s for s in image.tdx_sections if TdxAttribute.PAGE_AUG not in s.attributes]
    total = sum(section.size for section in added)
    if total > ADDED_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE,
            f"TDX sections of {total} bytes are added before launch, at most {ADDED_MAX}",
        )
    state = hashlib.sha384()
    for section in added:
        calls = _interleaved if order is PageOrder.INTERLEAVED else _two_steps
        for block in calls(image.data, section):
            state.update(block)
    return state.digest()


def _interleaved(data: bytes, section: TdxSection) -> Iterator[bytes]:
    for offset in range(0, section.size, PAGE_SIZE):
        yield _BLOCK.pack(_PAGE_ADD, section.gpa + offset)
        yield from _extends(data, section, offset)


def _two_steps(data: bytes, section: TdxSection) -> Iterator[bytes]:
    for offset in range(0, section.size, PAGE_SIZE):
        yield _BLOCK.pack(_PAGE_ADD, section.gpa + offset)
    for offset in range(0, section.size, PAGE_SIZE):
        yield from _extends(data, section, offset)


def _extends(data: bytes, section: TdxSection, page: int) -> Iterator[bytes]:
    """The calls that measure one page, if the section's contents are measured."""
    if TdxAttribute.MR_EXTEND not in section.attributes:
        return
    for offset in range(page, page + PAGE_SIZE, _CHUNK):
        yield _BLOCK.pack(_EXTEND, section.gpa + offset)
        size = min(_CHUNK, max(0, section.data_size - offset))
        start = section.data_offset + offset
        yield data[start : start + size].ljust(_CHUNK, b"\0")
