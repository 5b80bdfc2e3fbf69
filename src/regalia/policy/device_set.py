"""The device set of a policy: exactly these devices, whoever makes them.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.finding import empty, finding, listing
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Explanation, PinChoices
from regalia.appraisal.policy_plugin import RuleInput
from regalia.appraisal.policy_words import bad
from regalia.policy.registry import DEVICES_PATH, device_plugin_for, device_plugin_of
from regalia.wire.evidence import DEVICES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from regalia.appraisal.claims import DeviceClaims
    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_field import BaselineWords
    from regalia.appraisal.policy_plugin import DeviceEntry


def device_findings(
    listed: Sequence[DeviceEntry], devices: Sequence[DeviceClaims]
) -> Iterator[Finding]:
    """(19) All findings about devices: the set as a whole, then every device that belongs to it.

    Args:
        listed: the policy's ``platform.devices``.
        devices: verified; the policy must list every one of them.
    """
    entries: dict[tuple[str, str], int] = {
        (entry.kind, model): index
        for index, entry in reversed(list(enumerate(listed)))
        for model in entry.models
    }
    placed: dict[int, list[DeviceClaims]] = {index: [] for index in range(len(listed))}
    for device in devices:
        index = entries.get(_listed_as(device))
        if index is None:
            yield finding(
                PolicyCode.DEVICE_SET_MISMATCH,
                f"{device.kind} {device.identity.hex()} is of no model that the policy lists",
            )
        else:
            placed[index].append(device)
    for index, entry in enumerate(listed):
        yield from _count(entry, _path(index), len(placed[index]))
    for index, ours in placed.items():
        for each in ours:
            given: RuleInput[Any, Any] = RuleInput(listed[index], each, _path(index))
            yield from device_plugin_of(each).rules(given)


def _path(index: int) -> str:
    return f"{DEVICES_PATH}[{index}]"


def _listed_as(device: DeviceClaims) -> tuple[str, str]:
    """Kind and model, by which an entry lists the device."""
    return str(device.kind), device_plugin_of(device).model(device)


def _count(entry: DeviceEntry, path: str, seen: int) -> Iterator[Finding]:
    """(19) Exactly so many: one device less could be one that nobody looked at."""
    if not entry.models:
        yield empty(f"{path}.models")
    elif seen != entry.count:
        yield finding(
            PolicyCode.DEVICE_SET_MISMATCH,
            f"{seen} devices of kind {entry.kind} and model {listing(entry.models)};"
            f" exactly {entry.count} wanted",
        )


def check_devices(entries: Sequence[DeviceEntry]) -> None:
    """Raise ParseError MALFORMED at the first rule that the device set breaks."""
    models: set[tuple[str, str]] = set()
    for index, entry in enumerate(entries):
        device_plugin_for(entry.kind).check(entry, _path(index))
        own = {(entry.kind, model) for model in entry.models}
        if models & own:
            raise bad(f"{_path(index)}.models", "a model stands in another entry already")
        models |= own
    if sum(entry.count for entry in entries) > DEVICES_MAX:
        raise bad(DEVICES_PATH, f"more than {DEVICES_MAX} devices")


def pin_devices(devices: Sequence[DeviceClaims], *, pin_machine: bool) -> list[Any]:
    """Entries that exactly these devices meet: one for each kind and model.

    Args:
        devices: known-good, from a verifier.
        pin_machine: accept these devices only, by their identities.

    Raises:
        ParseError: a device stands there twice; a set counts each once.
    """
    if len({device.identity for device in devices}) != len(devices):
        raise bad(DEVICES_PATH, "a device stands there twice")
    choices = PinChoices(machine=pin_machine, config=False)
    return [device_plugin_of(group[0]).pin_entry(group, choices) for group in _by_model(devices)]


def baseline_devices(devices: Sequence[DeviceClaims], words: BaselineWords) -> list[Any]:
    """Entries that accept these devices, as many as there are, in any state but debug.

    Args:
        devices: verified.
        words: the user's words for the baseline.
    """
    return [device_plugin_of(group[0]).baseline_entry(group, words) for group in _by_model(devices)]


def _by_model(devices: Sequence[DeviceClaims]) -> list[list[DeviceClaims]]:
    groups: dict[tuple[str, str], list[DeviceClaims]] = {}
    for device in devices:
        groups.setdefault(_listed_as(device), []).append(device)
    return list(groups.values())


def device_set_words(entries: Sequence[DeviceEntry]) -> str:
    """The sentence about the set as a whole."""
    if not entries:
        return "The device set is empty: CPU only, and any device is refused."
    total = sum(entry.count for entry in entries)
    return f"Exactly {total} devices must be there, as the entries say, and no other."


def device_explanations(entries: Sequence[DeviceEntry]) -> Iterator[Explanation]:
    """For every entry, in the order of its fields."""
    for index, entry in enumerate(entries):
        for each in device_plugin_for(entry.kind).explanations(_path(index)):
            yield _of_entry(index, each)


def _of_entry(index: int, explanation: Explanation) -> Explanation:
    entry = f"Device entry {index}"
    required: Callable[[Any], str] = explanation.required
    return Explanation(
        explanation.path,
        lambda value: f"{entry}{required(value)}",
        f"{entry}{explanation.unrestricted}" if explanation.unrestricted else "",
        explanation.risk,
    )
