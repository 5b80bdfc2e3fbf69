"""Evidence that is genuine and of unknown age: claims that nothing may be released for.

A type of its own, so that no policy evaluation takes it by accident. ``Unbound.fresh`` is the one
place in which a nonce is compared, for every TEE and every device.
"""

from __future__ import annotations

import hmac
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from regalia.appraisal.check import Check, Source
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import MINT, require_mint
from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraisal.check_log import CheckLog

C = TypeVar("C")

FRESHNESS = Check(
    "any/freshness",
    "The evidence is bound to the expected challenge",
    "Otherwise it could be a recording, or the evidence of somebody else's machine.",
    Source.HARDWARE_PROVEN,
)


@dataclass(frozen=True, slots=True)
class NonceField:
    """Where one kind of evidence carries the verifier's nonce.

    Attributes:
        check: the comparison, as check logs name it.
        sizes: numbers of bytes that a nonce can have there.
        well_known: nonces that anybody can have evidence over. An empty nonce and one of zeros
            are among them without being listed.
    """

    check: Check
    sizes: range
    well_known: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Unbound(Generic[C]):
    """Claims of evidence that may be a replay. Only evidence plug-ins make it.

    Attributes:
        bound_to: the nonce that the evidence carries, exactly; empty if it carries none.
        field: where it carries it.
    """

    _claims: C
    bound_to: bytes
    field: NonceField
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)

    def fresh(
        self, expected: bytes, check_log: CheckLog = NO_LOG, *, check: Check | None = None
    ) -> C:
        """The claims, if the evidence carries exactly ``expected``.

        Args:
            expected: the nonce that the evidence must carry, in full.
            check_log: records the comparison.
            check: what it is recorded as, if ``expected`` is not what this kind of evidence is
                bound to in an exchange of Regalia.

        Raises:
            AttestationError: NONCE_MISMATCH; NONCE_WELL_KNOWN, ``expected`` is nobody's choice.
        """
        field = self.field
        if check_log is not NO_LOG:
            check_log.begin(check or field.check, self._seen(), expected.hex())
        if not any(expected):
            raise AttestationError(
                AttestCode.NONCE_WELL_KNOWN, "the expected challenge is empty or all zero"
            )
        if expected in field.well_known:
            raise AttestationError(
                AttestCode.NONCE_WELL_KNOWN, f"the expected challenge {expected.hex()} is public"
            )
        if len(expected) not in field.sizes:
            raise AttestationError(
                AttestCode.NONCE_MISMATCH,
                f"the expected challenge has {len(expected)} bytes, and such evidence carries "
                f"{field.sizes.start} to {field.sizes.stop - 1}",
            )
        if not hmac.compare_digest(self.bound_to, expected):
            raise AttestationError(
                AttestCode.NONCE_MISMATCH,
                f"the evidence is bound to {self._seen()}, want {expected.hex()}",
            )
        return self._claims

    def dangerous_without_freshness(self) -> C:
        """The claims as they are, for looking at. Whoever recorded the evidence can show it."""
        return self._claims

    def map(self, change: Callable[[C], C]) -> Unbound[C]:
        """The same evidence, after ``change`` refused or weakened its claims.

        Raises:
            AttestationError: whatever ``change`` raises.
        """
        return Unbound(change(self._claims), self.bound_to, self.field, MINT)

    def _seen(self) -> str:
        return self.bound_to.hex() or "nothing"
