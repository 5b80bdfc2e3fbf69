"""What collateral one piece of evidence needs, and which of it is at hand. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.check_log import NO_LOG
from regalia.verifier.registry import plugin_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.collateral import GivenCollateral, Need
    from regalia.wire.evidence import DeviceEvidence, DeviceKind, Evidence, Tee


def needs_of(evidence: Evidence, collateral: GivenCollateral) -> tuple[Need, ...]:
    """What appraising ``evidence`` takes, its devices included.

    Args:
        evidence: raw, untrusted: it may ask for what does not exist.
        collateral: what is at hand.

    Raises:
        ParseError: the evidence is malformed.
        AttestationError: no root is pinned for such a machine, or its certificate names none.
    """
    found = list(_needs(evidence.tee, evidence, collateral))
    for device in evidence.devices:
        found += _needs(device.kind, device, collateral)
    return tuple(found)


def _needs(
    kind: Tee | DeviceKind, evidence: Evidence | DeviceEvidence, collateral: GivenCollateral
) -> Iterator[Need]:
    plugin = plugin_for(kind)
    return plugin.needs(plugin.parse(evidence, NO_LOG), collateral)
