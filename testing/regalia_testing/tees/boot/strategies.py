"""Hypothesis strategies for event logs. Needs ``hypothesis``, which only tests install."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from regalia.tees.boot.evidence.log import REGISTER_MAX, Algorithm, Event, EventLog, SpecId
from regalia.tees.boot.evidence.uefi import UefiVariable

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

_WORDS = st.integers(0, 2**32 - 1)
_OCTETS = st.integers(0, 255)


@st.composite
def event_logs(draw: DrawFn) -> EventLog:
    """Any log that the format can carry, padded or not. Its digests are noise."""
    banks = draw(st.lists(st.sampled_from(Algorithm), min_size=1, max_size=4, unique=True))
    spec_id = SpecId(
        register=draw(st.integers(0, 1)),
        platform_class=draw(_WORDS),
        version_minor=draw(_OCTETS),
        version_major=draw(_OCTETS),
        errata=draw(_OCTETS),
        uintn_size=draw(_OCTETS),
        algorithms=tuple(banks),
        vendor_info=draw(st.binary(max_size=255)),
    )
    digests = st.tuples(*(_tagged_digest(bank) for bank in banks))
    event = st.builds(Event, st.integers(0, REGISTER_MAX), _WORDS, digests, st.binary(max_size=64))
    events = draw(st.lists(event, max_size=6))
    fill = draw(st.sampled_from([b"\x00", b"\xff"]))
    return EventLog(spec_id, tuple(events), fill * draw(st.integers(0, 40)))


def _tagged_digest(bank: Algorithm) -> SearchStrategy[tuple[Algorithm, bytes]]:
    return st.tuples(st.just(bank), st.binary(min_size=bank.size, max_size=bank.size))


def uefi_variables() -> SearchStrategy[UefiVariable]:
    """Any UEFI_VARIABLE_DATA whose name is text."""
    return st.builds(UefiVariable, st.uuids(), st.text(max_size=8), st.binary(max_size=32))
