"""The device's measurements against NVIDIA's reference values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.attest.nvidia.codes import NvidiaCode
from regalia.attest.nvidia.models import wanted_rims
from regalia.core.errors import AttestationError
from regalia.formats.evidence import DeviceKind
from regalia.formats.nvidia import Status

if TYPE_CHECKING:
    from regalia.attest.nvidia.collateral import PreparedNvidia, PreparedRim
    from regalia.attest.nvidia.models import Model
    from regalia.formats.claims import Hardware
    from regalia.formats.claims_nvidia import RimFact
    from regalia.formats.nvidia import Opaque
    from regalia.formats.rim import Rim
    from regalia.formats.spdm import SpdmReport

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
