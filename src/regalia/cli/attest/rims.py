"""NVIDIA's reference values as XML, given by hand: verified at once, then only our form is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from regalia.wire.evidence import DeviceEvidence

_XML_STARTS = (b"<?xml", b"<SoftwareIdentity")


def is_rim(data: bytes) -> bool:
    """Whether this is XML, of which there is no other kind here."""
    return data.lstrip().startswith(_XML_STARTS)


def ingest_for(
    devices: Sequence[DeviceEvidence], data: bytes, *, path: Path, now: datetime
) -> bytes:
    """A RIM in our form, under the identifier that one of the devices asks for.

    Args:
        devices: that the reference values are for.
        data: XML, raw, untrusted.
        path: where it was read, for errors.
        now: the moment of the appraisal, aware.

    Raises:
        UsageError: the extra ``ingest`` is not installed.
        ParseError: it is no RIM, or none for these devices.
        AttestationError: it is not signed by NVIDIA, or not in time.
    """
    from regalia.tees.nvidia.evidence.anchors import RimAnchors
    from regalia.tees.nvidia.evidence.models import rim_ids

    try:
        from regalia.tees.nvidia.evidence.rim_xml import ingest_rim
    except ImportError as exc:
        raise UsageError(
            CoreCode.PLUGIN_UNKNOWN, "reading RIMs needs the extra: pip install regalia[ingest]"
        ) from exc
    wanted = {name for device in devices for name in rim_ids(device.report)}
    refusal = ParseError(CoreCode.MALFORMED, f"{path}: a RIM, and no device here asks for any")
    for name in (*sorted(wanted), path.stem):
        try:
            rim = ingest_rim(data, rim_id=name, anchors=RimAnchors.production(), now=now)
        except ParseError as exc:
            refusal = exc
            continue
        return rim.encode()
    raise refusal
