"""What the policy half of a TEE or of a device has forgotten, in words; nothing if it is whole."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.condition_types import Fields
    from regalia.appraisal.policy_field import Field
    from regalia.appraisal.policy_plugin import DevicePolicyPlugin, PolicyPlugin, Section


def plugin_holes(plugin: PolicyPlugin[Any, Any], platform: type[msgspec.Struct]) -> Iterator[str]:
    """Holes of a TEE's policy half.

    Args:
        plugin: of the TEE.
        platform: the struct that has an optional member for it.
    """
    members = {member.name: member for member in msgspec.structs.fields(platform)}
    member = members.get(plugin.name)
    if member is None or plugin.section not in typing.get_args(member.type) or member.required:
        yield f"platform has no optional member {plugin.name} of type {plugin.section.__name__}"
    yield from section_holes(plugin)
    names = {field.name for field in plugin.fields}
    for name in (plugin.machines, plugin.revocation):
        if name not in names:
            yield f"{name} is no field"
    yield from _unseen_claims(plugin, _condition_names(plugin.conditions))


def device_holes(plugin: DevicePolicyPlugin[Any, Any]) -> Iterator[str]:
    """Holes of a device's policy half."""
    yield from section_holes(plugin)
    if not plugin.kinds:
        yield "it is of no kind"
    # A list of one text of each device is named in the plural.
    yield from _unseen_claims(plugin, {name.removesuffix("s") for name in plugin.conditions})


def section_holes(section: Section[Any, Any]) -> Iterator[str]:
    """Holes of a section's fields: the struct, the words, the rules."""
    members = dict(_members(section.section))
    names = [field.name for field in section.fields]
    if names != list(members):
        yield f"the struct has {list(members)}, and there are fields {names}"
    for field in section.fields:
        yield from _field_holes(field, members.get(field.name))
    judged = {name for rule in section.compiled for name in rule.judges}
    identifying = {"kind", "count", "models"} if "count" in names else set()
    for name in names:
        if name not in judged | identifying:
            yield f"no rule judges {name}"
    compared = {name for rule in section.compiled for name in rule.compares}
    for field in section.fields:
        if field.compare is not None and field.name not in compared:
            yield f"the comparison of {field.name} never runs"
    for name in judged - set(names):
        yield f"a rule judges {name}, which is no field"


def _members(kind: type[msgspec.Struct], within: str = "") -> Iterator[tuple[str, object]]:
    """Names and types of all members; those of a nested struct each by itself."""
    for member in msgspec.structs.fields(kind):
        name = f"{within}{member.name}"
        if isinstance(member.type, type) and issubclass(member.type, msgspec.Struct):
            yield from _members(member.type, f"{name}.")
        else:
            yield name, member.type


def _field_holes(field: Field[Any, Any], type_: object) -> Iterator[str]:
    for attribute in ("type", "content"):
        if not getattr(field, attribute):
            yield f"{field.name} has no {attribute}"
    may_be_open = field.open_value is not None or "any" in _words(type_)
    said = (bool(field.unrestricted), bool(field.risk))
    if may_be_open and not all(said):
        yield f"{field.name} may be left open, and nothing says what that means and risks"
    if not may_be_open and any(said):
        yield f"{field.name} cannot be left open, and something says what that means"
    if type_ is not None and _list_of_structs(type_):
        open_members = {
            name for name, inner in _members(_list_of_structs(type_)[0]) if "any" in _words(inner)
        }
        if open_members != {entry.path for entry in field.entries}:
            yield f"entries of {field.name} may leave open {sorted(open_members)}"


def _words(type_: object) -> set[object]:
    """Words that a type allows."""
    if typing.get_origin(type_) is Literal:
        return set(typing.get_args(type_))
    if isinstance(type_, type) or typing.get_origin(type_) in (list, dict):
        return set()
    return {word for each in typing.get_args(type_) for word in _words(each)}


def _list_of_structs(type_: object) -> tuple[type[msgspec.Struct], ...]:
    if typing.get_origin(type_) is list:
        (entry,) = typing.get_args(type_)
        is_struct = isinstance(entry, type) and issubclass(entry, msgspec.Struct)
        return (entry,) if is_struct else ()
    if typing.get_origin(type_) is dict:
        return ()
    return tuple(found for each in typing.get_args(type_) for found in _list_of_structs(each))


def _unseen_claims(
    plugin: PolicyPlugin[Any, Any] | DevicePolicyPlugin[Any, Any], seen: set[str]
) -> Iterator[str]:
    for claim in dataclasses.fields(plugin.claims):
        if claim.name not in seen and not plugin.left_out.get(claim.name):
            yield f"conditions do not see the claim {claim.name}, and no reason is given"


def _condition_names(conditions: Mapping[str, Any]) -> set[str]:
    """Names of the members, at any depth."""
    return set(_names({name: each.kind for name, each in conditions.items()}))


def _names(fields: Fields) -> Iterator[str]:
    for name, inner in fields.items():
        yield name
        if isinstance(inner, Mapping):
            yield from _names(inner)
