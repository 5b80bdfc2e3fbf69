"""Claims that rest on a late bundle say so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from regalia.appraisal.claims import MINT, Revocation
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims, DeviceClaims

C = TypeVar("C", bound="Claims")


def mark_grace(claims: C) -> C:
    """The same claims, of which revocation is known from late collateral only; devices included.

    What is unknown stays unknown: grace makes nothing better.
    """
    devices = tuple(_lowered(device) for device in claims.devices)
    if devices != claims.devices:
        return cast("C", _lowered(claims, devices=devices))
    return cast("C", _lowered(claims))


def _lowered(claims: Claims | DeviceClaims, **changes: object) -> Any:  # noqa: ANN401 - the class of its argument
    if claims.revocation is Revocation.CHECKED:
        match claims:  # what is known of Azure's machines is known of their processors
            case AzureSnpClaims():
                changes["snp"] = _lowered(claims.snp)
            case AzureTdxClaims():
                changes["tdx"] = _lowered(claims.tdx)
            case _:
                changes["revocation"] = Revocation.GRACE
    if not changes:
        return claims
    return replace(cast("Any", claims), **changes, mint=MINT)
