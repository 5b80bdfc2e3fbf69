"""Claims that rest on a late bundle say so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from regalia.appraisal.claims import MINT, Revocation
from regalia.verifier.registry import plugin_for

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims, DeviceClaims

C = TypeVar("C", bound="Claims")


def mark_grace(claims: C) -> C:
    """The same claims, of which revocation is known from late collateral only; devices included.

    What is unknown stays unknown: grace makes nothing better.
    """
    devices = tuple(map(_device, claims.devices))
    if devices != claims.devices:
        claims = replace(claims, devices=devices, mint=MINT)  # type: ignore[type-var] # a protocol cannot say "dataclass"
    if claims.revocation is not Revocation.CHECKED:
        return claims
    weaker: C = plugin_for(claims.tee).weaken(claims)
    return weaker


def _device(claims: DeviceClaims) -> DeviceClaims:
    if claims.revocation is not Revocation.CHECKED:
        return claims
    weaker: DeviceClaims = plugin_for(claims.kind).weaken(claims)
    return weaker
