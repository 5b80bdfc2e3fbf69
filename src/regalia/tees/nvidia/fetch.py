"""NVIDIA's service for reference integrity manifests (RIM)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import UnavailableError
from regalia.host.fetch_codes import FetchCode

if TYPE_CHECKING:
    from regalia.host.fetch import VendorService

PUBLIC_ADDRESS = "https://rim.attestation.nvidia.com"


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
