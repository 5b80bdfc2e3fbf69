"""``regalia measure``: launch measurements from build artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

_FILE = click.Path(path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def measure() -> None:
    """Compute launch measurements from build artifacts.

    What a platform will report about a machine started from these files. Put the values into a
    policy, and the first machine need not be trusted on sight.
    """


@measure.command()
@click.argument("firmware", type=_FILE)
@click.option(
    "--vcpus",
    type=click.IntRange(1, 1024),
    required=True,
    metavar="N",
    help="How many vCPUs the machine has.",
)
@click.option(
    "--vcpu-type",
    metavar="NAME",
    help="QEMU's name of the CPU type, such as EPYC-v4 or EPYC-Genoa. With --vmm qemu, give this"
    " or --vcpu-cpuid.",
)
@click.option(
    "--vcpu-cpuid",
    metavar="F,M,S",
    help="In place of a name: family, model and stepping, in decimal.",
)
@click.option(
    "--vmm",
    type=click.Choice(["qemu", "ec2", "gce"]),
    default="qemu",
    show_default=True,
    help="Hypervisor, which decides the vCPUs' first state.",
)
@click.option(
    "--guest-features",
    default="0x1",
    show_default=True,
    metavar="HEX",
    help="SEV_FEATURES of the vCPUs. Hosts with Linux 6.6 or later may set debug swap: 0x21.",
)
@click.option("--kernel", type=_FILE, metavar="FILE", help="Kernel of a direct, measured boot.")
@click.option("--initrd", type=_FILE, metavar="FILE", help="Its initrd.")
@click.option("--cmdline", metavar="TEXT", help="Its command line.")
@_json
def snp(
    *,
    firmware: Path,
    vcpus: int,
    vcpu_type: str | None,
    vcpu_cpuid: str | None,
    vmm: Literal["qemu", "ec2", "gce"],
    guest_features: str,
    kernel: Path | None,
    initrd: Path | None,
    cmdline: str | None,
    as_json: bool,
) -> None:
    """MEASUREMENT of a SEV-SNP machine.

    FIRMWARE is the whole OVMF image. With --kernel, which needs OVMF built from AmdSev and QEMU's
    kernel-hashes=on, the measurement covers kernel, initrd and command line as well.
    """
    from regalia.core.errors import UsageError
    from regalia.measure.codes import MeasureCode

    try:
        from regalia.cli.measure.snp import SnpOptions, measure_snp
    except ModuleNotFoundError as exc:
        if exc.name is None or not exc.name.startswith("sevsnpmeasure"):
            raise
        raise UsageError(
            MeasureCode.MEASURE_EXTRA_MISSING, "sev-snp-measure is not installed"
        ) from exc

    measure_snp(
        SnpOptions(
            firmware=firmware,
            vcpus=vcpus,
            vcpu_type=vcpu_type,
            vcpu_cpuid=vcpu_cpuid,
            vmm=vmm,
            guest_features=guest_features,
            kernel=kernel,
            initrd=initrd,
            cmdline=cmdline,
            as_json=as_json,
        )
    )


@measure.command()
@click.argument("image", type=_FILE)
@click.option(
    "--bank",
    type=click.Choice(["sha256", "sha384"]),
    default="sha256",
    show_default=True,
    help="Bank of the TPM's registers.",
)
@click.option(
    "--systemd",
    type=click.IntRange(1, 9999),
    metavar="VERSION",
    help="Version of the systemd stub in the image. Default: what the stub says of itself.",
)
@click.option(
    "--phases",
    default="",
    metavar="PATH",
    help="Boot phases that were reached when PCR 11 is read, such as"
    " enter-initrd:leave-initrd:sysinit:ready. Default: none.",
)
@click.option(
    "--start",
    type=click.Choice(["boot-option", "qemu-kernel"]),
    default="boot-option",
    show_default=True,
    help="How the firmware starts the first image: from a disk or the network, or OVMF with"
    " QEMU's -kernel.",
)
@click.option(
    "--earlier",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="Image that runs before this one: shim, a boot loader. Repeat it, first one first.",
)
@click.option(
    "--secure-boot",
    type=click.Choice(["on", "off"]),
    help="Whether Secure Boot is on. Needed for stubs up to systemd 257: if it is off, the firmware"
    " measures the kernel inside the image as well.",
)
@click.option(
    "--inner-kernel",
    type=click.Choice(["measured", "unmeasured"]),
    help="For firmware that does not follow this rule: whether it measures the kernel inside. The"
    " event log of one such machine shows it.",
)
@click.option("--events", "show_events", is_flag=True, help="List every measured event as well.")
@_json
def uki(
    *,
    image: Path,
    bank: Literal["sha256", "sha384"],
    systemd: int | None,
    phases: str,
    start: Literal["boot-option", "qemu-kernel"],
    earlier: tuple[Path, ...],
    secure_boot: Literal["on", "off"] | None,
    inner_kernel: Literal["measured", "unmeasured"] | None,
    show_events: bool,
    as_json: bool,
) -> None:
    """PCR 4, 9 and 11 of a machine that boots a unified kernel image.

    IMAGE is the file as the firmware starts it: if it is signed, the signed one. A policy that
    pins PCR 9 should pin PCR 12 to zeros as well: what the host adds to the command line or to the
    initrd is measured there.
    """
    from regalia.cli.measure.boot import UkiOptions, measure_uki_file

    measure_uki_file(
        UkiOptions(
            image=image,
            bank=bank,
            systemd=systemd,
            phases=phases,
            start=start,
            earlier=earlier,
            secure_boot=secure_boot,
            inner_kernel=inner_kernel,
            show_events=show_events,
            as_json=as_json,
        )
    )


@measure.command()
@click.argument("image", type=_FILE)
@_json
def eif(*, image: Path, as_json: bool) -> None:
    """PCR 0, 1, 2 and, if it is signed, 8 of an AWS Nitro Enclave.

    IMAGE is the .eif file. Its signature is not checked; the hypervisor does that when it starts
    the enclave.
    """
    from regalia.cli.measure.boot import measure_eif_file

    measure_eif_file(image, as_json=as_json)


@measure.command()
@click.argument("firmware", type=_FILE)
@click.option(
    "--order",
    type=click.Choice(["interleaved", "two-steps"]),
    default="interleaved",
    show_default=True,
    help="How the host launches: each page added, then measured (Linux 6.16 and later), or all"
    " added, then all measured (Intel's kernels before that).",
)
@_json
def tdvf(*, firmware: Path, order: Literal["interleaved", "two-steps"], as_json: bool) -> None:
    """MRTD of a TDX machine, from its firmware.

    FIRMWARE is the whole OVMF image. MRTD covers nothing else: kernel, initrd and command line are
    in the RTMRs.
    """
    from regalia.cli.measure.boot import measure_tdvf_file

    measure_tdvf_file(firmware, order, as_json=as_json)
