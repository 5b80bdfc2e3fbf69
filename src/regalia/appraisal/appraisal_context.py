"""What is the same for every piece of evidence of one appraisal.

A machine sends evidence of its CPU and of its devices, and each kind has a verifier of its own.
All of them must go by one clock and one rule, and write one check log. As one value these can
neither be mixed up on the way down nor left out, and no vendor's collateral says a second time how
strict to be.

What is expected of evidence (report data, a nonce) is not in here. It is another for each piece,
and it stays a required argument of each verifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.check_log import NO_LOG

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.appraisal.pki import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalContext:
    """What is the same for all evidence of one appraisal.

    Attributes:
        now: the moment of the appraisal, aware.
        rule: what the relying party demands of collateral.
        cache: what earlier appraisals found that does not depend on time.
        check_log: records the checks.

    Raises:
        ValueError: ``now`` has no time zone (the caller's bug).
    """

    now: datetime
    rule: CollateralRule
    cache: Cache
    check_log: CheckLog = NO_LOG

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise ValueError("now has no time zone")
