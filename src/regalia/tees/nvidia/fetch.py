"""NVIDIA's service for reference integrity manifests (RIM)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import UnavailableError
from regalia.host.fetch_codes import FetchCode
from regalia.tees.nvidia.evidence.needs import device_rims
from regalia.tees.nvidia.evidence.online import RIMS
from regalia.tees.nvidia.evidence.signed_files import ingest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.online_collateral import FetchContext
    from regalia.host.fetch import VendorService
    from regalia.tees.nvidia.evidence.anchors import NvidiaAnchors
    from regalia.wire.evidence import DeviceEvidence


class _Answer(msgspec.Struct, frozen=True):
    rim: str  # base64 of the XML


def fetch_rim(service: VendorService, rim_id: str) -> bytes:
    """One manifest, signed XML, untrusted.

    Args:
        service: NVIDIA's RIM service.
        rim_id: the manifest's identifier there.

    Raises:
        UnavailableError: also if the answer is not what the service is to answer.
    """
    body = service.get(f"/v1/rim/{rim_id}").body
    try:
        text = msgspec.json.decode(body, type=_Answer).rim
        return base64.b64decode(text, validate=True)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, binascii.Error) as exc:
        raise UnavailableError(
            FetchCode.COLLATERAL_SERVICE_FAILED, f"{rim_id}: no manifest in the answer"
        ) from exc


def fetch(every: Sequence[DeviceEvidence], at: FetchContext[NvidiaAnchors]) -> dict[str, bytes]:
    """Reference values of the devices' firmware: NVIDIA's XML is verified, and ours is kept.

    Args:
        every: evidence of devices, raw, untrusted; says which firmware.
        at: whom to ask, and when. Manifests have roots of their own.

    Raises:
        UsageError: no address is given, or the extra that reads NVIDIA's XML is not installed.
        UnavailableError: the service does not answer.
        ParseError, AttestationError: what it answered is not signed by NVIDIA.
    """
    service = at.ask(RIMS)
    wanted = dict.fromkeys(name for device in every for name in device_rims(device))
    return {
        f"{name}.json": ingest(fetch_rim(service, name), names=(name,), now=at.now)
        for name in wanted
    }
