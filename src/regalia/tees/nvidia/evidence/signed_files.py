"""NVIDIA's signed reference values (RIM, XML): verified once, then only our form is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.evidence_plugin import SignedFiles
from regalia.core.errors import CoreCode, ParseError
from regalia.core.extras import missing_extra
from regalia.tees.nvidia.evidence.anchors import RimAnchors
from regalia.tees.nvidia.evidence.models import rim_ids

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.wire.evidence import DeviceEvidence

_XML_STARTS = (b"<?xml", b"<SoftwareIdentity")


def is_xml(data: bytes) -> bool:
    """Whether this is XML, of which there is no other kind among collateral."""
    return data.lstrip().startswith(_XML_STARTS)


def ingest(data: bytes, *, names: Sequence[str], now: datetime) -> bytes:
    """A RIM as a document of reference values, ``regalia/rim/v1``.

    Args:
        data: XML, raw, untrusted.
        names: identifiers at NVIDIA's service that it may have; the first that fits is taken.
        now: the signer's certificate must be valid then, aware.

    Raises:
        UsageError: EXTRA_MISSING, the extra ``ingest`` is not installed.
        ParseError: it is no RIM, or has none of these names.
        AttestationError: NVIDIA has not signed it, or it is not in date.
    """
    try:
        from regalia.tees.nvidia.evidence.rim_xml import ingest_rim  # noqa: PLC0415 - of an extra
    except ImportError as exc:
        raise missing_extra(exc) or exc from exc
    refusal = ParseError(CoreCode.MALFORMED, "a RIM without a name")
    for name in names:
        try:
            rim = ingest_rim(data, rim_id=name, anchors=RimAnchors.production(), now=now)
        except ParseError as exc:
            refusal = exc
            continue
        return rim.encode()
    raise refusal


def ingest_for(
    data: bytes, *, devices: Sequence[DeviceEvidence], name: str, now: datetime
) -> bytes:
    """A RIM under the name that one of the devices asks for, or else under its file's name.

    Args:
        data: XML, raw, untrusted.
        devices: that the reference values may be for, untrusted.
        name: of the file, without its ending.
        now: the signer's certificate must be valid then, aware.

    Raises as ``ingest``.
    """
    asked = {each for device in devices for each in rim_ids(device.report)}
    return ingest(data, names=(*sorted(asked), name), now=now)


RIM_FILES = SignedFiles(endings=(".xml", ".swidtag"), recognizes=is_xml, ingest=ingest_for)
