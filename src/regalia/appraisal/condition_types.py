"""What conditions may speak of: types, and how claims become values of these types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from regalia.core.bits import bit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Kind = Literal["int", "text", "bool", "time", "list of int", "list of text"]
Fields = Mapping[str, "Kind | Fields"]
Values = dict[str, object]

T_contra = TypeVar("T_contra", contravariant=True)
T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T_contra]):
    """How conditions see something: its type, and its value."""

    kind: Kind | Fields
    read: Callable[[T_contra], object]

    def of(self: Reading[T], part: Callable[[D], T]) -> Reading[D]:
        """The same, of a part of something larger."""
        return Reading(self.kind, lambda whole: self.read(part(whole)))


def record(**members: Kind | Fields) -> Fields:
    """A record with these members."""
    return MappingProxyType(members)


def record_of(members: Mapping[str, Reading[T]]) -> Reading[T]:
    """A record whose members are all read from one thing."""
    return Reading(
        MappingProxyType({name: each.kind for name, each in members.items()}),
        lambda whole: {name: each.read(whole) for name, each in members.items()},
    )


def flags(bits_by_name: Mapping[str, int]) -> dict[str, Reading[int]]:
    """Single bits of a number, by name."""

    def flag(index: int) -> Reading[int]:
        return Reading("bool", lambda number: bit(number, index))

    return {name: flag(index) for name, index in bits_by_name.items()}


def registers(
    indices: Iterable[int], value: Callable[[Mapping[int, bytes], int], bytes]
) -> Reading[Mapping[int, bytes]]:
    """Registers by number, as lower-case hex.

    Args:
        indices: of the registers.
        value: of one of them, from all that the evidence shows.
    """

    def register(index: int) -> Reading[Mapping[int, bytes]]:
        return Reading("text", lambda pcrs: value(pcrs, index).hex())

    return record_of({f"pcr{index}": register(index) for index in indices})


SET_BITS: Reading[int] = Reading(  # numbers of the bits that are set
    "list of int", lambda vector: [i for i in range(vector.bit_length()) if bit(vector, i)]
)
# Texts of enumerations are theirs; what is absent is an empty text.
TEXT: Reading[Any] = Reading("text", lambda value: str(value or ""))

# By annotation of a claim. Bytes are lower-case hex.
READINGS: Mapping[str, Reading[Any]] = MappingProxyType(
    {
        "int": Reading("int", lambda value: value),
        "bool": Reading("bool", lambda value: value),
        "str": TEXT,
        "str | None": TEXT,
        "bytes": Reading("text", lambda value: value.hex()),
        "bytes | None": Reading("text", lambda value: (value or b"").hex()),
        "datetime": Reading("time", lambda value: value),
        "tuple[str, ...]": Reading("list of text", list),
        "tuple[bytes, ...]": Reading("list of text", lambda value: [each.hex() for each in value]),
        "tuple[bytes, ...] | None": Reading(
            "list of text", lambda value: [each.hex() for each in value or ()]
        ),
    }
)


def because(reason: str, *names: str) -> dict[str, str]:
    """Claims that conditions do not see, each with the reason."""
    return dict.fromkeys(names, reason)


# Of every TEE's claims.
SAID_FOR_ALL = because(
    "a member of claims for every TEE",
    *("tee", "hardware", "product", "revocation", "devices"),
) | because("differs with every evidence, and is checked already", "report_data", "evidence_digest")


def derived(
    claims: type,
    *,
    left_out: Mapping[str, str] = MappingProxyType({}),
    readings: Mapping[str, Reading[Any]] = MappingProxyType({}),
) -> dict[str, Reading[Any]]:
    """One member for every claim of a dataclass, under the claim's own name.

    Args:
        claims: the dataclass.
        left_out: claims that get none here, with the reason.
        readings: by annotation, beyond and before ``READINGS``.

    Raises:
        TypeError: a claim is neither left out nor of a type that can be read, or what is left
            out is no claim.
    """
    known = {**READINGS, **readings}
    names = {claim.name for claim in dataclasses.fields(claims)}
    strangers = set(left_out) - set(SAID_FOR_ALL) - names
    if strangers:
        raise TypeError(f"{claims.__name__} has no claims {sorted(strangers)}")
    members: dict[str, Reading[Any]] = {}
    for claim in dataclasses.fields(claims):
        if claim.name in left_out:
            continue
        reading = known.get(str(claim.type))
        if reading is None:
            raise TypeError(f"{claims.__name__}.{claim.name}: conditions know no {claim.type}")
        members[claim.name] = reading.of(attrgetter(claim.name))
    return members
