"""Refusals of requests: what the log says of them, and what the client is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.broker.records import clean_reasons
from regalia.core.errors import PolicyDenied
from regalia.wire.release import Refusal

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims
    from regalia.broker.records import ReleaseAttempt
    from regalia.core.errors import Code, RegaliaError
    from regalia.wire.release import LoggedRecord, LogProof


@dataclass(frozen=True, slots=True)
class Denial:
    """The reasons of a denial, and the facts that were verified before it.

    Attributes:
        attempt: facts of the request.
        claims: None if the evidence was not verified.
        wildcards: rules that the policy leaves unrestricted; empty if it was not evaluated.
        reasons: code and explanation of every reason.
    """

    attempt: ReleaseAttempt
    claims: Claims | None
    wildcards: tuple[str, ...]
    reasons: tuple[tuple[Code, str], ...]


class ReleaseDenied(PolicyDenied):
    """A denial that was logged; ``proof`` shows that it was."""

    def __init__(self, denial: Denial, logged: LoggedRecord) -> None:
        code, what = denial.reasons[0]
        super().__init__(code, what, denial.reasons)
        self.proof: LogProof = logged.proof


def refusal_of(error: RegaliaError) -> Refusal:
    """Build the answer to a request that is not granted."""
    reasons = error.reasons if isinstance(error, PolicyDenied) else ((error.code, error.what),)
    (first, *_) = clean_reasons([(error.code, error.what)])
    return Refusal(
        code=error.code.name,
        what=first.what,
        why=error.code.why,
        fix=error.code.fix,
        reasons=clean_reasons(reasons),
        log=error.proof if isinstance(error, ReleaseDenied) else None,
    )
