"""The work of ``regalia measure snp``. Importing it needs the extra ``measure``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from regalia.cli.output import show_facts, show_json
from regalia.cli.wrong_file import FIRMWARE, wanting
from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file
from regalia.measure.images.ovmf import LIMIT as FIRMWARE_LIMIT
from regalia.tees.snp.measure import (
    DirectBoot,
    SnpLaunch,
    Vmm,
    snp_measurement,
    vcpu_signature,
    vcpu_signature_of,
)

if TYPE_CHECKING:
    from pathlib import Path

_BOOT_LIMIT = 2048 * MIB  # bytes of a kernel or an initrd
_CPUID_NUMBERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpOptions:
    """The command line, as ``regalia.cli.measure.command`` names and explains its options."""

    firmware: Path
    vcpus: int
    vcpu_type: str | None
    vcpu_cpuid: str | None
    vmm: Literal["qemu", "ec2", "gce"]
    guest_features: str
    kernel: Path | None
    initrd: Path | None
    cmdline: str | None
    as_json: bool


def measure_snp(options: SnpOptions) -> None:
    """Compute the launch digest, and say what it covers."""
    launch = SnpLaunch(
        vcpus=options.vcpus,
        vcpu_signature=_signature(options),
        guest_features=_features(options.guest_features),
        vmm=Vmm(options.vmm),
        direct_boot=_direct_boot(options),
    )
    firmware = read_file(options.firmware, limit=FIRMWARE_LIMIT)
    with wanting(FIRMWARE, options.firmware, firmware):
        value = snp_measurement(firmware, launch).hex()
    if options.as_json:
        show_json(
            {
                "ok": True,
                "measurement": value,
                "vcpus": launch.vcpus,
                "vcpu_signature": f"{launch.vcpu_signature:#x}",
                "guest_features": f"{launch.guest_features:#x}",
                "vmm": str(launch.vmm),
                "direct_boot": launch.direct_boot is not None,
            }
        )
        return
    covers = [str(options.firmware), f"{launch.vcpus} vCPUs as {launch.vmm} starts them"]
    if launch.direct_boot is not None:
        covers.append("kernel, initrd and command line")
    facts = [("measurement", value), ("covers", ", ".join(covers))]
    if launch.direct_boot is None:
        facts.append(("leaves open", "what the firmware boots; see --kernel"))
    facts.append(("guest features", f"{launch.guest_features:#x}"))
    show_facts("SEV-SNP launch", facts)


def _signature(options: SnpOptions) -> int:
    """EC2 and GCE do not put the CPU's signature into the first state, so it may be left out."""
    if options.vcpu_type is not None and options.vcpu_cpuid is not None:
        raise UsageError(CoreCode.BAD_USAGE, "give --vcpu-type or --vcpu-cpuid, not both")
    if options.vcpu_type is not None:
        return vcpu_signature(options.vcpu_type)
    if options.vcpu_cpuid is not None:
        numbers = options.vcpu_cpuid.split(",")
        if len(numbers) != _CPUID_NUMBERS or not all(n.isascii() and n.isdigit() for n in numbers):
            raise UsageError(
                CoreCode.BAD_USAGE,
                f"--vcpu-cpuid {options.vcpu_cpuid!r}: want family,model,stepping in decimal",
            )
        family, model, stepping = (int(number[:9]) for number in numbers)
        return vcpu_signature_of(family=family, model=model, stepping=stepping)
    if options.vmm == "qemu":
        raise UsageError(CoreCode.BAD_USAGE, "with QEMU, give --vcpu-type or --vcpu-cpuid")
    return 0


def _features(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError as exc:
        raise UsageError(CoreCode.BAD_USAGE, f"--guest-features {text!r}: not hex") from exc


def _direct_boot(options: SnpOptions) -> DirectBoot | None:
    if options.kernel is None:
        if options.initrd is not None or options.cmdline is not None:
            raise UsageError(CoreCode.BAD_USAGE, "--initrd and --cmdline need --kernel")
        return None
    return DirectBoot(
        kernel=read_file(options.kernel, limit=_BOOT_LIMIT),
        initrd=b"" if options.initrd is None else read_file(options.initrd, limit=_BOOT_LIMIT),
        cmdline=options.cmdline or "",
    )
