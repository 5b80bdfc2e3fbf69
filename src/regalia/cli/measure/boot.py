"""The work of ``regalia measure uki``, ``eif`` and ``tdvf``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from regalia.cli.output import say, show_facts, show_json, warn
from regalia.cli.wrong_file import EIF, FIRMWARE, PE, wanting
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file
from regalia.measure.images.ovmf import LIMIT as FIRMWARE_LIMIT
from regalia.measure.images.ovmf import parse_ovmf
from regalia.measure.images.pe import LIMIT as PE_LIMIT
from regalia.measure.images.pe import parse_pe
from regalia.measure.pcr import Bank
from regalia.measure.stub import INNER_KERNEL_UNMEASURED_SINCE, inner_kernel_measured, stub_version
from regalia.measure.uki import Start, UkiBoot, measure_uki
from regalia.tees.intel.measure import PageOrder, tdx_mrtd
from regalia.tees.nitro.eif import LIMIT as EIF_LIMIT
from regalia.tees.nitro.eif import parse_eif
from regalia.tees.nitro.measure import measure_eif

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.measure.images.pe import PeImage
    from regalia.measure.uki import UkiMeasurement

_UKI_COVERS = {
    4: "every image that the firmware starts: the whole image, and the kernel inside it",
    9: "command line and initrd, as the kernel received them",
    11: "the image's sections: kernel, initrd, command line, release",
}
_EIF_COVERS = {
    0: "kernel, command line, all ramdisks",
    1: "kernel, command line, first ramdisk",
    2: "the other ramdisks: the application",
    8: "the certificate that signed the image",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UkiOptions:
    """The command line, as ``regalia.cli.measure.command`` names and explains its options."""

    image: Path
    bank: Literal["sha256", "sha384"]
    systemd: int | None
    phases: str
    start: Literal["boot-option", "qemu-kernel"]
    earlier: tuple[Path, ...]
    secure_boot: Literal["on", "off"] | None
    inner_kernel: Literal["measured", "unmeasured"] | None
    show_events: bool
    as_json: bool


def measure_uki_file(options: UkiOptions) -> None:
    """Compute PCR 4, 9 and 11."""
    image = _read_pe(options.image)
    version = options.systemd if options.systemd is not None else stub_version(image)
    boot = UkiBoot(
        systemd=version,
        bank=Bank(options.bank),
        start=Start(options.start),
        earlier=tuple(_read_pe(path) for path in options.earlier),
        inner_kernel=_inner_kernel(options, version),
        phases=tuple(options.phases.split(":")) if options.phases else (),
    )
    result = measure_uki(image, boot)
    if options.as_json:
        show_json(
            {
                "ok": True,
                "bank": options.bank,
                "pcrs": {str(pcr): value.hex() for pcr, value in result.pcrs.items()},
                "systemd": version,
                "phases": list(boot.phases),
                "events": [
                    {"pcr": event.pcr, "digest": event.digest.hex(), "what": event.what}
                    for event in result.events
                ],
                "notes": list(result.notes),
            }
        )
    else:
        _show_uki(options, boot, result)


def _show_uki(options: UkiOptions, boot: UkiBoot, result: UkiMeasurement) -> None:
    _show_pcrs(f"TPM, bank {options.bank}", result.pcrs, _UKI_COVERS)
    if options.show_events:
        events = [(f"PCR {e.pcr}", f"{e.digest.hex()}  {e.what}") for e in result.events]
        show_facts("Events", events)
    show_facts(
        "Assuming",
        [
            ("systemd stub", boot.systemd),
            ("boot phases", options.phases or "none"),
            ("started by", str(boot.start)),
            ("kernel inside", "measured" if boot.inner_kernel else "not measured"),
        ],
    )
    for note in result.notes:
        warn(note)


def measure_eif_file(path: Path, *, as_json: bool) -> None:
    """Compute PCR 0, 1, 2 and 8.

    Args:
        path: of the image.
        as_json: print for programs.
    """
    data = read_file(path, limit=EIF_LIMIT)
    with wanting(EIF, path, data):
        pcrs = measure_eif(parse_eif(data)).pcrs
    if as_json:
        show_json({"ok": True, "pcrs": {str(pcr): value.hex() for pcr, value in pcrs.items()}})
        return
    _show_pcrs("Nitro Enclave, SHA-384", pcrs, _EIF_COVERS)
    if max(_EIF_COVERS) not in pcrs:
        say("The image is not signed: PCR 8 is zeros.")


def measure_tdvf_file(
    path: Path, order: Literal["interleaved", "two-steps"], *, as_json: bool
) -> None:
    """Compute MRTD.

    Args:
        path: of the firmware.
        order: in which pages are added and extended.
        as_json: print for programs.
    """
    data = read_file(path, limit=FIRMWARE_LIMIT)
    with wanting(FIRMWARE, path, data):
        value = tdx_mrtd(parse_ovmf(data), PageOrder(order)).hex()
    if as_json:
        show_json({"ok": True, "mrtd": value, "order": order})
        return
    facts = [
        ("mrtd", value),
        ("covers", str(path)),
        ("leaves open", "kernel, initrd and command line; they are in the RTMRs"),
        ("page order", order),
    ]
    show_facts("TDX launch", facts)


def _read_pe(path: Path) -> PeImage:
    data = read_file(path, limit=PE_LIMIT)
    with wanting(PE, path, data):
        return parse_pe(data)


def _inner_kernel(options: UkiOptions, version: int) -> bool:
    if options.inner_kernel is not None:
        return options.inner_kernel == "measured"
    if options.secure_boot is None and version < INNER_KERNEL_UNMEASURED_SINCE:
        raise UsageError(
            CoreCode.BAD_USAGE,
            f"with the stub of systemd {version}, PCR 4 depends on Secure Boot:"
            " give --secure-boot on or off",
        )
    return inner_kernel_measured(version, secure_boot=options.secure_boot == "on")


def _show_pcrs(title: str, pcrs: dict[int, bytes], covers: dict[int, str]) -> None:
    show_facts(title, [(f"PCR {pcr}", value.hex()) for pcr, value in sorted(pcrs.items())])
    show_facts("They cover", [(f"PCR {pcr}", covers[pcr]) for pcr in sorted(pcrs)])
