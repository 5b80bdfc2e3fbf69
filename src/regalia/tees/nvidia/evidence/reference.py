"""The device's measurements against NVIDIA's reference values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.errors import AttestationError
from regalia.tees.nvidia.evidence.codes import NvidiaCode
from regalia.tees.nvidia.evidence.models import wanted_rims
from regalia.tees.nvidia.names import Status
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from regalia.appraisal.claims import Hardware
    from regalia.tees.nvidia.claims import RimFact
    from regalia.tees.nvidia.evidence.collateral import PreparedNvidia, PreparedRim
    from regalia.tees.nvidia.evidence.models import Model
    from regalia.tees.nvidia.evidence.rims import Rim
    from regalia.tees.nvidia.evidence.spdm import SpdmReport
    from regalia.tees.nvidia.evidence.wire import Opaque

NVDEC_INDEX = 35  # measures the video decoder's firmware, where it is enabled


def match_rims(
    report: SpdmReport,
    opaque: Opaque,
    model: Model,
    *,
    hardware: Hardware,
    collateral: PreparedNvidia,
) -> tuple[tuple[RimFact, ...], tuple[str, ...]]:
    """What matched, and the identifiers of what was not at hand.

    A GPU needs one set for its driver and one for its VBIOS, a switch one for its BIOS. Each
    set that is at hand must match whole: for every index in it, the measurement is one of the
    alternatives. Index i is SPDM block i + 1.

    Args:
        report: its signature was verified.
        opaque: the report's opaque data, decoded.
        model: that the verified certificates name.
        hardware: what the pinned root stands for; only reference values for the same count.
        collateral: what the verifier's operator provides, prepared.

    Raises:
        AttestationError: RIM_MISMATCH.
    """
    measured = report.measurements()
    found: list[PreparedRim] = []
    missing: list[str] = []
    for kind, identifier, version in wanted_rims(model, opaque):
        prepared = collateral.rims.get((hardware, identifier))
        if prepared is None:
            missing.append(identifier)
            continue
        rim = prepared.rim
        if rim.kind is not kind or rim.version.upper() != version.upper():
            raise _mismatch(f"{identifier} is for {rim.kind} {rim.version}, want {kind} {version}")
        if model.kind is DeviceKind.NVIDIA_GPU and rim.product not in (model.name, opaque.chip):
            raise _mismatch(f"{identifier} is for {rim.product}, the device is a {model.name}")
        _require_match(rim, measured, skip_nvdec=opaque.nvdec0 is Status.DISABLED)
        for other in found:
            if not other.indices.isdisjoint(prepared.indices):
                twice = sorted(other.indices & prepared.indices)
                raise _mismatch(f"driver and VBIOS both claim indices {twice}")
        found.append(prepared)
    return tuple(each.fact for each in found), tuple(missing)


def _require_match(rim: Rim, measured: dict[int, bytes], *, skip_nvdec: bool) -> None:
    wrong = [
        index
        for index, alternatives in rim.measurements
        if measured.get(index + 1) not in alternatives and not (skip_nvdec and index == NVDEC_INDEX)
    ]
    if wrong:
        raise _mismatch(f"the measurements at indices {wrong} are none of {rim.id}")


def _mismatch(what: str) -> AttestationError:
    return AttestationError(NvidiaCode.RIM_MISMATCH, what)
