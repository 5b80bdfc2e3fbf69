"""Which device a check was about, where several sent evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import FRESHNESS
from regalia.verifier.registry import PLUGINS
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.check import Step

_CHECKS = frozenset(
    check for plugin in PLUGINS if isinstance(plugin.kind, DeviceKind) for check in plugin.checks
)
_FIRST = frozenset(plugin.checks[0] for plugin in PLUGINS if isinstance(plugin.kind, DeviceKind))


def device_of_steps(steps: Sequence[Step], count: int) -> tuple[int | None, ...]:
    """The index of the device in the evidence, for each step; None for those of the whole.

    Devices are appraised in the order of the evidence, each from its first check on.

    Args:
        steps: in the order in which they were made.
        count: how many devices sent evidence. Of one alone nobody needs to be told.
    """
    if count <= 1:
        return (None,) * len(steps)
    found: list[int | None] = []
    index = -1
    for at, step in enumerate(steps):
        index += step.check in _FIRST
        # The comparison with a challenge follows a device's own checks, if they stand alone.
        of_device = at > 0 and step.check is FRESHNESS and found[at - 1] is not None
        found.append(index if step.check in _CHECKS or of_device else None)
    return tuple(found)
