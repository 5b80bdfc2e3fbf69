"""Launch digest of a SEV-SNP virtual machine: firmware, kernel hashes, and each vCPU's first state.

Source: AMD 56860, SEV-SNP firmware ABI, section 8.17 (SNP_LAUNCH_UPDATE and PAGE_INFO). The digest
is computed by the library sev-snp-measure, on bytes that were parsed strictly here before: it
asserts where this module refuses. Needs the extra ``measure``.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sevsnpmeasure import guest, vcpu_types, vmm_types
from sevsnpmeasure.sev_mode import SevMode

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.measure.codes import MeasureCode
from regalia.measure.images.ovmf import SevSectionType, parse_ovmf

if TYPE_CHECKING:
    from collections.abc import Iterator

VCPUS_MAX = 1024
SNP_ACTIVE = 1 << 0  # SEV_FEATURES: the bit that every SNP guest has
_FEATURES_MAX = (1 << 64) - 1
_U8_MAX = 0xFF


class Vmm(StrEnum):
    """Hypervisors start vCPUs in states of their own."""

    QEMU = "qemu"
    EC2 = "ec2"
    GCE = "gce"


_LIBRARY_VMM = {
    Vmm.QEMU: vmm_types.VMMType.QEMU,
    Vmm.EC2: vmm_types.VMMType.ec2,
    Vmm.GCE: vmm_types.VMMType.gce,
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DirectBoot:
    """What QEMU passes to the firmware with kernel-hashes=on."""

    kernel: bytes
    initrd: bytes  # empty if there is none
    cmdline: str  # without a final NUL; empty if there is none


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SnpLaunch:
    """How a machine is launched."""

    vcpus: int
    vcpu_signature: int  # CPUID Fn0000_0001_EAX; EC2 and GCE do not put it into the first state
    guest_features: int  # SEV_FEATURES of every vCPU
    vmm: Vmm
    direct_boot: DirectBoot | None  # None: the firmware finds what it boots, unmeasured


def vcpu_types_known() -> tuple[str, ...]:
    """QEMU's names of CPU types, sorted."""
    return tuple(sorted(vcpu_types.CPU_SIGS))


def vcpu_signature(name: str) -> int:
    """The CPU signature of a type that QEMU knows by this name.

    Raises:
        UsageError: VCPU_TYPE_UNKNOWN.
    """
    if name not in vcpu_types.CPU_SIGS:
        raise UsageError(
            MeasureCode.VCPU_TYPE_UNKNOWN,
            f"no vCPU type {name!r}; known are {', '.join(vcpu_types_known())}",
        )
    return int(vcpu_types.CPU_SIGS[name])


def vcpu_signature_of(*, family: int, model: int, stepping: int) -> int:
    """The CPU signature of these numbers, as /proc/cpuinfo shows them in decimal.

    Args:
        family: 0 to 270.
        model: 0 to 255.
        stepping: 0 to 15.

    Raises:
        UsageError: VCPU_TYPE_UNKNOWN if they do not fit.
    """
    family_max = 0xF + _U8_MAX
    if not (0 <= family <= family_max and 0 <= model <= _U8_MAX and 0 <= stepping <= 0xF):  # noqa: PLR2004 - the field's width
        raise UsageError(
            MeasureCode.VCPU_TYPE_UNKNOWN,
            f"no CPU has family {family}, model {model}, stepping {stepping}",
        )
    return int(vcpu_types.cpu_sig(family, model, stepping))


def snp_measurement(firmware: bytes, launch: SnpLaunch) -> bytes:
    """Compute the launch digest, 48 bytes: MEASUREMENT of the attestation report.

    Args:
        firmware: the whole OVMF image.
        launch: how the machine is started.

    Raises:
        ParseError: MALFORMED and others if the firmware does not parse, NO_SEV_METADATA,
            NO_KERNEL_HASHES.
        UsageError: BAD_USAGE if the numbers cannot be those of a machine.
    """
    _require_possible(launch)
    _require_measurable(firmware, launch)
    boot = launch.direct_boot
    with ExitStack() as files:
        names = [
            files.enter_context(_as_file(data)) if data is not None else None
            for data in (
                firmware,
                boot.kernel if boot else None,
                boot.initrd if boot else None,
            )
        ]
        try:
            digest = guest.calc_launch_digest(
                SevMode.SEV_SNP,
                launch.vcpus,
                launch.vcpu_signature,
                names[0],
                names[1],
                names[2],
                boot.cmdline if boot else None,
                launch.guest_features,
                vmm_type=_LIBRARY_VMM[launch.vmm],
            )
        except (ArithmeticError, AssertionError, AttributeError, LookupError) as exc:
            raise _refused(exc) from exc
        except (RuntimeError, TypeError, ValueError, struct.error) as exc:
            raise _refused(exc) from exc
    return bytes(digest)


def _refused(exc: Exception) -> ParseError:
    return ParseError(
        CoreCode.MALFORMED, f"OVMF image: sev-snp-measure refuses it: {type(exc).__name__}: {exc}"
    )


def _require_possible(launch: SnpLaunch) -> None:
    if not 1 <= launch.vcpus <= VCPUS_MAX:
        raise UsageError(CoreCode.BAD_USAGE, f"{launch.vcpus} vCPUs, want 1 to {VCPUS_MAX}")
    if not 0 <= launch.guest_features <= _FEATURES_MAX:
        raise UsageError(CoreCode.BAD_USAGE, "guest features are a number of 64 bits")
    if not launch.guest_features & SNP_ACTIVE:
        raise UsageError(
            CoreCode.BAD_USAGE,
            f"guest features {launch.guest_features:#x} leave out bit 0, which every SNP guest has",
        )
    if launch.direct_boot and "\0" in launch.direct_boot.cmdline:
        raise UsageError(CoreCode.BAD_USAGE, "the command line has a NUL inside")


def _require_measurable(firmware: bytes, launch: SnpLaunch) -> None:
    """Refuse firmware for which the library would fail, or leave something out."""
    image = parse_ovmf(firmware)
    if image.sev_sections is None:
        raise ParseError(MeasureCode.NO_SEV_METADATA, "the firmware has no SEV metadata")
    if image.reset_eip is None:
        raise ParseError(
            MeasureCode.NO_SEV_METADATA, "the firmware does not say where further vCPUs start"
        )
    hashes = [s for s in image.sev_sections if s.kind is SevSectionType.SNP_KERNEL_HASHES]
    if launch.direct_boot is None:
        return
    if not hashes or image.hash_table_gpa is None:
        raise ParseError(
            MeasureCode.NO_KERNEL_HASHES,
            "the firmware has no SNP_KERNEL_HASHES section, and a kernel was given",
        )
    (page,) = hashes[:1]
    if not page.gpa <= image.hash_table_gpa < page.gpa + page.size or len(hashes) > 1:
        raise ParseError(
            CoreCode.MALFORMED, "OVMF image: the hash table does not lie in the one hashes page"
        )


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A name under which the library, which takes files, reads these bytes from memory."""
    fd = os.memfd_create("regalia-measure", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
