"""Claims: what a verifier found to be true of an attester.

Raw evidence turns into claims in ``regalia.verifier`` only. Whether the claims are acceptable is
for ``regalia.policy``, which never sees the evidence.

Claims of unknown age are ``Unbound``: a type of its own, so that no policy evaluation takes them by
accident. ``Unbound.fresh`` is the one place in which a nonce is compared, for every TEE and every
device.
"""

from __future__ import annotations

import hmac
from dataclasses import InitVar, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from regalia.appraisal.check import Check, Source
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraisal.check_log import CheckLog
    from regalia.core.types import Digest
    from regalia.wire.evidence import DeviceKind, Tee

C = TypeVar("C")

# The token catches honest mistakes (a test or service that builds Claims by hand). It is no
# wall against hostile code in the same process, which could read it here.
MINT = object()


def require_mint(mint: object) -> None:
    """Raise TypeError unless a verifier made the claims."""
    if mint is not MINT:
        raise TypeError("claims come from regalia.verifier")


class Hardware(StrEnum):
    """Whose signature stands at the root of the evidence."""

    GENUINE = "genuine"
    SIMULATED = "simulated"


class Revocation(StrEnum):
    """What is known of the certificates' revocation."""

    CHECKED = "checked"  # a CRL, signed by the root and in date, does not list them
    GRACE = "grace"  # such a CRL, out of date by no more than the policy's grace
    UNKNOWN = "unknown"  # the relying party wrote that it may be left unknown


class DeviceClaims(Protocol):
    """What is known of a verified device, whatever its kind."""

    @property
    def kind(self) -> DeviceKind:
        """What it is."""

    @property
    def hardware(self) -> Hardware:
        """Whose root vouches for it."""

    @property
    def revocation(self) -> Revocation:
        """Of its certificates."""

    @property
    def identity(self) -> bytes:
        """What tells this device from all others. Never empty."""

    @property
    def nonce(self) -> bytes:
        """The verifier's nonce in the report, 32 bytes."""


class Claims(Protocol):
    """What is known of every verified attester, whatever its TEE.

    Each TEE has a class of its own with the fields of its specification; these are the ones
    that releases, leases, the log and the common rules of policies speak of.
    """

    @property
    def tee(self) -> Tee:
        """Which kind of TEE."""

    @property
    def hardware(self) -> Hardware:
        """Whose root vouches for it."""

    @property
    def product(self) -> str:
        """The vendor's name for the product line."""

    @property
    def revocation(self) -> Revocation:
        """Of the certificates that vouch for it."""

    @property
    def evidence_digest(self) -> Digest:
        """Names the evidence that the claims came from."""

    @property
    def report_data(self) -> bytes:
        """What the evidence is bound to, as its field for that holds it."""

    @property
    def measurement(self) -> bytes:
        """The principal launch measurement."""

    @property
    def instance(self) -> bytes:
        """What tells this machine from all others; empty or zero if evidence shows nothing."""

    @property
    def guest(self) -> bytes:
        """What tells this guest or boot from others on the machine; empty if nothing does."""

    @property
    def config_binding(self) -> bytes:
        """What the hardware recorded of the runtime configuration."""

    @property
    def debug(self) -> bool:
        """Whether the host can read the workload's memory by design."""

    @property
    def migratable(self) -> bool:
        """Whether somebody outside the measurement may carry the workload away."""

    @property
    def tcb(self) -> dict[str, int | str]:
        """Security versions of the platform, by the vendor's names."""

    @property
    def devices(self) -> tuple[DeviceClaims, ...]:
        """Verified devices whose evidence this evidence commits to; empty: the CPU alone."""


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
        check_log.begin(check or field.check, self.bound_to or "nothing", expected)
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
