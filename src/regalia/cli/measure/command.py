"""``regalia measure``: launch measurements from build artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from regalia.cli.options import PATH, flag, json_option, number_option, option, path_option

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def measure() -> None:
    """Compute launch measurements from build artifacts.

    What a platform will report about a machine started from these files. Put the values into a
    policy, and the first machine need not be trusted on sight.
    """


@measure.command()
@click.argument("firmware", type=PATH)
@number_option("--vcpus N", "How many vCPUs the machine has.", 1, 1024, required=True)
@option(
    "--vcpu-type NAME",
    "QEMU's name of the CPU type, such as EPYC-v4 or EPYC-Genoa. With --vmm qemu, give this"
    " or --vcpu-cpuid.",
)
@option("--vcpu-cpuid F,M,S", "In place of a name: family, model and stepping, in decimal.")
@option("--vmm [qemu|ec2|gce]", "Hypervisor, which decides the vCPUs' first state.", default="qemu")
@option(
    "--guest-features HEX",
    "SEV_FEATURES of the vCPUs. Hosts with Linux 6.6 or later may set debug swap: 0x21.",
    default="0x1",
)
@path_option("--kernel FILE", "Kernel of a direct, measured boot.")
@path_option("--initrd FILE", "Its initrd.")
@option("--cmdline TEXT", "Its command line.")
@json_option
def snp(**options: Any) -> None:  # noqa: ANN401 - see SnpOptions
    """MEASUREMENT of a SEV-SNP machine.

    FIRMWARE is the whole OVMF image. With --kernel, which needs OVMF built from AmdSev and QEMU's
    kernel-hashes=on, the measurement covers kernel, initrd and command line as well.
    """
    from regalia.cli.measure.snp import SnpOptions, measure_snp

    measure_snp(SnpOptions(**options))


@measure.command()
@click.argument("image", type=PATH)
@option("--bank [sha256|sha384]", "Bank of the TPM's registers.", default="sha256")
@number_option(
    "--systemd VERSION",
    "Version of the systemd stub in the image. Default: what the stub says of itself.",
    1,
    9999,
)
@option(
    "--phases PATH",
    "Boot phases that were reached when PCR 11 is read, such as"
    " enter-initrd:leave-initrd:sysinit:ready. Default: none.",
    default="",
    show_default=False,
)
@option(
    "--start [boot-option|qemu-kernel]",
    "How the firmware starts the first image: from a disk or the network, or OVMF with"
    " QEMU's -kernel.",
    default="boot-option",
)
@path_option(
    "--earlier FILE",
    "Image that runs before this one: shim, a boot loader. Repeat it, first one first.",
    multiple=True,
)
@option(
    "--secure-boot [on|off]",
    "Whether Secure Boot is on. Needed for stubs up to systemd 257: if it is off, the firmware"
    " measures the kernel inside the image as well.",
)
@option(
    "--inner-kernel [measured|unmeasured]",
    "For firmware that does not follow this rule: whether it measures the kernel inside. The"
    " event log of one such machine shows it.",
)
@flag("--events", "List every measured event as well.", into="show_events")
@json_option
def uki(**options: Any) -> None:  # noqa: ANN401 - see UkiOptions
    """PCR 4, 9 and 11 of a machine that boots a unified kernel image.

    IMAGE is the file as the firmware starts it: if it is signed, the signed one. A policy that
    pins PCR 9 should pin PCR 12 to zeros as well: what the host adds to the command line or to the
    initrd is measured there.
    """
    from regalia.cli.measure.boot import UkiOptions, measure_uki_file

    measure_uki_file(UkiOptions(**options))


@measure.command()
@click.argument("image", type=PATH)
@json_option
def eif(*, image: Path, as_json: bool) -> None:
    """PCR 0, 1, 2 and, if it is signed, 8 of an AWS Nitro Enclave.

    IMAGE is the .eif file. Its signature is not checked; the hypervisor does that when it starts
    the enclave.
    """
    from regalia.cli.measure.boot import measure_eif_file

    measure_eif_file(image, as_json=as_json)


@measure.command()
@click.argument("firmware", type=PATH)
@option(
    "--order [interleaved|two-steps]",
    "How the host launches: each page added, then measured (Linux 6.16 and later), or all"
    " added, then all measured (Intel's kernels before that).",
    default="interleaved",
)
@json_option
def tdvf(*, firmware: Path, order: Literal["interleaved", "two-steps"], as_json: bool) -> None:
    """MRTD of a TDX machine, from its firmware.

    FIRMWARE is the whole OVMF image. MRTD covers nothing else: kernel, initrd and command line are
    in the RTMRs.
    """
    from regalia.cli.measure.boot import measure_tdvf_file

    measure_tdvf_file(firmware, order, as_json=as_json)
