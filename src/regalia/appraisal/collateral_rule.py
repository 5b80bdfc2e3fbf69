"""What a relying party demands of collateral. Policy words, as verifiers see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Self

NO_GRACE = timedelta(0)


class RevocationRule(Enum):
    """What the relying party demands to know of revocation."""

    REQUIRED = "required"  # a current CRL signed by the issuer must be there
    ANY = "any"  # it may be left unknown, and the claims then say so


@dataclass(frozen=True, slots=True)
class CollateralRule:
    """How fresh collateral must be.

    Attributes:
        revocation: whether certificates must be known not to be revoked.
        grace: how long after its next update collateral still counts; the claims then say so,
            and no appraisal of it is better than a warning.
    """

    revocation: RevocationRule
    grace: timedelta

    @classmethod
    def of_words(cls, revocation: str, grace_days: int) -> Self:
        """From a policy's words; anything but ``any`` is the strict rule.

        Args:
            revocation: the policy's word.
            grace_days: how late collateral may be.
        """
        rule = RevocationRule.ANY if revocation == "any" else RevocationRule.REQUIRED
        return cls(rule, timedelta(days=grace_days))

    def for_devices(self) -> Self:
        """The same grace, and revocation left to policy.

        Each entry of a policy's device set has its own word on revocation, and which entry a
        device falls under is not known to its verifier: claims say what is known, and policy
        judges it.
        """
        return type(self)(RevocationRule.ANY, self.grace)
