"""Reason codes of computing launch measurements."""

from __future__ import annotations

from regalia.core.errors import Code


class MeasureCode(Code):
    """Artifacts from which the wanted measurement cannot be computed."""

    NO_SEV_METADATA = (
        "Without SEV metadata no host can launch this firmware under SEV-SNP.",
        (
            "Give the firmware that the machines run, whole: edk2's OVMF.fd, built from OvmfPkgX64 "
            "or AmdSev, edk2-stable202205 or later."
        ),
    )
    NO_TDX_METADATA = (
        "Without TDX metadata no host can launch this firmware under TDX.",
        (
            "Give the firmware that the machines run, whole: edk2's OVMF.fd, built from OvmfPkgX64 "
            "or IntelTdx, edk2-stable202205 or later."
        ),
    )
    NO_KERNEL_HASHES = (
        (
            "This firmware has no page for the hashes of kernel, initrd and command line, so the "
            "launch measurement would not cover them."
        ),
        "Use OVMF built from OvmfPkg/AmdSev, or leave the kernel out and measure it elsewhere.",
    )
    VCPU_TYPE_UNKNOWN = (
        "The measurement covers each vCPU's first state, which holds the CPU's signature.",
        "Name a type from the list, or give --vcpu-cpuid.",
    )
    NOT_A_UKI = (
        "A unified kernel image is a PE file with a .linux section, which holds the kernel.",
        "Give the file that the firmware starts: the output of ukify, or of objcopy on the stub.",
    )
    STUB_VERSION_UNKNOWN = (
        "What systemd's stub measures depends on its version.",
        "Give --systemd with the version of systemd whose stub is in the image, 252 or later.",
    )
    UKI_UNPREDICTABLE = (
        (
            "The stub chooses among parts of this image by the hardware or by the boot menu, so "
            "there is not one measurement."
        ),
        "Build an image without .dtbauto and .efifw sections and with one profile at most.",
    )
