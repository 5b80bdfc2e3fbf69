"""What GPUs and switches say of each other: NVLink must not lead out of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.tees.nvidia.claims import NvidiaClaims


def check_topology(devices: Sequence[NvidiaClaims]) -> None:
    """Switches behind the GPUs' links and GPUs behind the switches' are those that are here.

    Devices that state nothing are not checked; if any GPU names switches, all must name the same
    ones, and those are exactly the switches here. Switches must all name the same GPUs, as many
    as there are here. (A GPU's report does not state its own identifier on the links.)

    Raises:
        AttestationError: COMPOSITE_MISMATCH.
    """
    gpus = [device for device in devices if device.kind is DeviceKind.NVIDIA_GPU]
    switches = [device for device in devices if device.kind is DeviceKind.NVIDIA_SWITCH]
    named_switches = {gpu.switch_pdis for gpu in gpus}
    here = tuple(sorted(switch.pdi for switch in switches))
    if named_switches not in (set(), {()}, {here}):
        seen = sorted({pdi.hex() for pdis in named_switches for pdi in pdis})
        raise _mismatch(
            f"GPUs are linked to switches {', '.join(seen)},"
            f" and evidence came from {', '.join(pdi.hex() for pdi in here) or 'none'}"
        )
    named_gpus = {switch.gpu_pdis for switch in switches}
    if len(named_gpus) > 1:
        raise _mismatch("the switches are not all linked to the same GPUs")
    for pdis in named_gpus:
        if pdis and len(pdis) != len(gpus):
            raise _mismatch(
                f"switches are linked to {len(pdis)} GPUs, and {len(gpus)} sent evidence"
            )


def _mismatch(what: str) -> AttestationError:
    return AttestationError(AttestCode.COMPOSITE_MISMATCH, what)
