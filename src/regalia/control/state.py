"""What the owners of a tenant have decided, as ``fold`` makes it of their statements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from regalia.control.lifecycle import Life
    from regalia.core.types import Digest
    from regalia.wire.statement import Action, Charter, Terms

EVERYTHING = ""  # in ``ControlState.stops``


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a model that the owners have registered."""

    manifest: Digest
    terms: Terms
    life: Life


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An act that was accepted and waits for its time."""

    at: datetime
    sequence: int
    action: Action


@dataclass(frozen=True, slots=True)
class Void:
    """An act that was accepted and never took effect, and why."""

    sequence: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlState:
    """What the owners of one tenant have decided.

    Attributes:
        tenant: its name.
        charter: who decides.
        founded: digest of statement 1.
        sequence: of the newest statement.
        head: digest of the newest statement.
        as_of: the latest moment that was looked at; it never goes back.
        models: registered versions by model id and version.
        policies: the published policy by model id.
        references: launch measurements by ``<tee>:<hex>``.
        rotated: names of key-encryption keys that were replaced, and by which.
        revoked: what was revoked, by subject and value.
        stops: what is stopped, by model id, the empty text for everything; and by which statement.
        scheduled: what waits for its time, in its order.
        void: what never took effect.
    """

    tenant: str
    charter: Charter
    founded: Digest
    sequence: int
    head: Digest
    as_of: datetime
    models: Mapping[tuple[str, int], Registered] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, Life] = field(default_factory=dict)
    rotated: Mapping[str, str] = field(default_factory=dict)
    revoked: frozenset[tuple[str, str]] = frozenset()
    stops: Mapping[str, int] = field(default_factory=dict)
    scheduled: tuple[Scheduled, ...] = ()
    void: tuple[Void, ...] = ()
