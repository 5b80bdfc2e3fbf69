"""What every rule looks at: one policy, one set of claims, one context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.finding import Finding

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims
    from regalia.policy.context import ClientContext, ReleaseContext
    from regalia.policy.documents import ClientPolicy, Platform, ReleasePolicy


@dataclass(frozen=True, slots=True)
class Case:
    """The part that releases and clients share."""

    policy: ReleasePolicy | ClientPolicy
    claims: Claims
    context: ClientContext

    @property
    def platform(self) -> Platform:
        """The policy's demands on the platform."""
        return self.policy.platform


@dataclass(frozen=True, slots=True)
class ReleaseCase:
    """The part that only releases have."""

    policy: ReleasePolicy
    context: ReleaseContext


Rule = Callable[[Case], Iterator[Finding]]
ReleaseRule = Callable[[ReleaseCase], Iterator[Finding]]
