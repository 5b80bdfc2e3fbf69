"""What evaluation needs to know besides policy and claims. All of it is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.core.types import ModelId
    from regalia.wire.runtime_config import RuntimeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientContext:
    """Facts around one appraisal by a client.

    Attributes:
        now: aware time of the appraisal.
        challenge_age_s: seconds between issuing the challenge and receiving its evidence.
        runtime_config: as it came with the evidence; evaluation compares its digest with
            HOST_DATA, so it needs no trust.
        model_id: the model that is asked for.
        model_version: the version that the runtime says it serves.
    """

    now: datetime
    challenge_age_s: float
    runtime_config: RuntimeConfig
    model_id: ModelId
    model_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseContext(ClientContext):
    """Facts around one release, by the broker.

    Attributes:
        active_holders: holders with an unexpired lease of this model, besides the one that asks.
        approvals: fingerprints of approvers whose signatures over this release the broker
            has verified.
        custody: where the key will be in clear: ``broker``, ``kms`` or ``hsm``.
    """

    active_holders: int
    approvals: frozenset[str]
    custody: str
