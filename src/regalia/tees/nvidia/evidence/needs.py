"""What reference values a device's report calls for. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.collateral import provided
from regalia.appraisal.pki import parse_certificate
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.nvidia.evidence.models import MODELS, wanted_rims
from regalia.tees.nvidia.evidence.rims import parse_rim
from regalia.tees.nvidia.evidence.spdm import parse_report
from regalia.tees.nvidia.evidence.wire import decode_opaque
from regalia.wire.collateral import CollateralKind
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.collateral import GivenCollateral, Need
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.nvidia.evidence.spdm import SpdmParts
    from regalia.wire.evidence import DeviceEvidence


def needs(parsed: Parsed[DeviceEvidence, SpdmParts], have: GivenCollateral) -> Iterator[Need]:
    """Reference values of driver and VBIOS. Raises ParseError.

    Args:
        parsed: untrusted.
        have: what the verifier's operator provides, by kind.
    """
    known = {parse_rim(data).id for data in have.of(CollateralKind.RIM)}
    for name in device_rims(parsed.raw):
        yield provided(CollateralKind.RIM, name, have=name in known)


def device_rims(device: DeviceEvidence) -> tuple[str, ...]:
    """Identifiers of the reference values that a device's report calls for; untrusted.

    Raises:
        ParseError: the report is malformed, or of a model that is not known.
    """
    switch = device.kind is DeviceKind.NVIDIA_SWITCH
    opaque = decode_opaque(parse_report(device.report), switch=switch)
    names = [parse_certificate(d, what="endorsement").common_name for d in device.endorsements]
    for model in MODELS.values():
        if model.kind is device.kind and any(model.name in name for name in names):
            return tuple(name for _, name, _ in wanted_rims(model, opaque))
    raise ParseError(CoreCode.MALFORMED, f"a {device.kind} of a model that is not known here")
