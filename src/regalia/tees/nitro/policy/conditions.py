"""What conditions may say of Nitro claims, under ``claims.nitro``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.condition_types import (
    READINGS,
    SAID_FOR_ALL,
    because,
    derived,
    record_of,
    registers,
)
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.names import PCR_INDICES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.condition_types import Reading

LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("read below, with its unit in its name", "timestamp"),
}


def _locked(pcrs: Mapping[int, bytes], index: int) -> bytes:
    """A register that is not locked is in no document, and empty here."""
    return pcrs.get(index, b"")


_MEMBERS: dict[str, Reading[Any]] = {
    **derived(
        NitroClaims,
        left_out=LEFT_OUT,
        readings={"Mapping[int, bytes]": registers(PCR_INDICES, _locked)},
    ),
    "timestamp_ms": READINGS["int"].of(lambda claims: claims.timestamp),
    "instance": READINGS["str"].of(lambda claims: claims.instance.decode("ascii", "replace")),
}
CONDITIONS: dict[str, Reading[NitroClaims]] = {"nitro": record_of(_MEMBERS)}
