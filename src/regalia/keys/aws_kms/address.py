"""Locations ``REGION`` or ``arn:aws:kms:REGION:ACCOUNT``, with ``?endpoint=URL&ca=FILE`` behind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import httpx

from regalia.core.errors import UsageError
from regalia.keys.service_codes import KeyServiceCode
from regalia.keys.service_http import require_private_way

if TYPE_CHECKING:
    from pathlib import Path

_REGION = re.compile(r"[a-z]{2}(-[a-z]{1,16}){1,3}-[0-9]{1,2}")
_ARN = re.compile(rf"arn:aws[a-z-]{{0,16}}:kms:({_REGION.pattern}):[0-9]{{12}}")
_KEY_ID = re.compile(r"(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class KmsAddress:
    """Where KEKs are.

    Attributes:
        region: of AWS.
        owner: ARN of region and account; None for the account of the credentials.
        endpoint: None for the region's own.
        authorities: file of authorities of the endpoint; None for the public ones.
    """

    region: str
    owner: str | None
    endpoint: httpx.URL | None
    authorities: Path | None

    def key_id(self, kek: str) -> str:
        """What KMS calls a KEK: its alias, or its id if the name is one."""
        name = kek if _KEY_ID.fullmatch(kek) else f"alias/{kek}"
        if self.owner is None:
            return name
        return f"{self.owner}:{name if name.startswith('alias/') else f'key/{name}'}"

    def __str__(self) -> str:
        return f"AWS KMS in {self.region}"


def parse_address(location: str, folder: Path) -> KmsAddress:
    """Parse a location.

    Args:
        location: as the configuration has it.
        folder: where a relative path in it begins.

    Raises:
        UsageError: KEY_SERVICE_ADDRESS.
    """
    place, _, query = location.partition("?")
    found = _ARN.fullmatch(place)
    region = found[1] if found else place
    if not _REGION.fullmatch(region):
        raise _wrong(f"want REGION or arn:aws:kms:REGION:ACCOUNT, got {place[:80]!r}")
    try:
        settings = parse_qsl(query, strict_parsing=True) if query else []
        given = dict(settings)
        endpoint = httpx.URL(given["endpoint"]) if "endpoint" in given else None
    except (httpx.InvalidURL, ValueError) as exc:
        raise _wrong("want ?endpoint=URL&ca=FILE") from exc
    if len(given) != len(settings) or not set(given) <= {"endpoint", "ca"}:
        raise _wrong(f"want endpoint and ca, got {sorted(name for name, _ in settings)}")
    if endpoint is not None:
        require_private_way(endpoint, "aws-kms: endpoint")
    authorities = folder / given["ca"] if "ca" in given else None
    return KmsAddress(region, place if found else None, endpoint, authorities)


def _wrong(what: str) -> UsageError:
    return UsageError(KeyServiceCode.KEY_SERVICE_ADDRESS, f"aws-kms: {what}")
