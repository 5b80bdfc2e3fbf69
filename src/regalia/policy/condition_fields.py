"""What a condition may speak of: the fields by name and type, and their values for one case.

Members of another TEE than the claims' are absent, so that a condition about them cannot be
decided and denies: a policy for several TEEs asks ``claims.tee`` first.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from regalia.appraisal.condition_types import Reading, record, record_of
from regalia.policy.registry import DEVICE_PLUGINS, POLICY_PLUGINS, plugin_of
from regalia.policy.rules import EGRESS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.condition_types import Fields, Kind, Values
    from regalia.appraisal.policy_plugin import DevicePolicyPlugin
    from regalia.policy.context import ClientContext, ReleaseContext

_FOREVER = 2**63 - 1  # seconds; such an age is refused by the freshness rule


def _of_all_tees() -> dict[str, Kind | Fields]:
    """Members of ``claims`` by name. TEEs may share one, if it is of one type in all of them."""
    members: dict[str, Kind | Fields] = {}
    for plugin in POLICY_PLUGINS:
        for name, reading in plugin.conditions.items():
            if members.setdefault(name, reading.kind) != reading.kind:
                raise TypeError(f"claims.{name} is of two types")
    return members


def _of_each(name: str, plugin: DevicePolicyPlugin[Any, Any]) -> Reading[Sequence[DeviceClaims]]:
    """A text of each of the plug-in's devices."""
    read = plugin.conditions[name].read
    return Reading(
        "list of text",
        lambda devices: [read(device) for device in devices if device.kind in plugin.kinds],
    )


_OF_ALL_DEVICES: dict[str, Reading[Sequence[DeviceClaims]]] = {
    "count": Reading("int", len),
    "kinds": Reading("list of text", lambda devices: [str(device.kind) for device in devices]),
    "identities": Reading(
        "list of text", lambda devices: [device.identity.hex() for device in devices]
    ),
}
# Parallel lists, in the order of the evidence.
_DEVICES = record_of(
    _OF_ALL_DEVICES
    | {name: _of_each(name, plugin) for plugin in DEVICE_PLUGINS for name in plugin.conditions}
)

CLIENT_FIELDS: Fields = record(
    claims=record(
        tee="text",
        hardware="text",
        product="text",
        revocation="text",
        devices=_DEVICES.kind,
        **_of_all_tees(),
    ),
    config=record(
        model_id="text",
        owner_key="text",
        log_key="text",
        placement=record(region="text", site="text", tier="text"),
        egress="list of text",
        opens="list of text",
        adapters="list of text",
    ),
    model=record(id="text", version="int"),
    challenge_age_s="int",  # rounded up
    now="time",
)

RELEASE_FIELDS: Fields = MappingProxyType(
    {
        **CLIENT_FIELDS,
        "release": record(active_holders="int", approvals="list of text", custody="text"),
    }
)


def client_values(claims: Claims, context: ClientContext) -> Values:
    """Values of ``CLIENT_FIELDS``. Bytes are lower-case hex.

    Args:
        claims: verified.
        context: facts around the appraisal.
    """
    age = context.challenge_age_s
    config = context.runtime_config
    return {
        "claims": claim_values(claims),
        "config": {
            "model_id": config.model_id,
            "owner_key": config.owner_key,
            "log_key": config.log_key,
            "placement": {
                "region": config.placement.region,
                "site": config.placement.site,
                "tier": config.placement.tier,
            },
            "egress": config.egress[:EGRESS_MAX],  # a longer list is refused anyway
            "opens": list(config.surfaces),
            "adapters": list(config.adapters),
        },
        "model": {"id": str(context.model_id), "version": context.model_version},
        "challenge_age_s": math.ceil(age) if math.isfinite(age) else _FOREVER,
        "now": context.now,
    }


def release_values(claims: Claims, context: ReleaseContext) -> Values:
    """Values of ``RELEASE_FIELDS``.

    Args:
        claims: verified.
        context: facts around the release.
    """
    release: Values = {
        "active_holders": context.active_holders,
        "approvals": sorted(context.approvals),
        "custody": context.custody,
    }
    return {**client_values(claims, context), "release": release}


def claim_values(claims: Claims) -> Values:
    """Values of the members of ``claims``."""
    return {
        "tee": str(claims.tee),
        "hardware": str(claims.hardware),
        "product": claims.product,
        "revocation": str(claims.revocation),
        "devices": _DEVICES.read(claims.devices),
        **{name: each.read(claims) for name, each in plugin_of(claims).conditions.items()},
    }
