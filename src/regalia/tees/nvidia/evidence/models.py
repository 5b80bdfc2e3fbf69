"""Models of devices by the names in their certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.pki import parse_certificate
from regalia.core.errors import ParseError
from regalia.tees.nvidia.evidence.rims import RimKind
from regalia.tees.nvidia.evidence.spdm import parse_report
from regalia.tees.nvidia.evidence.wire import decode_opaque
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.tees.nvidia.evidence.wire import Opaque

# Board and part in the identifier of an LS10's reference values, the same for all of them (NVIDIA's
# attestation SDK): its report does not name them.
_LS10_PART = "5612_0002_890"


@dataclass(frozen=True, slots=True)
class Model:
    """One chip whose reports are understood."""

    name: str  # as certificates spell it
    kind: DeviceKind
    driver_prefix: str  # of the identifier of a driver's reference values; empty for a switch


MODELS = {
    model.name: model
    for model in (
        Model("GH100", DeviceKind.NVIDIA_GPU, "NV_GPU_DRIVER"),  # Hopper
        Model("GB100", DeviceKind.NVIDIA_GPU, "NV_GPU_CC_DRIVER"),  # Blackwell
        Model("LS_10", DeviceKind.NVIDIA_SWITCH, ""),  # NVSwitch of Hopper machines
    )
}


def wanted_rims(model: Model, opaque: Opaque) -> tuple[tuple[RimKind, str, str], ...]:
    """(kind, identifier, version) of the reference values that a device's versions call for.

    Identifiers are those of NVIDIA's RIM service.

    Args:
        model: of the device.
        opaque: the report's opaque data, decoded: it names the versions.
    """
    vbios = opaque.vbios_version.replace(".", "")
    if model.kind is DeviceKind.NVIDIA_SWITCH:
        wanted = f"NV_SWITCH_BIOS_{_LS10_PART}_{vbios}"
        return ((RimKind.SWITCH_BIOS, wanted, opaque.vbios_version),)
    part = f"{opaque.project}_{opaque.project_sku}_{opaque.chip_sku}"
    chip = opaque.chip or model.name
    return (
        (
            RimKind.GPU_DRIVER,
            f"{model.driver_prefix}_{chip}_{opaque.driver_version}",
            opaque.driver_version,
        ),
        (RimKind.GPU_VBIOS, f"NV_GPU_VBIOS_{part}_{vbios}", opaque.vbios_version),
    )


def rim_ids(report: bytes) -> tuple[str, ...]:
    """Identifiers that a report, raw and untrusted, may call for. Raises ParseError."""
    parsed = parse_report(report)
    found: list[str] = []
    for model in MODELS.values():
        try:
            opaque = decode_opaque(parsed, switch=model.kind is DeviceKind.NVIDIA_SWITCH)
        except ParseError:
            continue  # a report of the other kind
        found += [name for _, name, _ in wanted_rims(model, opaque)]
    return tuple(found)


def kind_of_chain(certificates: Sequence[bytes]) -> DeviceKind | None:
    """GPU or switch, by a model's name in the certificates; None if none is there.

    A hint for evidence that does not say it; the verifier compares.
    """
    for der in certificates:
        name = parse_certificate(der, what="device certificate").common_name
        for model in MODELS.values():
            if model.name in name:
                return model.kind
    return None
