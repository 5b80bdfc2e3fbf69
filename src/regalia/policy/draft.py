"""A draft for a kind of TEE: every field with a comment, and nothing accepted before it is listed.

JSON has no comments, so a draft has members whose names begin with ``//``. They are read over, and
signing leaves them out.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import msgspec

from regalia.policy.documents import (
    RELEASE_FORMAT,
    Approvals,
    Freshness,
    ModelRule,
    PlacementRule,
    RuntimeRule,
)
from regalia.policy.registry import plugin_for
from regalia.policy.signed import COMMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regalia.appraisal.policy_field import Field
    from regalia.wire.evidence import Tee

_HEAD = (
    "A draft: a list of accepted values that is empty accepts nothing, so fill them."
    " Members that begin with // are comments; signing leaves them out. `regalia policy explain`"
    " says what a draft demands, `regalia policy pin` takes the values from known-good evidence."
)
_STRICT = ("required", "deny", "genuine")
_NOBODY = "00" * 32
# Of fields that have no value which accepts nothing: what a person must replace.
_REPLACE = MappingProxyType(
    {
        "model.id": f"model:{_NOBODY}",
        "runtime.owner_key": f"key:{_NOBODY}",
        "runtime.log_key": "replace-this+00000000+AA==",
    }
)
_ABOUT = MappingProxyType(
    {
        "name": "for people",
        "version": "of this policy; a broker never goes back to an older one",
        "model": "REPLACE the id: `regalia inspect SEALED` shows it. The lowest accepted version",
        "platform": "which machines; a TEE without a section is not accepted",
        "freshness": "seconds that a challenge may be old when its evidence arrives",
        "placement": "list of words each, or any: what the operator may say of where it runs",
        "runtime": "REPLACE the owner's key (key:<64 hex>) and the log's key (its .vkey file)."
        " opens: surfaces of the engine, by the names in docs/reference/engine-surfaces.md."
        " adapters: model ids of adapters that may be merged into the model",
        "holders_max": "how many runtimes may hold the key at the same time",
        "lease_s": "seconds that a runtime keeps the key before it must attest again",
        "custody": "`broker`, `kms`, `hsm`: where the model key may be in clear during a release",
        "approvals": "how many of which approvers (key:<64 hex>) must approve a release",
        "signatures": "`classical`, `post-quantum`: how owner, approvers and log must sign",
        "conditions": "CEL over the claims, all of which must be true; docs/spec/policy.md",
    }
)
_DEVICES = (
    "exactly these devices. Empty: the CPU alone, and any device is refused. `regalia policy pin`"
    " of evidence with devices writes entries"
)


def new_platform(tees: Sequence[Tee]) -> bytes:
    """The platform section alone, as ``new_release``."""
    return _text({COMMENT: _HEAD, **_platform(tees)})


def new_release(tees: Sequence[Tee]) -> bytes:
    """A draft of a release policy that accepts these kinds of TEEs, once its lists are filled.

    Args:
        tees: at least one; each gets a section.
    """
    members: dict[str, Any] = {
        "format": RELEASE_FORMAT,
        "name": "new",
        "version": 1,
        "model": _strict(ModelRule, "model"),
        "platform": _platform(tees),
        "freshness": _strict(Freshness, "freshness") | {"challenge_max_age_s": 60},
        "placement": _strict(PlacementRule, "placement"),
        "runtime": _strict(RuntimeRule, "runtime"),
        "holders_max": 1,
        "lease_s": 900,
        "custody": [],
        "approvals": _strict(Approvals, "approvals"),
        "signatures": "classical",
        "conditions": [],
    }
    out: dict[str, Any] = {COMMENT: _HEAD}
    for name, value in members.items():
        if name in _ABOUT:
            out[f"{COMMENT} {name}"] = _ABOUT[name]
        out[name] = value
    return _text(out)


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _platform(tees: Sequence[Tee]) -> dict[str, Any]:
    out: dict[str, Any] = {"hardware": "genuine"}
    for tee in dict.fromkeys(tees):
        plugin = plugin_for(tee)
        about = {each.name: _about(each) for each in plugin.fields}
        out[plugin.name] = dict(_commented(_strict(plugin.section, plugin.name), about, ""))
    out[f"{COMMENT} devices"] = _DEVICES
    out["devices"] = []
    return out


def _about(field: Field[Any, Any]) -> str:
    """What the field takes, and what leaving it open means."""
    said = f"{field.type}: {field.content}"
    return f"{said}. Left open: {field.unrestricted} Risk: {field.risk}" if field.risk else said


def _commented(
    values: dict[str, Any], about: dict[str, str], within: str
) -> Iterator[tuple[str, Any]]:
    """The members, each after its comment."""
    for name, value in values.items():
        path = f"{within}{name}"
        if path in about:
            yield f"{COMMENT} {name}", about[path]
        if isinstance(value, dict):
            yield name, dict(_commented(value, about, f"{path}."))
        else:
            yield name, value


def _strict(kind: type[msgspec.Struct], path: str) -> dict[str, Any]:
    """The members of a document with values that accept nothing, or as little as they can."""
    return {
        field.name: _REPLACE.get(f"{path}.{field.name}", _value(field.type, f"{path}.{field.name}"))
        for field in msgspec.structs.fields(kind)
    }


def _value(kind: Any, path: str) -> Any:  # noqa: ANN401 - types as annotations have them
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _strict(kind, path)
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        metas = [meta.ge for meta in args[1:] if isinstance(meta, msgspec.Meta)]
        return next((least for least in metas if least is not None), 0)
    if origin is list:
        return []
    if origin is Literal:
        return next((word for word in _STRICT if word in args), args[0])
    # What is left are alternatives to the word any: a list, or a text for which nothing is strict.
    return [] if any(get_origin(each) is list for each in args) else "any"
