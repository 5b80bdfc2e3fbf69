"""What all policy documents are made of. Spec: docs/spec/policy.md."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Unrestricted = Literal["any"]
Listed = list[str] | Unrestricted  # accepted values; an empty list accepts none
Requirement = Literal["required", "any"]
Switch = Literal["allow", "deny"]

Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Version = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all policy structs."""
