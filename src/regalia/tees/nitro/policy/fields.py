"""What conditions may say of Nitro claims, under ``claims.nitro``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import all_text, record
from regalia.tees.nitro.names import PCR_INDICES

if TYPE_CHECKING:
    from regalia.appraisal.condition_types import Fields, Values
    from regalia.tees.nitro.claims import NitroClaims

NITRO_FIELDS: Fields = record(
    module_id="text",
    instance="text",
    timestamp_ms="int",
    age_ms="int",
    pcrs=record(**all_text(f"pcr{index}" for index in PCR_INDICES)),  # empty unless locked
    user_data="text",
    public_key="text",
)


def nitro_values(claims: NitroClaims) -> Values:
    """Values of ``NITRO_FIELDS``. Bytes are lower-case hex."""
    return {
        "module_id": claims.module_id,
        "instance": claims.instance.decode("ascii", "replace"),
        "timestamp_ms": claims.timestamp,
        "age_ms": claims.age_ms,
        "pcrs": {f"pcr{index}": claims.pcrs.get(index, b"").hex() for index in PCR_INDICES},
        "user_data": (claims.user_data or b"").hex(),
        "public_key": (claims.public_key or b"").hex(),
    }
