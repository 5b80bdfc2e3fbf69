"""Verdicts: ``Allow | Deny``. Only ``regalia.policy.evaluate`` makes them."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import PolicyDenied

if TYPE_CHECKING:
    from regalia.appraisal.claims import Hardware
    from regalia.appraisal.finding import Finding
    from regalia.core.types import Digest, ModelId, PolicyId

# The token catches honest mistakes, such as a service that answers Allow on its own. It is no
# wall against hostile code in the same process, which could read it here.
MINT = object()


@dataclass(frozen=True, slots=True)
class Subject:
    """What a verdict is about, so that it cannot be taken for a verdict about something else.

    Attributes:
        policy_id: SHA-256 of the policy's payload.
        evidence_digest: names the evidence that the claims came from.
        model_id: the model that was asked for.
        hardware: genuine or simulated.
    """

    policy_id: PolicyId
    evidence_digest: Digest
    model_id: ModelId
    hardware: Hardware


@dataclass(frozen=True, slots=True)
class Allow:
    """The claims meet every rule of the policy.

    Attributes:
        subject: which policy, evidence and model.
        wildcards: rules of the policy that were left open, by path.
    """

    subject: Subject
    wildcards: tuple[str, ...]
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not MINT:
            raise TypeError("verdicts come from regalia.policy.evaluate")

    @property
    def hardware(self) -> Hardware:
        """Genuine or simulated."""
        return self.subject.hardware


@dataclass(frozen=True, slots=True)
class Deny:
    """At least one rule is not met. ``reasons`` holds all of them, in the order of the rules."""

    subject: Subject
    wildcards: tuple[str, ...]
    reasons: tuple[Finding, ...]
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not MINT:
            raise TypeError("verdicts come from regalia.policy.evaluate")
        if not self.reasons:
            raise TypeError("a denial has at least one reason")

    @property
    def hardware(self) -> Hardware:
        """Genuine or simulated."""
        return self.subject.hardware

    def error(self) -> PolicyDenied:
        """The same as an error to raise; its code is the first reason's."""
        count = len(self.reasons)
        what = f"the evidence is not acceptable: {count} reason{'' if count == 1 else 's'}"
        reasons = [(finding.code, finding.what) for finding in self.reasons]
        return PolicyDenied(self.reasons[0].code, what, reasons)


Verdict = Allow | Deny
