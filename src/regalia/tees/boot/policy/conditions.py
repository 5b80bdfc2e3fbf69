"""What conditions may say of a measured boot, under ``boot`` in the claims of a TEE."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from regalia.appraisal.condition_types import Reading, because, derived
from regalia.tees.boot.claims import BootFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LEFT_OUT = {
    **because("firmware that measures them is rare", "deployed_mode", "audit_mode"),
    **because("always refused", "firmware_debugger", "firmware_error"),
    **because("db and dbx decide what starts", "pk", "kek", "option_roms"),
    **because(
        "parts of loader_texts and loader_digests, under labels that nothing proves",
        *("kernel_command_lines", "loader_commands", "load_options", "initrds", "uki_sections"),
    ),
    **because("grow while the workload runs", "runtime_events", "runtime_digests"),
}
# Secure Boot of which the log says nothing counts as off.
_BOOL_OR_UNKNOWN: Reading[bool | None] = Reading("bool", bool)
_MEMBERS = derived(BootFacts, left_out=_LEFT_OUT, readings={"bool | None": _BOOL_OR_UNKNOWN})
_EMPTY: Mapping[object, Callable[[], object]] = MappingProxyType(
    {"bool": bool, "int": int, "text": str, "list of text": list}
)


def _read(facts: BootFacts | None) -> dict[str, object]:
    """Without a log everything is false, 0 or empty."""
    if facts is None:
        return {"has_event_log": False} | {
            name: _EMPTY[each.kind]() for name, each in _MEMBERS.items()
        }
    return {"has_event_log": True} | {name: each.read(facts) for name, each in _MEMBERS.items()}


_KIND: dict[str, Any] = {"has_event_log": "bool"}
BOOT: Reading[BootFacts | None] = Reading(
    MappingProxyType(_KIND | {name: each.kind for name, each in _MEMBERS.items()}), _read
)
