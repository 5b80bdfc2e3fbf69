"""Evidence that is genuine and of unknown age: claims that nothing may be released for.

A type of its own, so that no policy evaluation takes it by accident.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from regalia.appraisal.check import Check, Source
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from regalia.appraisal.check_log import CheckLog

C = TypeVar("C")

FRESHNESS = Check(
    "any/freshness",
    "The evidence is bound to the expected challenge",
    "Otherwise it could be a recording, or the evidence of somebody else's machine.",
    Source.HARDWARE_PROVEN,
)


@dataclass(frozen=True, slots=True)
class Unbound(Generic[C]):
    """Made by ``GenuineOnly``: a replay passes.

    Attributes:
        bound_to: what the evidence carries as report data or nonce, exactly.
    """

    _claims: C
    bound_to: bytes

    def fresh(self, expected: bytes, check_log: CheckLog = NO_LOG) -> C:
        """The claims, if the evidence carries exactly ``expected``.

        Raises:
            AttestationError: NONCE_MISMATCH; NONCE_WELL_KNOWN, ``expected`` is nobody's choice.
        """
        check_log.begin(FRESHNESS, self.bound_to.hex() or "nothing", expected.hex())
        if not any(expected):
            raise AttestationError(
                AttestCode.NONCE_WELL_KNOWN, "the expected challenge is empty or all zero"
            )
        if not hmac.compare_digest(self.bound_to, expected):
            raise AttestationError(
                AttestCode.NONCE_MISMATCH,
                f"the evidence is bound to {self.bound_to.hex() or 'nothing'}, "
                f"want {expected.hex()}",
            )
        return self._claims

    def dangerous_without_freshness(self) -> C:
        """The claims as they are, for looking at. Whoever recorded the evidence can show it."""
        return self._claims
